"""Hardware and tools of this machine, and the environment that every record states."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError
from dsstudy.paths import project_root
from dsstudy.spec.trial import Trial

RECORDED_LIBRARIES = ("torch", "torchvision", "timm", "deepspeed", "numpy", "pandas", "papermill")
"""The libraries whose versions every record states."""

RESULT_FOLDERS = ("book/results", "benchmarks/results", "runs")
"""The folders of results, which change no measurement."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, its memory in GiB, and whether it computes in bf16."""

    name: str
    memory_gib: float
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """The hardware and tools that decide which trials can run."""

    processor: str
    cores: int
    memory_gib: float
    cpu_fp16: bool
    cpu_bf16: bool  # in hardware; otherwise bf16 is emulated, some hundred times slower
    gpus: tuple[Gpu, ...] = field(default_factory=tuple)
    compiler: bool = True
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> "Machine":
        """Describe the machine that this process runs on. Imports torch."""
        import psutil
        import torch

        cuda = torch.cuda
        gpus = [cuda.get_device_properties(i) for i in range(cuda.device_count())]
        bf16 = bool(gpus) and cuda.is_bf16_supported(including_emulation=False)
        return cls(
            processor=_proc_field("cpuinfo", "model name")
            or platform.processor()
            or platform.machine(),
            cores=_cores(),
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            cpu_fp16=bool(torch.ops.mkldnn._is_mkldnn_fp16_supported()),
            cpu_bf16="bf16" in _proc_field("cpuinfo", "flags"),
            gpus=tuple(Gpu(g.name, round(g.total_memory / 2**30, 1), bf16) for g in gpus),
            compiler=shutil.which("g++") is not None,
            versions={library: _version(library) for library in RECORDED_LIBRARIES},
        )

    def device(self, trial: Trial) -> str:
        """Return the device that a trial uses here: ``cpu`` or ``cuda``."""
        if trial.device == "auto":
            return "cuda" if self.gpus else "cpu"
        return trial.device


def rank_environment(device: str, threads: int) -> dict[str, str]:
    """Return the environment variables for ranks on ``cpu`` or ``cuda``, with `threads` each."""
    return os.environ | {
        # torch looks for ninja on PATH to compile DeepSpeed's ops; .venv need not be activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "TORCH_EXTENSIONS_DIR": str(ops_folder()),
        "DS_ACCELERATOR": device,
        "DSSTUDY_DEVICE": device,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }


def memory_kills() -> int:
    """Return how many processes the system has killed since boot because memory ran out.

    Source: Linux's ``/proc/vmstat``, which also counts kills at a container's limit; else 0.
    """
    return int(_proc_field("vmstat", "oom_kill") or 0)


def ops_folder() -> Path:
    """Return the folder of DeepSpeed's compiled C++ ops, beside the libraries they belong to."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(sys.prefix) / "torch_extensions")


def compile_ops() -> None:
    """Compile the C++ ops that DeepSpeed's training uses here, unless they are compiled already.

    Raises
    ------
    InputError
        There is no compiler, or compilation fails.
    """
    machine = Machine.here()
    if not machine.compiler:
        raise InputError("g++ is not on this machine: install it (Debian: apt install g++)")
    device = "cuda" if machine.gpus else "cpu"
    builders = ["FusedAdamBuilder", *(["ShareMemCommBuilder"] if device == "cpu" else [])]
    code = (
        "import sys; sys.modules['cpuinfo'] = None\n"  # as in training.rank: same compiler flags
        "from deepspeed.accelerator import get_accelerator as accelerator\n"
        f"for name in {builders}: accelerator().create_op_builder(name).load(verbose=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=rank_environment(device, machine.cores),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise InputError(
            f"{done.stdout}{done.stderr}\nDeepSpeed's C++ ops do not compile here: the compiler's "
            "own words are above"
        )


def describe_environment(machine: Machine) -> dict[str, Any]:
    """Return what every record states about where it was made: hardware, versions, commit.

    Also the C library's allocator settings, which affect a process's resident memory.
    """
    return {
        "hardware": {
            "processor": machine.processor,
            "cores": machine.cores,
            "memory_gib": machine.memory_gib,
            "gpus": [asdict(gpu) for gpu in machine.gpus],
        },
        "software": {"python": platform.python_version(), **machine.versions},
        "platform": platform.platform(),
        "commit": _commit(),
        "allocator": {k: v for k, v in sorted(os.environ.items()) if k.startswith("MALLOC_")},
    }


def _proc_field(file: str, name: str) -> str:
    """Return the first field of that name in a file of Linux's ``/proc``; empty elsewhere."""
    path = Path("/proc", file)
    text = path.read_text() if path.exists() else ""
    found = re.search(rf"^{name}[ \t:]+(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # counts only the cores that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """Return the git commit of the project, with ``+changes`` if files differ from it.

    Results count as no change: those of one measurement are written before the next one starts.
    """
    git = ["git", "-C", str(project_root())]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changes = [
            *git,
            "status",
            "--porcelain",
            "--",
            ".",
            *(f":!{name}" for name in RESULT_FOLDERS),
        ]
        status = subprocess.run(changes, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    if commit.returncode:
        return "unknown"
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")
