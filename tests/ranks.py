"""The processes of a trial during training."""

import psutil
from waiting import wait_until

import dsstudy
from dsstudy.spec.trial import Trial


def processes_of(trial: Trial) -> dict[str, psutil.Process]:
    """Return the trial's processes by rank, and one of those that launch the ranks."""
    found = {}
    for process in psutil.process_iter(["cmdline", "environ"]):
        if str(trial.folder) in (process.info["cmdline"] or []):
            found[(process.info["environ"] or {}).get("RANK", "launcher")] = process
    return found


def ranks_of(trial: Trial) -> list[psutil.Process]:
    """Return the trial's ranks, in order."""
    found = processes_of(trial)
    found.pop("launcher", None)
    return [found[rank] for rank in sorted(found)]


def wait_for_training(trial: Trial) -> list[psutil.Process]:
    """Wait until the ranks have trained an epoch, and return them."""
    wait_until(dsstudy.Record(trial.folder).epochs)
    return ranks_of(trial)
