"""The command lines of DeepSpeed's launcher and torchrun, on this machine or on several."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from dsstudy.errors import InputError
from dsstudy.launching.hostfile import hostfile_path
from dsstudy.launching.placement import Placement
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import Trial

FORWARDED = ("DS_", "DSSTUDY_", "GLOO_", "MALLOC_", "NCCL_", "OMP_", "PATH", "PYTHON", "TORCH_")
"""Prefixes of the environment variables that ranks on other machines need; ssh passes none."""

LAUNCHER_MODULES = {
    "deepspeed": ("deepspeed.launcher.runner", "deepspeed.launcher.launch"),
    "torchrun": ("torch.distributed.run",),
}
"""The modules that run as a launcher and as what it starts before the ranks."""

_BIN = Path(sys.executable).parent

_PDSH = ["pdsh", "-S", "-R", "ssh"]  # -S: exit with the highest exit code of all hosts


def launcher_command(trial: Trial, placement: Placement, ranks: list[str]) -> list[str]:
    """Return the command that starts a trial's ranks; rank 0 is on the first machine.

    Parameters
    ----------
    trial
        What to train.
    placement
        Where to train. For DeepSpeed on several machines, this writes the file that
        ``DS_ENV_FILE`` in its environment names.
    ranks
        What each rank runs: a module and its arguments.

    References
    ----------
    https://www.deepspeed.ai/getting-started/#launching-deepspeed-training,
    https://www.deepspeed.ai/getting-started/#multi-node-environment-variables,
    https://docs.pytorch.org/docs/stable/elastic/run.html
    """
    launcher = ENGINES[trial.engine].launcher
    options = {"deepspeed": _deepspeed_options, "torchrun": _torchrun_options}[str(launcher)]
    command = [f"{_BIN}/{launcher}", *options(trial, placement), "--module", *ranks]
    if placement.hosts and launcher == "torchrun":
        return _on_every_host(placement, command)
    return command


def _deepspeed_options(trial: Trial, placement: Placement) -> list[str]:
    environment, ranks = placement.environment, trial.processes
    if placement.hosts:  # DeepSpeed's launcher reaches them itself, through pdsh
        lines = [f"{variable}\n" for variable in _forwarded(placement)]
        Path(environment["DS_ENV_FILE"]).write_text("".join(lines))
        hosts = [f"--hostfile={hostfile_path(trial)}", "--force_multi", "--no_ssh_check"]
        return [*hosts, *_meeting_point(placement), "--no_local_rank"]
    slots = f"--num_accelerators={ranks}"
    # Given only a number, DeepSpeed takes the machine's first GPUs, despite CUDA_VISIBLE_DEVICES.
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if placement.device == "cuda" and all(number.isdecimal() for number in visible):
        slots = f"--include=localhost:{','.join(visible[:ranks])}"
    # By default DeepSpeed takes the machines of /job/hostfile, which Kubernetes' operators write.
    alone = f"--hostfile={os.devnull}"
    return [alone, slots, f"--master_port={_free_port()}", "--no_local_rank"]


def _torchrun_options(_trial: Trial, placement: Placement) -> list[str]:
    nodes = ["--standalone", "--local_addr=127.0.0.1", "--nnodes=1"]  # it finds a free port itself
    if placement.hosts:
        nodes = [f"--nnodes={len(placement.hosts)}", "--node_rank=%n", *_meeting_point(placement)]
    # Kubernetes' operators may set torchrun's options by PET_ variables.
    nodes += ["--max_restarts=0"]
    # Without a log_dir, torchrun leaves a folder in /tmp.
    return [*nodes, f"--nproc_per_node={placement.ranks_per_host}", f"--log_dir={os.devnull}"]


def _on_every_host(placement: Placement, command: list[str]) -> list[str]:
    lines = ["cd", str(Path.cwd())], ["exec", "env", *_forwarded(placement), *command]
    return [*_PDSH, "-w", ",".join(placement.hosts), "; ".join(map(shlex.join, lines))]


def _forwarded(placement: Placement) -> list[str]:
    variables = placement.environment.items()
    return [f"{name}={value}" for name, value in variables if name.startswith(FORWARDED)]


def _meeting_point(placement: Placement) -> list[str]:
    return [f"--master_addr={next(iter(placement.hosts))}", f"--master_port={_free_port()}"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_reachable(trial: Trial, placement: Placement) -> None:
    """Refuse machines that ssh cannot reach, or that lack this Python or the trial's folder.

    Raises
    ------
    InputError
        The sentence names the machines.
    """
    ready = f"test -x {shlex.quote(sys.executable)} && test -d {shlex.quote(str(trial.folder))}"
    done = subprocess.run(
        [*_PDSH, "-w", ",".join(placement.hosts), f"{ready} && echo ready"],
        env=os.environ | {"PDSH_SSH_ARGS_APPEND": "-o BatchMode=yes -o ConnectTimeout=10"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    answered = {line.partition(":")[0] for line in done.stdout.splitlines() if "ready" in line}
    if missing := [host for host in placement.hosts if host not in answered]:
        errors = [line for line in done.stderr.splitlines() if line.startswith(tuple(missing))]
        raise InputError(
            f"hostfile={trial.hostfile}: {', '.join(missing)} cannot be reached by ssh without a "
            f"password, or lacks {sys.executable} or {trial.folder}: make sure that 'ssh "
            f"{missing[0]}' works and that both are on storage that the machines share"
            + (f" ({errors[0]})" if errors else "")
        )
