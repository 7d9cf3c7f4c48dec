"""What this machine is, and what it can run."""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError
from dsstudy.launching.hostfile import check_hosts, ranks_per_host
from dsstudy.paths import project_root
from dsstudy.spec.trial import Trial

RECORDED_LIBRARIES = ("torch", "torchvision", "timm", "deepspeed", "numpy", "pandas", "papermill")
"""Libraries whose versions every record states."""


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
    cpu_bf16: bool  # in hardware: without, bf16 works but is emulated, some hundred times slower
    gpus: tuple[Gpu, ...] = field(default_factory=tuple)
    compiler: bool = True
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> "Machine":
        """Look at the machine that this runs on. Imports torch."""
        import psutil
        import torch

        cuda = torch.cuda
        gpus = [cuda.get_device_properties(i) for i in range(cuda.device_count())]
        bf16 = bool(gpus) and cuda.is_bf16_supported(including_emulation=False)
        return cls(
            processor=_cpuinfo("model name") or platform.processor() or platform.machine(),
            cores=_cores(),
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            cpu_fp16=bool(torch.ops.mkldnn._is_mkldnn_fp16_supported()),
            cpu_bf16="bf16" in _cpuinfo("flags"),
            gpus=tuple(Gpu(g.name, round(g.total_memory / 2**30, 1), bf16) for g in gpus),
            compiler=shutil.which("g++") is not None,
            versions=_versions(),
        )

    def device(self, trial: Trial) -> str:
        """Return ``cpu`` or ``cuda``: what the trial's `device` means here."""
        if trial.device == "auto":
            return "cuda" if self.gpus else "cpu"
        return trial.device


def problems(trial: Trial, machine: Machine) -> list[str]:
    """Say what keeps a machine from running a trial.

    Returns
    -------
    list of str
        One sentence each, naming the parameter, its value, what is allowed here, and what to do;
        empty where the trial can run.
    """
    try:
        check_hosts(trial)
    except InputError as error:
        return [str(error)]
    found = [
        *_engine_problems(trial, machine),
        *(_device_problems(trial, machine) or _precision_problems(trial, machine)),
    ]
    from dsstudy.images.data import check_data
    from dsstudy.training.models import check_model

    for check in (check_data, check_model):
        try:
            check(trial)
        except InputError as error:
            found.append(str(error))
    return found


def rank_environment(trial: Trial, machine: Machine) -> dict[str, str]:
    """Return the environment variables under which a launcher starts a trial's ranks."""
    device = machine.device(trial)
    return os.environ | {
        # torch looks for ninja on PATH to compile DeepSpeed's ops, activated or not.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "TORCH_EXTENSIONS_DIR": str(ops_folder()),
        "DS_ACCELERATOR": device,
        # Without a share of the cores each, ranks on one CPU fight over all of them.
        "OMP_NUM_THREADS": str(max(1, _usable_threads(machine) // ranks_per_host(trial))),
        "PYTHONUNBUFFERED": "1",
    }


def _usable_threads(machine: Machine) -> int:
    """Return how many threads a trial may have here: as many as cores, if nobody said fewer."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(machine.cores, int(said)) if said.isdecimal() else machine.cores


def memory_kills() -> int:
    """Return how many processes the system has ended for want of memory since it started.

    Source: Linux, ``/proc/vmstat``, which counts those of a container's limit too; 0 elsewhere.
    """
    vmstat = Path("/proc/vmstat")
    for line in vmstat.read_text().splitlines() if vmstat.exists() else []:
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def ops_folder() -> Path:
    """Return where DeepSpeed's compiled C++ ops lie: beside the libraries they belong to."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(sys.prefix) / "torch_extensions")


def compile_ops() -> None:
    """Compile the C++ ops that DeepSpeed's training uses here, unless that was done before.

    Raises
    ------
    InputError
        There is no compiler, or it fails.
    """
    machine = Machine.here()
    if not machine.compiler:
        raise InputError("g++ is not on this machine: install it (Debian: apt install g++)")
    device = "cuda" if machine.gpus else "cpu"
    builders = ["FusedAdamBuilder", *(["ShareMemCommBuilder"] if device == "cpu" else [])]
    code = (
        "import sys; sys.modules['cpuinfo'] = None  # as in dsstudy.training.rank: the same compiler flags\n"
        "from deepspeed.accelerator import get_accelerator as accelerator\n"
        f"for name in {builders}: accelerator().create_op_builder(name).load(verbose=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=rank_environment(Trial(device=device), machine),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise InputError(f"DeepSpeed's C++ ops do not compile here:\n{done.stdout}{done.stderr}")


def describe_environment(machine: Machine) -> dict[str, Any]:
    """Return what every record states of where it was made: hardware, versions, commit.

    And how the C library's allocator was set, on which a process's resident memory depends.
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


def _engine_problems(trial: Trial, machine: Machine) -> list[str]:
    if trial.engine == "deepspeed" and not machine.compiler:
        return [
            "engine=deepspeed needs a C++ compiler, and there is no g++ here: install it "
            "(Debian: apt install g++), or set engine to normal or ddp"
        ]
    return []


def _device_problems(trial: Trial, machine: Machine) -> list[str]:
    device = machine.device(trial)
    if device == "cuda" and not machine.gpus:
        return ["device=cuda is not possible without a GPU: set device to cpu or auto"]
    places = len(machine.gpus) if device == "cuda" else machine.cores
    ranks = ranks_per_host(trial)
    if ranks > places:
        name = "GPUs" if device == "cuda" else "CPU cores"
        here = "" if ranks == trial.processes else f", {ranks} of them here,"
        return [
            f"processes={trial.processes}{here} is more than this machine's {places} {name}: set "
            f"processes to at most {places * (trial.processes // ranks)}"
        ]
    return []


def _precision_problems(trial: Trial, machine: Machine) -> list[str]:
    device = machine.device(trial)
    possible = {
        "fp32": True,
        "fp16": bool(machine.gpus) if device == "cuda" else machine.cpu_fp16,
        "bf16": all(gpu.bf16 for gpu in machine.gpus) if device == "cuda" else True,
    }
    if possible[trial.precision]:
        return []
    allowed = " or ".join(name for name, works in possible.items() if works)
    kind = "GPU" if device == "cuda" else "CPU"
    return [
        f"precision={trial.precision} is not possible on this {kind}: set precision to {allowed}"
    ]


def _cpuinfo(key: str) -> str:
    """Return what Linux says of the first core under a key, or nothing elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # those that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    installed = {}
    for library in RECORDED_LIBRARIES:
        try:
            installed[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            installed[library] = "absent"
    return installed


def _commit() -> str:
    """Return the git commit of the project, with ``+changes`` where files differ from it."""
    git = ["git", "-C", str(project_root())]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    if commit.returncode:
        return "unknown"
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")
