"""Warm kernels: a study's notebooks start from one process that has loaded the libraries.

Loading torch, pandas and seaborn takes longer than a short trial. A fork server (of
`multiprocessing`) loads them once; each notebook's kernel is a process forked from it.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from subprocess import Popen
from types import ModuleType
from typing import Any, ClassVar, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from tqdm import tqdm
from traitlets import default

PRELOADED = (
    "ipykernel.kernelapp",
    "torch._dynamo",
    "torchinfo",
    "dsstudy.pages.trial",
    "dsstudy.launching.run",
)
"""The modules to load beforehand, with all that they import. None of them may touch a GPU."""


class WarmKernelManager(AsyncKernelManager):
    """Manages a kernel that `WarmProvisioner` provides, whatever the kernel's specification.

    Manager and kernel talk over named sockets: another process could take a port between its
    choice and the kernel's start, ten seconds later. The names are in Linux's abstract namespace,
    which needs no files.

    References
    ----------
    https://zeromq.org/socket-api/#ipc, https://man7.org/linux/man-pages/man7/unix.7.html
    """

    environment: ClassVar[Mapping[str, str]] = {}
    """Environment variables of the kernel's own."""

    newest: "ClassVar[_Forked | None]" = None
    """The kernel forked last: papermill's error on a dead kernel does not say how it ended."""

    @default("transport")
    def _transport_default(self) -> str:
        return "ipc"

    @default("ip")
    def _ip_default(self) -> str:
        return f"@dsstudy-{uuid.uuid4().hex}"

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """Return the notebook's kernel specification, with the warm provisioner."""
        spec = super().kernel_spec
        if spec is not None:
            spec.metadata["kernel_provisioner"] = {"provisioner_name": "dsstudy-warm"}
        return spec


def kernel_manager(environment: Mapping[str, str]) -> type[WarmKernelManager]:
    """Return a class that manages one kernel with environment variables of its own.

    It is a class because papermill makes the manager itself, and keeps it.
    """
    return type("OwnKernelManager", (WarmKernelManager,), {"environment": dict(environment)})


class WarmProvisioner(LocalProvisioner):
    """Forks a kernel where `LocalProvisioner` starts a new interpreter.

    References
    ----------
    https://jupyter-client.readthedocs.io/en/stable/provisioning.html
    """

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork a kernel for the command's connection file."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        arguments, manager = cmd[cmd.index("-f") :], cast(WarmKernelManager, self.parent).__class__
        environment = kwargs["env"] | manager.environment
        process = context.Process(
            target=_run_kernel, args=(arguments, environment, kwargs.get("cwd"))
        )
        with _hidden_script():
            process.start()
        manager.newest = _Forked(process)
        self.process = cast(Popen, manager.newest)
        self.pid = self.pgid = process.pid  # the kernel leads a group of its own
        return self.connection_info


_SCRIPT_LOCK = threading.Lock()


@contextlib.contextmanager
def _hidden_script() -> Iterator[None]:
    """Hide the script that runs the study, which a new process would import."""
    with _SCRIPT_LOCK:  # several threads may start kernels
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


class _Forked:
    """A forked process with the methods of `subprocess.Popen` that a provisioner uses."""

    stdin = stdout = stderr = None

    def __init__(self, process: ForkServerProcess):
        self._process = process
        self.pid = cast(int, process.pid)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run_kernel(arguments: list[str], environment: dict[str, str], folder: str | None) -> None:
    """Turn this forked process into a notebook's kernel, which ends with the study's process."""
    os.setsid()
    environment.pop("JPY_PARENT_PID", None)  # it is not this process's parent
    os.environ.clear()
    os.environ.update(environment)
    if folder:
        os.chdir(folder)
    _apply_environment(environment)
    # The kernel captures what is printed; the terminal is for the study's progress bar.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    # A lock among threads is enough, and leaves no semaphore behind when the kernel is killed.
    tqdm.set_lock(threading.RLock())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = ["ipykernel_launcher", *arguments]
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


def _apply_environment(environment: dict[str, str]) -> None:
    """Apply what libraries read from the environment at import: they were imported before."""
    import matplotlib

    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    if action := environment.get("PYTHONWARNINGS"):
        warnings.simplefilter(action)  # type: ignore[arg-type]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
