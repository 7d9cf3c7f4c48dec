"""Stands in for the Python interpreter: asks the warm process to fork, and follows the fork.

Launchers start this file as if it were ``python``. It has the process that `warm_python` loaded
run the same module or script with the same arguments, environment, folder, cores and open files.
It hands on signals, and ends as the fork ends. If it is killed, the warm process kills the fork.

It is started in isolated mode, which takes a hundredth of the time of loading torch: so it uses
the standard library alone.
"""

import json
import os
import resource
import signal
import socket
import sys

FORWARDED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
"""The signals to hand on; SIGKILL needs no handler, and SIGSTOP can have none."""


def main() -> None:
    """Run what the command line asks for: in a fork, or in a new interpreter if it must be."""
    folder, interpreter, *arguments = sys.argv[1:]
    connection = connect(folder) if is_forkable(arguments) else None
    if connection is None:
        os.execv(interpreter, [interpreter, *arguments])
    for number in FORWARDED:
        signal.signal(number, lambda number, _: connection.send(bytes([number])))
    start = arguments[1:] if arguments[0] == "-u" else arguments
    send_request(connection, start, f"{folder}/python")
    end_like(connection.recv(64))


def is_forkable(arguments: list[str]) -> bool:
    """Whether the command line runs a module or a script, and has no other option than ``-u``."""
    start = arguments[1:] if arguments[:1] == ["-u"] else arguments
    return bool(start) and (start[0] == "-m" or not start[0].startswith("-"))


def connect(folder: str) -> socket.socket | None:
    """Connect to the warm process; None, and a word in the log, if it has ended."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        place = os.open(folder, os.O_RDONLY)
        # A socket's path is limited to 107 bytes, which this is never longer than.
        connection.connect(f"/proc/self/fd/{place}/socket")
    except OSError as error:
        print(f"The warm process has ended ({error.strerror}): Python starts anew", file=sys.stderr)
        return None
    os.close(place)
    return connection


def send_request(connection: socket.socket, arguments: list[str], executable: str) -> None:
    """Send everything that the new process takes over from this one."""
    request = {
        "executable": executable,
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109 (pathlib takes long to import)
        "cores": sorted(os.sched_getaffinity(0)),
    }
    content = json.dumps(request).encode()
    socket.send_fds(connection, [len(content).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(content)


def end_like(answer: bytes) -> None:
    """End with the fork's exit code, or by the signal that ended it."""
    code = int(answer or -signal.SIGKILL)  # without an answer, the warm process was killed
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the fork may have left one
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
