"""The hostfile of a trial that runs on several machines."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from dsstudy.errors import InputError, naming_file, quoted
from dsstudy.spec.trial import Trial


def read_hosts(trial: Trial) -> dict[str, int]:
    """Return the slots of each machine in a trial's hostfile; empty without a hostfile.

    Raises
    ------
    InputError
        The file cannot be read, or is not a hostfile.

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
                f"{file}:{number}: {quoted(text)} names no machine: write its name and its "
                "number of ranks, for example 'worker-1 slots=2'"
            )
    return found


def hostfile_path(trial: Trial) -> Path:
    """Return the full path of a trial's hostfile."""
    return Path(trial.hostfile).expanduser().absolute()


def check_hosts(trial: Trial, hosts: Mapping[str, int]) -> None:
    """Refuse hosts whose slots do not fit the trial, or ranks that nothing here could start there.

    Raises
    ------
    InputError
        The slots are not as many as the trial's ranks, or are uneven; or pdsh is missing.
    """
    if trial.hostfile == "none":
        return
    if len(set(hosts.values())) != 1 or sum(hosts.values()) != trial.processes:
        slots = ", ".join(f"{host} {number}" for host, number in hosts.items()) or "none"
        raise InputError(
            f"processes={trial.processes} does not match the slots of hostfile={trial.hostfile} "
            f"({slots}): give every machine the same number, and set processes to their sum"
        )
    if shutil.which("pdsh") is None:
        raise InputError(
            f"hostfile={trial.hostfile} needs pdsh to start ranks on other machines: install it "
            "(Debian: apt install pdsh), or set hostfile to none"
        )
