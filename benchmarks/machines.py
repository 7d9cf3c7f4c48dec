"""Two machines made of namespaces, each with a network, processes, a name, an sshd and one core.

They share only the disk, as machines of a cluster do. Only root can make them.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ADDRESSES = {"dsstudy-one": "10.213.0.1", "dsstudy-two": "10.213.0.2"}
NEEDED = ("ip", "unshare", "nsenter", "pdsh", "ssh", "ssh-keygen", "/usr/sbin/sshd")


def why_not() -> str:
    """Say why machines cannot be made here, or return "" if they can."""
    if os.geteuid() == 0 and all(map(shutil.which, NEEDED)):
        return ""
    return f"machines are made of namespaces, by root with {', '.join(NEEDED)}"


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[dict[str, list[str]]]:
    """Start the machines of `ADDRESSES`; yield for each the command that enters it."""
    (folder / "ssh").mkdir(mode=0o700)
    key = folder / "ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shutil.copy(key.with_suffix(".pub"), folder / "ssh" / "authorized_keys")
    (folder / "ssh" / "config").write_text("Host *\n StrictHostKeyChecking no\n LogLevel ERROR\n")
    names = [f"{address} {name}\n" for name, address in ADDRESSES.items()]
    (folder / "hosts").write_text("".join(["127.0.0.1 localhost\n", *names]))
    (folder / "sshd_config").write_text(f"HostKey {key}\nUsePAM no\nPidFile none\n")
    Path.home().joinpath(".ssh").mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for name in ADDRESSES:
            _ip(f"netns add {name}")
            stack.callback(_ip, f"netns delete {name}")
        one, two = ADDRESSES
        _ip(f"-n {one} link add wire type veth peer name wire netns {two}")
        yield {name: stack.enter_context(_machine(name, folder)) for name in ADDRESSES}


@contextlib.contextmanager
def _machine(name: str, folder: Path) -> Iterator[list[str]]:
    _ip(f"-n {name} address add {ADDRESSES[name]}/24 dev wire")
    for link in ("lo", "wire"):
        _ip(f"-n {name} link set {link} up")
    script = " && ".join(
        [
            f"hostname {name}",
            f"mount --bind {folder}/hosts /etc/hosts",
            f"mount --bind {folder}/ssh {Path.home()}/.ssh",
            "mount -t tmpfs none /dev/shm",
            "mount -t tmpfs none /run",
            "mkdir /run/sshd",
            f"exec /usr/sbin/sshd -D -f {folder}/sshd_config -E {folder}/{name}.log",
        ]
    )
    namespaces = ["--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    cores = sorted(os.sched_getaffinity(0))
    core = ["taskset", "--cpu-list", str(cores[list(ADDRESSES).index(name) % len(cores)])]
    start = ["ip", "netns", "exec", name, "unshare", *namespaces, "sh", "-c", script]
    with subprocess.Popen([*core, *start]) as process:
        try:
            while not _listens(folder / f"{name}.log"):
                assert process.poll() is None, f"{name} did not start"
                time.sleep(0.05)
            (first,) = psutil.Process(process.pid).children()  # the process inside the namespaces
            into = ["nsenter", f"--target={first.pid}", "--net", "--uts", "--mount", "--pid"]
            yield [*core, *into]
        finally:
            process.kill()  # --kill-child ends all that runs there too


def _listens(log: Path) -> bool:
    return log.exists() and "listening" in log.read_text()


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)
