"""Running one trial: in this process, or through a launcher that starts its ranks."""

import contextlib
import os
import statistics
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from dsstudy.errors import InputError
from dsstudy.images.data import ImageData, load_data
from dsstudy.launching.hostfile import read_hosts
from dsstudy.launching.launcher import (
    InterruptedTrialError,
    TrialError,
    launch,
    wait_for_earlier_ranks,
)
from dsstudy.launching.machine import Machine, describe_environment, problems
from dsstudy.launching.progress import TrialBar
from dsstudy.records.folder_lock import hold_folder
from dsstudy.records.record import Record
from dsstudy.spec.engines import LAUNCHED
from dsstudy.spec.trial import Trial
from dsstudy.training.checkpoint import newest_sound_checkpoint, read_facts
from dsstudy.training.rank import train_rank

SHARED_CORES = 0.15
"""CPU use of others, in cores, from which on a trial's times count as ``shared``."""


def run_trial(trial: Trial) -> Record:
    """Train a trial and return its record; one that is finished already is returned as it is.

    A trial that was interrupted goes on from its newest sound checkpoint; the epochs that it has
    recorded stay as they are.

    Parameters
    ----------
    trial
        What to train. Its `folder` receives the record; `overwrite` trains it from the beginning.

    Returns
    -------
    Record
        Finished, ``completed`` or ``diverged``.

    Raises
    ------
    InputError
        This machine cannot run the trial, its folder cannot be written or holds another one, or
        another process trains it: nothing was changed.
    TrialError
        Training ended by an error, which the record states too.
    """
    record = Record(trial.folder)
    record.check_free_for(trial)
    if _only_to_be_shown(trial, record):
        return record
    machine = Machine.here()
    if found := problems(trial, machine):
        raise InputError(found[0])
    clock = _Clock()
    data = load_data(trial)
    with contextlib.ExitStack() as stack:
        with record.writable():
            stack.enter_context(hold_folder(record.folder))
        if _only_to_be_shown(trial, record):  # another process has just finished it
            return record
        wait_for_earlier_ranks(record)
        record.start(trial)
        start_from = _where_to_start(trial, record, machine, data)
        clock.resumed = start_from is not None or bool(record.epochs())
        error = _train(trial, record, machine, data, start_from, clock)
        with record.writable():
            if not error and not trial.keep_checkpoint:
                record.remove_checkpoints()
            record.finish(_result(record, trial, machine, data, clock, error))
    if error:
        raise error
    return record


def _only_to_be_shown(trial: Trial, record: Record) -> bool:
    """Whether a trial is finished and stays so; if it is, say so."""
    if not record.finished or trial.overwrite:
        return False
    print(f"{record.folder} holds this trial, finished: shown, not trained again "
          "(overwrite = True would)")  # fmt: skip
    return True


def _where_to_start(trial: Trial, record: Record, machine: Machine, data: ImageData) -> Path | None:
    """Return the checkpoint to go on from, and say so; None for a trial that begins."""
    found = newest_sound_checkpoint(record.checkpoints, len(record.epochs()), say=print)
    if found is None:
        if 0 < len(record.epochs()) < trial.epochs:
            print("There is no sound checkpoint: training begins at the beginning, and the epochs "
                  "that are recorded stay as they are")  # fmt: skip
        return None
    facts, device = read_facts(found), machine.device(trial)
    if (began := facts.get("device", device)) != device:  # earlier versions did not note it
        raise InputError(
            f"device={device} is not where this trial began: set device to {began}, or overwrite "
            "to true to begin anew"
        )
    if facts["fingerprint"] != data.fingerprint:
        raise InputError(
            f"the images of {data.name} have changed since this trial began: put back those that "
            "it began with, or set overwrite to true to begin anew"
        )
    print(f"Going on from checkpoint {found.name}; {len(record.epochs())} of {trial.epochs} "
          "epochs are recorded")  # fmt: skip
    return found


def _train(
    trial: Trial,
    record: Record,
    machine: Machine,
    data: ImageData,
    start_from: Path | None,
    clock: "_Clock",
) -> TrialError | None:
    """Train what is left of a trial; return what went wrong, None if nothing did."""
    if len(record.epochs()) == trial.epochs:
        clock.stop()  # only the result is left to be written
        return None
    bar = TrialBar(trial)
    try:
        if trial.engine in LAUNCHED:
            launch(trial, record, machine, data.fingerprint, start_from, bar.show, clock.stop)
        else:
            device = torch.device(machine.device(trial))
            try:
                train_rank(trial, record, device, watch=bar.show, start_from=start_from)
            finally:
                clock.stop()
    except TrialError as error:
        return error
    except InputError as error:  # the disk is full, for one: not the training's own doing
        return InterruptedTrialError(str(error))
    except Exception as error:
        return TrialError(f"{traceback.format_exc()}\n{type(error).__name__}: {error}")
    finally:
        bar.close()
        (record.folder / "progress.json").unlink(missing_ok=True)
    return None


def _result(
    record: Record,
    trial: Trial,
    machine: Machine,
    data: ImageData,
    clock: "_Clock",
    error: TrialError | None,
) -> dict[str, Any]:
    epochs = record.epochs()
    accuracies = [epoch["test_accuracy"] for epoch in epochs]
    seconds = [epoch["train_seconds"] for epoch in epochs]
    finite = all(
        epoch[loss] is not None for epoch in epochs for loss in ("train_loss", "test_loss")
    )
    status = "failed" if error else "completed" if finite else "diverged"
    begun = [at for epoch in epochs if (at := epoch.get("started_at", 0)) > clock.started_at]
    return {
        "status": status,
        "best_accuracy": max(accuracies, default=None),
        "final_accuracy": accuracies[-1] if accuracies else None,
        # The first epoch warms up caches and allocators: left out where there are more.
        "seconds_per_epoch": statistics.median(seconds[1:] or seconds) if seconds else None,
        "wall_seconds": clock.seconds,
        "startup_seconds": begun[0] - clock.started_at if begun else None,
        # Nobody vouches for the times of what an earlier attempt trained.
        "timing": "shared" if clock.resumed else clock.timing,
        "error": str(error) if error else None,
        "interrupted": isinstance(error, InterruptedTrialError),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(machine)
        | {
            "device": machine.device(trial),
            "hosts": len(read_hosts(trial)) or 1,
            "dataset": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "train_images": len(data.train),
                "test_images": len(data.test),
                "classes": len(data.classes),
            },
        },
    }


class _Clock:
    """A trial's time on the clock, and whether the machine did anything else meanwhile.

    Attributes
    ----------
    seconds : float
        From the beginning to `stop`, which is called while the ranks still live.
    timing : str
        ``exclusive`` if other processes left the CPU to the trial meanwhile, else ``shared``.
    resumed : bool
        Whether an earlier attempt had trained a part of the trial.
    """

    def __init__(self) -> None:
        self.started_at = time.time()
        self._began = time.perf_counter()
        self._others = self._cpu_seconds_of_others()
        self.seconds, self.timing, self.resumed = 0.0, "shared", False

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._began
        used = self._cpu_seconds_of_others() - self._others
        self.timing = "exclusive" if used < SHARED_CORES * self.seconds else "shared"

    @staticmethod
    def _cpu_seconds_of_others() -> float:
        everyone, own = psutil.cpu_times(), sum(os.times()[:4])  # with children that have ended
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                own += sum(child.cpu_times()[:4])
        return everyone.user + everyone.system + everyone.nice - own
