"""How many CPU threads each process of a trial computes with, and why."""

import functools
import os
from dataclasses import dataclass

from dsstudy.launching.machine import Machine
from dsstudy.spec.model_counts import Counts, model_counts
from dsstudy.spec.trial import Trial

THREAD_FLOPS = 16_000_000
"""Floating-point operations of a layer in a step, forward and backward, for each thread.

Threads wait for one another after every layer, and keep their cores busy meanwhile. With less
arithmetic than that, a second thread gains nothing on an idle machine; beside another busy process
a step of small layers takes many times as long, as each thread waits for one that has no core.
``benchmarks/threads.py`` measures both.
"""

SIDE_BY_SIDE = "DSSTUDY_SIDE_BY_SIDE"
"""The environment variable that says how many trials share this machine, this one included."""


@dataclass(frozen=True)
class Threads:
    """The CPU threads of each of a trial's processes.

    Attributes
    ----------
    number : int
        How many threads each process computes with, 1 or more.
    cores : int
        How many cores all of them might use on this machine: the same for every engine.
    reason : str
        Why, in words for the record.
    """

    number: int
    cores: int
    reason: str


def choose_threads(trial: Trial, machine: Machine, ranks: int) -> Threads:
    """Return the threads of each process: the trial's own number, or what ``auto`` stands for.

    ``auto`` is an equal share of the cores, but no more than one thread for every `THREAD_FLOPS`
    of the average layer. All engines may use the same number of cores, whatever their number of
    processes.

    Parameters
    ----------
    trial
        What is trained.
    machine
        Where the processes run.
    ranks
        How many of them run on this machine.
    """
    if trial.threads != "auto":
        return Threads(trial.threads, trial.threads * ranks, "the trial's parameter threads")
    cores = usable_cores(machine)
    share = max(1, cores // ranks)
    if share > 1 and machine.device(trial) == "cpu" and (flops := _layer_flops(trial)):
        useful = max(1, flops // THREAD_FLOPS)
        if useful < share:
            why = f"one for every {THREAD_FLOPS:,} floating-point operations of a layer"
            return Threads(useful, cores, f"auto: {why}, which has {flops:,} on average")
    each = "" if ranks == 1 else f", in equal shares for {ranks} processes"
    return Threads(share, cores, f"auto: {_cores_text(cores, machine)}{each}")


def trials_side_by_side() -> int:
    """Return how many trials share this machine, the one of this process included."""
    return int(os.environ.get(SIDE_BY_SIDE, 1))


def _cores_text(cores: int, machine: Machine) -> str:
    if cores == machine.cores:
        return f"{cores} cores"
    together = trials_side_by_side()
    why = f"as {together} trials share them" if together > 1 else "as $OMP_NUM_THREADS says"
    return f"{cores} of {machine.cores} cores, {why}"


def usable_cores(machine: Machine) -> int:
    """Return how many cores a trial may use here: all, or $OMP_NUM_THREADS if fewer."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(machine.cores, int(limit)) if limit.isdecimal() else machine.cores


def thread_problems(trial: Trial, machine: Machine, ranks: int) -> list[str]:
    """Return the sentence that says that a trial asks for more threads than there are cores."""
    most = max(1, machine.cores // ranks)
    if trial.threads == "auto" or trial.threads <= most:
        return []
    each = "" if ranks == 1 else f" in each of {ranks} processes"
    return [
        f"threads={trial.threads}{each} is more than this machine's {machine.cores} CPU cores: set "
        f"threads to at most {most}, or to auto"
    ]


def _layer_flops(trial: Trial) -> int:
    """Return the operations of an average layer in a process's step; 0 if they are not known."""
    counts = model_counts().get((trial.model, trial.image_size))
    counts = counts or _counted(trial.model, trial.image_size)
    if counts is None or not counts.layers:
        return 0
    return counts.flops * (trial.batch_size // trial.processes) // counts.layers


@functools.cache
def _counted(model: str, image_size: int) -> Counts | None:
    """Count a model itself; None if it cannot be built."""
    from dsstudy.training.models import count_model

    try:
        return count_model(Trial(model=model, image_size=image_size))
    except (Exception, SystemExit):  # a user's network may raise anything; a check says why
        return None
