"""Warm kernels: a study's notebooks start as forks of a process that has loaded the libraries.

Loading torch, pandas and seaborn takes longer than a short trial. It is a warm process of its own,
without DeepSpeed, which would take memory in the kernels that train.
"""

import contextlib
import os
import select
import subprocess
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import default

from dsstudy.launching.warm_python import warm_command, warm_process

PRELOADED = (
    "ipykernel.kernelapp",
    "torch._dynamo",
    "torchinfo",
    "dsstudy.pages.trial",
    "dsstudy.launching.run",
)
"""The modules to load beforehand, with all that they import. None of them may touch a GPU."""

_VARIABLE = "DSSTUDY_WARM_KERNELS"

_OWNER = "DSSTUDY_KERNEL_OWNER"  # the process number of the study, with which its kernels end


@contextlib.contextmanager
def warm_kernels() -> Iterator[None]:
    """Start notebooks' kernels, within this context, as forks of a warm process."""
    with warm_process(_VARIABLE, PRELOADED):
        yield


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

    newest: ClassVar[subprocess.Popen | None] = None
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
    """Starts a kernel as a fork of the warm process, or in a new interpreter if there is none.

    References
    ----------
    https://jupyter-client.readthedocs.io/en/stable/provisioning.html
    """

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start a kernel for the command's connection file."""
        manager = cast(WarmKernelManager, self.parent).__class__
        environment = kwargs.pop("env") | manager.environment | {_OWNER: str(os.getpid())}
        # A kernel does what this says itself: its libraries may have been loaded without it.
        loaded = {name: environment[name] for name in environment if name != "PYTHONWARNINGS"}
        connection = await super().launch_kernel(
            warm_command(["-m", __name__, *cmd[cmd.index("-f") :]], loaded, _VARIABLE),
            env=environment,
            # The kernel captures what is printed; the terminal is for the study's progress bar.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            independent=True,  # its parent is the warm process: it watches its owner itself
            **kwargs,
        )
        manager.newest = self.process
        return connection


def main() -> None:
    """Run a notebook's kernel in this process; it ends with the study's process."""
    import matplotlib
    from ipykernel.kernelapp import launch_new_instance
    from tqdm import tqdm

    threading.Thread(target=_end_with, args=[int(os.environ.pop(_OWNER))], daemon=True).start()
    # What libraries read from the environment when they are loaded, which they may be already.
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    if action := os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter(action)  # type: ignore[arg-type]
    # A lock among threads is enough, and leaves no semaphore behind when the kernel is killed.
    tqdm.set_lock(threading.RLock())
    launch_new_instance()


def _end_with(owner: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(owner)], [], [])
    os._exit(1)


if __name__ == "__main__":
    main()
