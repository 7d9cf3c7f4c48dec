"""Running several of a study's trials at once on this machine."""

import contextlib
import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field

from dsstudy.errors import InputError, quoted
from dsstudy.launching.machine import Machine
from dsstudy.launching.notebook import run_notebook
from dsstudy.launching.progress import StudyBar
from dsstudy.launching.threads import SIDE_BY_SIDE, usable_cores
from dsstudy.launching.warm_kernels import WarmKernelManager, kernel_manager, warm_kernels
from dsstudy.launching.warm_python import warm_python
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial
from dsstudy.studies.batch import ThisMachine, progress_beside

TRIAL_GIB = 2.0
"""Memory for each trial with ``auto``: its kernel takes 0.8 GiB before it trains anything."""


@dataclass(frozen=True)
class _Place:
    """What a trial takes its share of: the CPU cores or the GPUs of this machine."""

    name: str
    number: int
    needed: int  # by the trial


class SideBySide(ThisMachine):
    """Runs trials here, several at once, each with its own share of the cores and of the GPUs.

    Parameters
    ----------
    jobs
        How many trials run at once: a whole number, or ``auto`` for as many as the cores, the GPUs
        and the memory have room for.

    Raises
    ------
    InputError
        `jobs` is neither.
    """

    def __init__(self, jobs: str):
        if jobs != "auto" and not (jobs.isdecimal() and int(jobs)):
            raise InputError(f"--jobs {quoted(jobs)} is not allowed: give a whole number, 1 or "
                             "more, or auto")  # fmt: skip
        self.jobs = jobs

    def check(self, trials: Sequence[Trial]) -> None:
        """Raise an `InputError` for trials that this machine cannot run, or not so many at once."""
        super().check(trials)
        if self.jobs == "auto":
            return
        machine = Machine.here()
        for trial in trials:
            _check_share(trial, int(self.jobs), machine)

    def run(self, study: Study, trials: Sequence[Trial], bar: StudyBar) -> None:
        """Run the trials in threads of this process, each by papermill in a kernel of its own."""
        machine = Machine.here()
        jobs = _most_jobs(trials, machine) if self.jobs == "auto" else int(self.jobs)
        places = queue.SimpleQueue[dict[str, str]]()
        for environment in job_environments(machine, jobs):
            places.put(environment)
        running = _Running(places)
        with (
            warm_kernels(),
            warm_python(trials),
            ThreadPoolExecutor(jobs) as pool,
            progress_beside(running.trials, bar),
        ):
            tasks = {pool.submit(running.run, trial): trial for trial in trials}
            with running.ended_with(tasks):
                for task in as_completed(tasks):
                    bar.finish_trial(tasks[task], task.result())


@dataclass
class _Running:
    """The trials that run at the moment, and the places where no trial runs."""

    places: queue.SimpleQueue[dict[str, str]]
    trials: list[Trial] = field(default_factory=list)
    managers: list[type[WarmKernelManager]] = field(default_factory=list)

    def run(self, trial: Trial) -> str:
        """Run a trial in a free place; return what `run_notebook` returns."""
        environment = self.places.get()
        manager = kernel_manager(environment)
        self.trials.append(trial)
        self.managers.append(manager)
        try:
            return run_notebook(trial, manager)
        finally:
            self.trials.remove(trial)
            self.managers.remove(manager)
            self.places.put(environment)

    @contextlib.contextmanager
    def ended_with(self, tasks: "dict[Future[str], Trial]") -> Iterator[None]:
        """End all trials if the ``with`` statement is left early, as by Ctrl-C."""
        try:
            yield
        except BaseException:
            for task in tasks:
                task.cancel()
            while wait(tasks, timeout=0.2).not_done:
                self._end_kernels()
            raise

    def _end_kernels(self) -> None:
        """End the kernels, which Ctrl-C does not reach; their launchers and ranks end with them."""
        for manager in list(self.managers):
            if manager.newest and manager.newest.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    manager.newest.kill()


def job_environments(machine: Machine, jobs: int) -> list[dict[str, str]]:
    """Return the environment variables that give each of several jobs its share of a machine.

    Parameters
    ----------
    machine
        The machine; a GPU belongs to one job at most.
    jobs
        The number of jobs.
    """
    cores, gpus = usable_cores(machine) // jobs, visible_gpus(machine)
    share = len(gpus) // jobs
    return [
        {
            SIDE_BY_SIDE: str(jobs),
            "OMP_NUM_THREADS": str(cores),
            **({"CUDA_VISIBLE_DEVICES": ",".join(gpus[job * share : (job + 1) * share])} if gpus
               else {}),
        }
        for job in range(jobs)
    ]  # fmt: skip


def visible_gpus(machine: Machine) -> list[str]:
    """Return the machine's GPUs as $CUDA_VISIBLE_DEVICES names them: by numbers or identifiers."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else map(str, range(len(machine.gpus)))
    return [name.strip() for name in names][: len(machine.gpus)]


def _most_jobs(trials: Sequence[Trial], machine: Machine) -> int:
    """Return how many of some trials have room on a machine at once, whichever they are."""
    room = [place.number // place.needed for trial in trials for place in _places(trial, machine)]
    if any(trial.hostfile != "none" for trial in trials):
        return 1
    return max(1, min([*room, int(machine.memory_gib / TRIAL_GIB), len(trials)]))


def _places(trial: Trial, machine: Machine) -> list[_Place]:
    """Return what a trial needs of a machine: a core for each thread, a GPU for each process."""
    threads = 1 if trial.threads == "auto" else trial.threads
    places = [_Place("CPU cores", usable_cores(machine), trial.processes * threads)]
    if machine.device(trial) == "cuda":
        places.append(_Place("GPUs", len(machine.gpus), trial.processes))
    return places


def _check_share(trial: Trial, jobs: int, machine: Machine) -> None:
    """Refuse a number of jobs with which a trial's share of the machine is too small for it."""
    if trial.hostfile != "none" and jobs > 1:
        raise InputError(
            f"--jobs {jobs} is not possible with hostfile={quoted(trial.hostfile)} (trial "
            f"{trial.name}), whose machines one trial has to itself: set --jobs to 1; nothing was "
            "started"
        )
    for place in _places(trial, machine):
        most = place.number // place.needed
        if jobs > max(1, most):
            each = f", {place.needed} for each trial," if place.needed > 1 else ""
            raise InputError(
                f"--jobs {jobs} is more than this machine's {place.number} {place.name}{each} have "
                f"room for (trial {trial.name}): set --jobs to at most {max(1, most)}, or to auto; "
                "nothing was started"
            )
