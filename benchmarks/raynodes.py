"""A Ray cluster of several nodes on this machine, any of which can be lost."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

RAY = Path(sys.executable).parent / "ray"
NODE, CLUSTER = "DSSTUDY_NODE", "DSSTUDY_CLUSTER"
"""Environment variables that mark the processes of a node and of a cluster."""


class RayNodes:
    """A cluster: `ray_nodes` makes one.

    Parameters
    ----------
    folder
        For Ray's own files; its name must be short, as sockets' names are.
    port
        Of the cluster's head.
    """

    def __init__(self, folder: str, port: int):
        self.folder, self.address = folder, f"127.0.0.1:{port}"
        self.commands: list[str] = []
        self._start("head", ["--head", f"--port={port}", "--num-cpus=0",
                             "--include-dashboard=false", f"--temp-dir={folder}"])  # fmt: skip

    def add(self, name: str, slots: int, *prefix: str, **environment: str) -> None:
        """Add a node with some CPU slots; `prefix` goes before the command that starts it."""
        options = [f"--address={self.address}", f"--num-cpus={slots}"]
        self._start(name, options, prefix, environment)

    def _start(
        self,
        name: str,
        options: list[str],
        prefix: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        command = [str(RAY), "start", *options, "--disable-usage-stats"]
        own = {NODE: name, CLUSTER: self.folder} | (environment or {})
        with Path(self.folder, f"{name}.log").open("w") as log:
            subprocess.run([*prefix, *command], env=os.environ | own, check=True, stdout=log,
                           stderr=subprocess.STDOUT)  # fmt: skip
        self.commands.append(" ".join(["ray", *command[1:]]))

    def lose(self, name: str) -> None:
        """Lose a node: kill -9 the process that represents it in the cluster."""
        for process in processes(NODE, name):
            if process.name() == "raylet":
                process.kill()

    def left(self, name: str) -> list[psutil.Process]:
        """Return a node's processes, except the readers of Ray's logs, which survive a loss."""
        return [p for p in processes(NODE, name) if "log_monitor" not in " ".join(p.cmdline())]

    def stop(self) -> None:
        """End all that runs in the cluster."""
        for process in processes(CLUSTER, self.folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)


def processes(variable: str, value: str) -> list[psutil.Process]:
    """Return the processes that have inherited an environment variable."""
    found = psutil.process_iter(["environ"])
    return [p for p in found if (p.info["environ"] or {}).get(variable) == value]


@contextlib.contextmanager
def ray_nodes(port: int = 6397) -> Iterator[RayNodes]:
    """Start a cluster whose head runs no trials; end it afterwards, with all that runs in it."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        nodes = RayNodes(folder, port)
        try:
            yield nodes
        finally:
            nodes.stop()
            time.sleep(0.5)
