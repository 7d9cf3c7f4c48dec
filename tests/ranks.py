"""The processes of a trial during training."""

from pathlib import Path

import psutil
from waiting import wait_until

import dsstudy
from dsstudy.spec.trial import Trial


def processes_of(trial: Trial) -> dict[str, psutil.Process]:
    """Return what was launched for the trial's ranks, by rank, and one of their launchers.

    Where ranks are forked from a warm process, these are their stand-ins.
    """
    found = {}
    for process in psutil.process_iter(["cmdline", "environ"]):
        if str(trial.folder) in (process.info["cmdline"] or []):
            found[(process.info["environ"] or {}).get("RANK", "launcher")] = process
    return found


def ranks_of(trial: Trial) -> list[psutil.Process]:
    """Return the trial's ranks, in order; none without a launcher."""
    if not (launched := processes_of(trial)):
        return []
    errors = Path(launched["launcher"].environ()["DSSTUDY_ERRORS"])
    files = sorted(errors.glob("*.pid"), key=lambda file: int(file.name.split(".")[0]))
    return [psutil.Process(int(file.read_text())) for file in files]


def wait_for_training(trial: Trial) -> list[psutil.Process]:
    """Wait until the ranks have trained an epoch, and return them."""
    wait_until(dsstudy.Record(trial.folder).epochs)
    return ranks_of(trial)
