"""Run one trial: in this process, or through a launcher that starts its ranks."""

import contextlib
import os
import statistics
import time
import traceback
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from dsstudy.errors import InputError, reason_line
from dsstudy.images.data import DataFacts, data_facts
from dsstudy.launching.crashes import crash_epoch, crash_reason
from dsstudy.launching.launcher import (
    CrashedTrialError,
    InterruptedTrialError,
    TrialError,
    launch,
    wait_for_old_ranks,
)
from dsstudy.launching.machine import Machine, describe_environment
from dsstudy.launching.placement import Placement, place_trial, placement_problems
from dsstudy.launching.progress import TrialBar
from dsstudy.launching.warm_python import wait_until_warm, warm_processes, warm_python
from dsstudy.records.folder_lock import hold_folder
from dsstudy.records.record import Record
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import Trial
from dsstudy.training.checkpoint import newest_sound_checkpoint, read_facts
from dsstudy.training.memory import memory_measure
from dsstudy.training.rank import train_rank

SHARED_CORES = 0.15
"""CPU use of other processes, in cores, from which a trial's times count as ``shared``."""


def run_trial(trial: Trial) -> Record:
    """Train a trial and return its record; a finished trial is not trained again.

    An interrupted trial resumes from its newest sound checkpoint; its recorded epochs are kept.

    Parameters
    ----------
    trial
        What to train. The record goes into its `folder`; `overwrite` trains from the beginning.

    Returns
    -------
    Record
        Finished, ``completed`` or ``diverged``.

    Raises
    ------
    InputError
        This machine cannot run the trial, its folder cannot be written or holds another trial, or
        another process trains it. Nothing was changed.
    TrialError
        Training failed; the record states the error too.
    """
    record = Record(trial.folder)
    record.check_free_for(trial)
    if _is_done(trial, record):
        return record
    placement = _checked_placement(trial)
    wait_until_warm()
    clock = _Clock()
    with contextlib.ExitStack() as stack:
        if not placement.hosts:
            stack.enter_context(warm_python([trial]))
        data = data_facts(trial)  # the ranks load the images
        with record.writable():
            stack.enter_context(hold_folder(record.folder))
        if _is_done(trial, record):  # another process has just finished it
            return record
        wait_for_old_ranks(record)
        before = None if trial.overwrite else record.result()
        record.start(trial)
        start_from = _starting_checkpoint(trial, record, placement.device, data)
        placement = _placed_as_before(trial, placement, start_from)
        clock.resumed = start_from is not None or bool(record.epochs())
        error = _train(trial, record, placement, data, start_from, clock)
        if isinstance(error, CrashedTrialError):
            error = _judged_crash(error, record, before)
        with record.writable():
            if not error and not trial.keep_checkpoint:
                record.remove_checkpoints()
            record.finish(_result(record, placement, data, clock, error))
    if error:
        raise error
    return record


def check_trial(trial: Trial) -> None:
    """Refuse a trial that `run_trial` would refuse before it trains; nothing is written.

    Raises
    ------
    InputError
        This machine cannot run the trial, or its folder holds another one.
    """
    record = Record(trial.folder)
    record.check_free_for(trial)
    if trial.overwrite or not record.finished:
        _checked_placement(trial)


def _checked_placement(trial: Trial) -> Placement:
    placement = place_trial(trial, Machine.here())
    if found := placement_problems(trial, placement):
        raise InputError(found[0])
    return placement


def _is_done(trial: Trial, record: Record) -> bool:
    """Whether a trial is finished and not to be overwritten; if so, print it."""
    if not record.finished or trial.overwrite:
        return False
    print(f"{record.folder} holds this trial, already finished; it is not trained again "
          "(overwrite = True trains it again)")  # fmt: skip
    return True


def _starting_checkpoint(trial: Trial, record: Record, device: str, data: DataFacts) -> Path | None:
    """Return the checkpoint to resume from, and print it; None to start from the beginning."""
    found = newest_sound_checkpoint(record.checkpoints, len(record.epochs()), say=print)
    if found is None:
        if 0 < len(record.epochs()) < trial.epochs:
            print("There is no sound checkpoint: training starts from the beginning; recorded "
                  "epochs are kept")  # fmt: skip
        return None
    facts = read_facts(found)
    if (first := facts.get("device", device)) != device:  # earlier versions did not record it
        raise InputError(
            f"device={device} is not the device that this trial started on: set device to {first}, "
            "or overwrite to true to start again"
        )
    if facts["fingerprint"] != data.fingerprint:
        raise InputError(
            f"the images of {data.name} have changed since this trial started: restore them, or "
            "set overwrite to true to start again"
        )
    print(f"Resuming from checkpoint {found.name}; {len(record.epochs())} of {trial.epochs} "
          "epochs are recorded")  # fmt: skip
    return found


