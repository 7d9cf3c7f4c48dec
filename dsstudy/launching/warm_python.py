"""Python processes that start at once: forked from one that has loaded the libraries.

Loading torch and DeepSpeed takes longer than a short training, and a launched trial loads them in
its launcher, in DeepSpeed's per-node launcher and in each rank. A study loads them once, in the
warm process. Launchers run unchanged: they start Python by ``sys.executable``, which in a fork is
a stand-in (`stand_in`) that asks the warm process to fork.

Each fork is a process of its own, with the environment, files and cores of the stand-in. It ends
when the stand-in ends, and when the warm process ends; that ends with the process that started it.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from dsstudy.launching import stand_in
from dsstudy.launching.launcher_command import LAUNCHER_MODULES
from dsstudy.spec.engines import ENGINES, LAUNCHED
from dsstudy.spec.trial import Trial

PRELOADED = ("dsstudy.explorer.queue", "dsstudy.launching.run", "torch._dynamo")
"""The modules to load beforehand, with all that they import. None of them may touch a GPU."""

READ_WHEN_LOADED = (
    "DS_ACCELERATOR", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "PYTHON", "PYTORCH_",
)  # fmt: skip
"""The beginnings of environment variables that are read once, when a library is loaded.

``OMP_NUM_THREADS`` is too, but a rank sets its number of threads itself.
"""

_SETTINGS = {"PYTHONUNBUFFERED": "1"}  # as launchers set it for ranks

_PDEATHSIG = 1  # of prctl(2)


class _Request(NamedTuple):
    """What a stand-in asks for; see `stand_in.send_request`."""

    executable: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    cores: list[int]


@contextlib.contextmanager
def warm_python(trials: Iterable[Trial] | None = None) -> Iterator[None]:
    """Start the processes of launched trials, within this context, as forks of a warm process.

    See `warm_process`.

    Parameters
    ----------
    trials
        What will be trained: trials without a launcher need no warm process. None if it is not
        known yet.
    """
    engines = LAUNCHED if trials is None else {trial.engine for trial in trials} & set(LAUNCHED)
    with contextlib.ExitStack() as stack:
        if engines:
            stack.enter_context(warm_process("DSSTUDY_WARM", _modules(engines)))
        yield


@contextlib.contextmanager
def warm_process(variable: str, modules: Sequence[str]) -> Iterator[None]:
    """Run a warm process, within this context, for the commands of `warm_command`.

    Elsewhere than on Linux, and within another such context, it changes nothing. An empty
    ``$DSSTUDY_WARM`` switches it off.

    Parameters
    ----------
    variable
        The environment variable that names the warm process's folder to it and its children.
    modules
        The modules to load beforehand.
    """
    if sys.platform != "linux" or variable in os.environ or os.environ.get("DSSTUDY_WARM") == "":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="dsstudy-warm-") as folder:
        _write_stand_in(Path(folder))
        process = _start(Path(folder), modules)
        os.environ |= {variable: folder, f"{variable}_PID": str(process.pid)}
        try:
            yield
        finally:
            for name in (variable, f"{variable}_PID"):
                os.environ.pop(name, None)
            process.kill()
            process.wait()


def warm_command(
    command: list[str],
    environment: Mapping[str, str] = os.environ,
    variable: str = "DSSTUDY_WARM",
) -> list[str]:
    """Return the command that runs Python warm; as it is where that is not possible.

    Parameters
    ----------
    command
        What would follow ``python``: a script or ``-m`` and a module, and arguments.
    environment
        The environment that it will have.
    variable
        Which warm process; see `warm_process`.
    """
    folder = os.environ.get(variable)
    if folder and Path(folder, "python").exists():
        loaded = json.loads(Path(folder, "environment.json").read_text())
        if _read_when_loaded(environment).items() <= loaded.items():
            return [f"{folder}/python", *command]
    return [sys.executable, *command]


def wait_until_warm() -> None:
    """Wait until the warm process has loaded its libraries, which would disturb what is timed."""
    folder = os.environ.get("DSSTUDY_WARM")
    connection = stand_in.connect(folder) if folder else None
    if connection:
        connection.sendall(bytes(8))  # a request of length 0
        connection.recv(64)
        connection.close()


def warm_processes() -> list[psutil.Process]:
    """Return the warm process and all that were forked from it."""
    try:
        warm = psutil.Process(int(os.environ["DSSTUDY_WARM_PID"]))
        return [warm, *warm.children(recursive=True)]
    except (KeyError, psutil.NoSuchProcess):
        return []


def _likely_device() -> str:
    """Guess on which device trials run, without torch; DeepSpeed decides when it is loaded.

    Where the guess is wrong, trials start cold.
    """
    return "cuda" if any(Path("/proc/driver/nvidia/gpus").glob("*")) else "cpu"


def _write_stand_in(folder: Path) -> None:
    words = sys.executable, "-IS", stand_in.__file__, str(folder), sys.executable
    file = folder / "python"
    # A shell, since the path of an interpreter after "#!" may hold no space.
    file.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    file.chmod(0o700)


def _modules(engines: Iterable[str]) -> list[str]:
    launchers = {str(ENGINES[engine].launcher) for engine in engines}
    loops = [f"dsstudy.training.loops.{engine}" for engine in engines]
    return [*PRELOADED, *loops, *(name for each in launchers for name in LAUNCHER_MODULES[each])]


def _start(folder: Path, modules: Sequence[str]) -> subprocess.Popen:
    environment = os.environ | _SETTINGS | {"DS_ACCELERATOR": _likely_device()}
    (folder / "environment.json").write_text(json.dumps(_read_when_loaded(environment)))
    place = os.open(folder, os.O_RDONLY)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound here, so that stand-ins can wait for it while libraries are loaded.
    listener.bind(f"/proc/self/fd/{place}/socket")
    listener.listen(64)
    os.close(place)
    with listener:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno()), *modules],
            env=environment,
            stdin=subprocess.PIPE,  # closed when this process ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the process that started it
        )


def _read_when_loaded(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_WHEN_LOADED) and name != "OMP_NUM_THREADS"
    }


class _Server:
    """The warm process: it forks for each stand-in, hands on its signals, and reports the end."""

    def __init__(self, listener: socket.socket):
        self.listener, self.selector = listener, selectors.DefaultSelector()
        self.request: _Request | None = None
        self._watch(listener, self._accept)
        self._watch(sys.stdin.fileno(), lambda: os._exit(0))  # whoever started it has ended

    def serve(self) -> _Request:
        """Serve for ever; in a fork, return what it is to run."""
        while self.request is None:
            for key, _ in self.selector.select():
                key.data()
                if self.request is not None:
                    break
        return self.request

    def _watch(self, file: Any, call: Any) -> None:
        self.selector.register(file, selectors.EVENT_READ, call)

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        try:
            request, files = _receive(connection)
        except (OSError, ValueError):  # the stand-in was killed meanwhile
            connection.close()
            return
        if not request:
            connection.send(b"0")
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become(request, files, connection)
            return
        for file in files:
            os.close(file)
        ended = os.pidfd_open(pid)
        self._watch(connection, partial(self._signal, connection, pid))
        self._watch(ended, partial(self._report, connection, pid, ended))

    def _signal(self, connection: socket.socket, pid: int) -> None:
        try:
            numbers = connection.recv(64)
        except OSError:
            numbers = b""
        if not numbers:  # the stand-in was killed
            self.selector.unregister(connection)
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)  # not reaped yet, so the number is still its own

    def _report(self, connection: socket.socket, pid: int, ended: int) -> None:
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        self.selector.unregister(ended)
        os.close(ended)
        with connection, contextlib.suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())

    def _become(self, request: _Request, files: list[int], connection: socket.socket) -> None:
        """Make this fork what the stand-in would have been."""
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            elif key.fd > 2:
                os.close(key.fd)
        self.selector.close()
        connection.close()
        self.request = request


def _receive(connection: socket.socket) -> tuple[_Request | None, list[int]]:
    head, files, _, _ = socket.recv_fds(connection, 8, 3)
    length = int.from_bytes(head, "big")
    content = b""
    while len(content) < length:
        if not (part := connection.recv(length - len(content))):
            raise ValueError("the request is cut")
        content += part
    return (_Request(**json.loads(content)) if length else None), files


def _run(request: _Request) -> None:
    """Run what ``python`` with these arguments runs."""
    import numpy as np

    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    os.sched_setaffinity(0, request.cores)
    np.random.seed()  # a new interpreter draws a new state
    if request.arguments[0] == "-m":
        _, module, *sys.argv[1:] = request.arguments
        sys.path[0] = request.folder
        if not module.startswith("dsstudy."):  # which asks for warm processes itself
            sys.executable = request.executable
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = request.arguments
        sys.executable = request.executable
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(request.arguments[0], run_name="__main__")


def main() -> None:
    """Load modules, and serve: the arguments are the listening socket's number and their names."""
    _, number, *modules = sys.argv
    listener = socket.socket(fileno=int(number))
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # forks neither search nor copy the libraries' objects for garbage
    if sys.modules["torch"].cuda.is_initialized():  # a fork could not use the GPU
        sys.exit("a library has initialized CUDA while it was loaded")
    _run(_Server(listener).serve())


if __name__ == "__main__":
    main()
