"""A Slurm cluster of several nodes on this machine, any of which can be lost. Only root can run it.

Each node is a slurmd in namespaces of its own (processes, a name, shared memory), so that all that
runs on it ends at once, as when a machine loses power; disk and network are this machine's.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "unshare")
VARIABLE = "SLURM_CONF"
"""The environment variable that marks all processes of a cluster, Slurm's jobs included."""

# Slurm's defaults, except for two times. By default Slurm considers a node lost after 300 s of
# silence (SlurmdTimeout), and delays a job that it has requeued by 120 s (cred_expire).
SILENCE, HELD_BACK = 10, 5
CONFIGURATION = f"""\
ClusterName=dsstudy
SlurmctldHost=localhost
SlurmctldPort={{port}}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={{folder}}/munge.socket,cred_expire={HELD_BACK}
StateSaveLocation={{folder}}/state
SlurmctldPidFile={{folder}}/slurmctld.pid
SlurmdPidFile={{folder}}/slurmd-%n.pid
SlurmdSpoolDir={{folder}}/spool-%n
SlurmdTimeout={SILENCE}
# Of the kinds that need no control groups, the one that finds a notebook's kernel.
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# Nodes may say that they have more cores than this machine.
SlurmdParameters=config_overrides
MpiDefault=none
JobCompType=jobcomp/filetxt
JobCompLoc={{folder}}/jobs.log
PartitionName=all Nodes=ALL Default=YES
{{nodes}}
"""


class SlurmNodes:
    """A cluster: `slurm_nodes` makes one.

    Parameters
    ----------
    folder
        For all that Slurm writes; its name must be short, as sockets' names are.
    cpus
        How many cores each node says it has, by its name.
    """

    def __init__(self, folder: Path, cpus: dict[str, int]):
        self.folder, self.environment = folder, os.environ | {VARIABLE: f"{folder}/slurm.conf"}
        self._daemons: dict[str, subprocess.Popen] = {}
        port, *ports = _free_ports(1 + len(cpus))
        nodes = [
            f"NodeName={name} NodeAddr=127.0.0.1 Port={own} CPUs={number}"
            for (name, number), own in zip(cpus.items(), ports, strict=True)
        ]
        text = CONFIGURATION.format(folder=folder, port=port, nodes="\n".join(nodes))
        (folder / "slurm.conf").write_text(text)
        (folder / "state").mkdir()

    def start(self) -> None:
        """Start munged, the controller and the nodes, and wait until all nodes are ready."""
        key, names = self.folder / "munge.key", self._names()
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log",
                 "seed-file": "seed"}  # fmt: skip
        options = [f"--{option}={self.folder}/munge.{end}" for option, end in files.items()]
        self._daemon("munged", "munged", "--foreground", "--force", *options)
        wait_until((self.folder / "munge.socket").exists)
        self._daemon("slurmctld", "slurmctld", "-D")
        for name in names:
            # The shell is the first of the node's processes: it buries those of lost parents.
            script = f"hostname {name} && mount -t tmpfs none /dev/shm && slurmd -D & wait"
            spaces = ("--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc")
            self._daemon(name, "unshare", *spaces, "sh", "-c", script)
        wait_until(
            lambda: self.run("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(names)
        )

    def _names(self) -> list[str]:
        lines = (self.folder / "slurm.conf").read_text().splitlines()
        return [line.split()[0].partition("=")[2] for line in lines if line.startswith("NodeName")]

    def _daemon(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("w") as log:
            self._daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def run(self, *command: str, **environment: str) -> str:
        """Run a command as a user of the cluster; return what it prints."""
        done = subprocess.run(
            command, env=self.environment | environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def lose(self, name: str) -> None:
        """Lose a node: all its processes are killed at once, without a message to the others."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def stop(self) -> None:
        """End all that runs in the cluster, the nodes first."""
        for name in reversed(list(self._daemons)):
            self.lose(name)
        wait_until(lambda: not left(self.folder))


def left(folder: Path) -> list[psutil.Process]:
    """Return the processes of the cluster of a folder."""
    found = psutil.process_iter(["environ"])
    return [p for p in found if (p.info["environ"] or {}).get(VARIABLE) == f"{folder}/slurm.conf"]


def wait_until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true; return it.

    Raises
    ------
    TimeoutError
        It takes longer than it may.
    """
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {seconds} s")
        time.sleep(0.05)
    return found


def why_not() -> str:
    """Say why a cluster cannot be made here, or return "" if it can."""
    if os.geteuid() == 0 and all(map(shutil.which, NEEDED)):
        return ""
    return f"a Slurm cluster is started by root, with {', '.join(NEEDED)}"


@contextlib.contextmanager
def slurm_nodes(**cpus: int) -> Iterator[SlurmNodes]:
    """Start a cluster of nodes with some cores each; end it afterwards, with all its processes."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        nodes = SlurmNodes(Path(folder), cpus)
        try:
            nodes.start()
            yield nodes
        finally:
            nodes.stop()


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