def _placed_as_before(trial: Trial, placement: Placement, start_from: Path | None) -> Placement:
    """Return a place with as many threads as the trial began with, if it resumes on a CPU.

    Sums over other numbers of threads are rounded differently, so the record would not be the same.
    """
    first = read_facts(start_from).get("threads") if start_from else None
    # Earlier versions did not record it; a GPU computes the same whatever the threads.
    if first in (None, placement.threads.number) or placement.device != "cpu":
        return placement
    if trial.threads != "auto":
        raise InputError(
            f"threads={trial.threads} is not the number of threads that this trial began with: set "
            f"threads to {first} or auto, or overwrite to true to start again"
        )
    again = replace(placement.threads, number=first, reason="auto: as many as at the start")
    return placement.with_threads(again)


def _train(
    trial: Trial,
    record: Record,
    placement: Placement,
    data: DataFacts,
    start_from: Path | None,
    clock: "_Clock",
) -> TrialError | None:
    """Train what is left of a trial; return the error if training fails."""
    if len(record.epochs()) == trial.epochs:
        clock.stop()  # only the result has to be written
        return None
    bar = TrialBar(trial)
    try:
        if ENGINES[trial.engine].launcher:
            launch(trial, record, placement, data.fingerprint, start_from, bar.show, clock.stop)
        else:
            device, threads = torch.device(placement.device), placement.threads.number
            try:
                train_rank(
                    trial,
                    record,
                    device,
                    threads,
                    fingerprint=data.fingerprint,
                    watch=bar.show,
                    start_from=start_from,
                )
            finally:
                clock.stop()
    except TrialError as error:
        return error
    except InputError as error:  # not the training's fault: the disk is full, for example
        return InterruptedTrialError(str(error))
    except Exception as error:
        return TrialError(f"{traceback.format_exc()}\n{reason_line(error)}")
    finally:
        bar.close()
        (record.folder / "progress.json").unlink(missing_ok=True)
    return None


def _judged_crash(
    error: CrashedTrialError, record: Record, before: dict[str, Any] | None
) -> TrialError:
    """Return a crash as an interruption, or as a failure where it happened before."""
    reason, again = crash_reason(error.crash, record, before)
    text = "\n".join([*str(error).splitlines()[:-1], reason])
    judged = TrialError(text) if again else CrashedTrialError(text, error.crash)
    judged.crashed_in_epoch = crash_epoch(record)
    return judged


def _result(
    record: Record,
    placement: Placement,
    data: DataFacts,
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
    crashed = error and error.crashed_in_epoch
    starts = [at for epoch in epochs if (at := epoch.get("started_at", 0)) > clock.started_at]
    return {
        "status": status,
        "best_accuracy": max(accuracies, default=None),
        "final_accuracy": accuracies[-1] if accuracies else None,
        # The first epoch warms up caches and allocators, so it is left out if there are more.
        "seconds_per_epoch": statistics.median(seconds[1:] or seconds) if seconds else None,
        "wall_seconds": clock.seconds,
        "startup_seconds": starts[0] - clock.started_at if starts else None,
        # The times of an earlier attempt, or beside other trials, cannot be trusted.
        "timing": "shared" if clock.resumed or placement.side_by_side > 1 else clock.timing,
        "error": str(error) if error else None,
        "interrupted": isinstance(error, InterruptedTrialError),
        **({"crashed_in_epoch": crashed} if crashed else {}),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(placement.machine)
        | {
            "device": placement.device,
            "hosts": len(placement.hosts) or 1,
            "memory": memory_measure(placement.device),
            "side_by_side": placement.side_by_side,
            "threads": asdict(placement.threads),
            "dataset": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "train_images": data.train_images,
                "test_images": data.test_images,
                "classes": len(data.classes),
            },
        },
    }


def own_processes() -> set[psutil.Process]:
    """Return the processes that work for this one: its children, and forks of a warm process.

    The warm process may be a child of this one, or of the study's process: it counts once.
    """
    return {*psutil.Process().children(recursive=True), *warm_processes()}


class _Clock:
    """A trial's wall-clock seconds up to `stop`, which is called while the ranks are still alive.

    `timing` is ``exclusive`` if other processes hardly used the CPU, else ``shared``; `resumed`
    says whether an earlier attempt trained a part of the trial.
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
        everyone, own = psutil.cpu_times(), sum(os.times()[:4])  # including ended children
        for child in own_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                own += sum(child.cpu_times()[:4])
        return everyone.user + everyone.system + everyone.nice - own
