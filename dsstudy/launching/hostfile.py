"""One trial over several machines: the hostfile, and what starts its ranks on each of them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dsstudy.errors import InputError, naming_file, quoted
from dsstudy.spec.trial import Trial

HANDED_ON = ("DS_", "DSSTUDY_", "GLOO_", "MALLOC_", "NCCL_", "OMP_", "PATH", "PYTHON", "TORCH_")
"""How environment variables begin that ranks on other machines need; ssh hands none on."""

_PDSH = ["pdsh", "-S", "-R", "ssh"]  # -S: its exit code is the highest of the hosts'


def read_hosts(trial: Trial) -> dict[str, int]:
    """Return the machines of a trial's hostfile, each with its slots; none without a hostfile.

    Raises
    ------
    InputError
        The file cannot be read, or is no hostfile.

    References
    ----------
    https://www.deepspeed.ai/getting-started/#resource-configuration-multi-node
    """
    if trial.hostfile == "none":
        return {}
    file, found = hostfile_path(trial), {}
    with naming_file(file):
        lines = file.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        match = re.fullmatch(r"([\w][\w.\-]*)\s+slots=([1-9]\d{0,3})", text)
        if match:
            found[match[1]] = int(match[2])
        elif text:
            raise InputError(
                f"{file}:{number}: {quoted(text)} names no machine: write its name and how many "
                "ranks it takes, for example 'worker-1 slots=2'"
            )
    return found


def hostfile_path(trial: Trial) -> Path:
    """Return where a trial's hostfile lies."""
    return Path(trial.hostfile).expanduser().absolute()


def ranks_per_host(trial: Trial) -> int:
    """Return how many of a trial's ranks one machine runs."""
    return trial.processes // max(1, len(read_hosts(trial)))


def check_hosts(trial: Trial) -> None:
    """Refuse a hostfile that does not fit the trial, or that nothing here could use.

    Raises
    ------
    InputError
        In one sentence.
    """
    slots = read_hosts(trial)
    if trial.hostfile == "none":
        return
    if set(slots.values()) != {ranks_per_host(trial)} or trial.processes % len(slots):
        offered = ", ".join(f"{host} {number}" for host, number in slots.items()) or "none"
        raise InputError(
            f"processes={trial.processes} are not the slots that hostfile={trial.hostfile} offers "
            f"({offered}): give every machine the same number, and set processes to their sum"
        )
    if shutil.which("pdsh") is None:
        raise InputError(
            f"hostfile={trial.hostfile} needs pdsh to start ranks on other machines: install it "
            "(Debian: apt install pdsh), or set hostfile to none"
        )


def check_reachable(trial: Trial) -> None:
    """Refuse to start ranks on machines that ssh cannot reach, or that lack what they need.

    Raises
    ------
    InputError
        It names them.
    """
    machines = read_hosts(trial)
    ready = f"test -x {shlex.quote(sys.executable)} && test -d {shlex.quote(str(trial.folder))}"
    done = subprocess.run(
        [*_PDSH, "-w", ",".join(machines), f"{ready} && echo ready"],
        env=os.environ | {"PDSH_SSH_ARGS_APPEND": "-o BatchMode=yes -o ConnectTimeout=10"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    answered = {line.partition(":")[0] for line in done.stdout.splitlines() if "ready" in line}
    if missing := [host for host in machines if host not in answered]:
        said = [line for line in done.stderr.splitlines() if line.startswith(tuple(missing))]
        raise InputError(
            f"hostfile={trial.hostfile}: {', '.join(missing)} cannot be reached by ssh without a "
            f"password, or lacks {sys.executable} or {trial.folder}: see to it that 'ssh "
            f"{missing[0]}' works and that both are on storage that the machines share"
            + (f" ({said[0]})" if said else "")
        )


def hosts_command(
    trial: Trial, port: int, environment: Mapping[str, str], ranks: list[str]
) -> list[str]:
    """Return the command that starts a trial's ranks on all machines of its hostfile.

    DeepSpeed's launcher goes to them by itself, through pdsh; torchrun wants to be started on
    each, which pdsh does here. Rank 0 is on the first machine.

    Parameters
    ----------
    trial
        What is trained.
    port
        Free on the first machine, where the ranks meet.
    environment
        The environment of the launcher; its ``DS_ENV_FILE`` names a file that this writes.
    ranks
        What each rank runs: a module and its arguments.

    References
    ----------
    https://www.deepspeed.ai/getting-started/#multi-node-environment-variables,
    https://docs.pytorch.org/docs/stable/elastic/run.html
    """
    machines = read_hosts(trial)
    meeting = {"master_addr": next(iter(machines)), "master_port": port}
    options = [f"--{name}={value}" for name, value in meeting.items()]
    bin_folder = Path(sys.executable).parent
    handed_on = {n: value for n, value in environment.items() if n.startswith(HANDED_ON)}
    if trial.engine == "deepspeed":
        lines = [f"{name}={value}\n" for name, value in handed_on.items()]
        Path(environment["DS_ENV_FILE"]).write_text("".join(lines))
        return [
            f"{bin_folder}/deepspeed", f"--hostfile={hostfile_path(trial)}", "--force_multi",
            "--no_ssh_check", "--no_local_rank", *options, "--module", *ranks,
        ]  # fmt: skip
    handed = [f"{name}={value}" for name, value in handed_on.items()]
    torchrun = [
        f"{bin_folder}/torchrun", f"--nnodes={len(machines)}", "--node_rank=%n",
        f"--nproc_per_node={ranks_per_host(trial)}", f"--log_dir={os.devnull}", *options, "--module",
    ]  # fmt: skip
    go = ["cd", str(Path.cwd())], ["exec", "env", *handed, *torchrun, *ranks]
    return [*_PDSH, "-w", ",".join(machines), "; ".join(map(shlex.join, go))]
