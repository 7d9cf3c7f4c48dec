"""Runs a study's trials, by default one at a time, and continues after a trial that fails."""

import contextlib
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from dsstudy.errors import InputError
from dsstudy.launching.notebook import run_notebook
from dsstudy.launching.progress import StudyBar, progress_share, progress_text
from dsstudy.launching.warm_kernels import warm_kernels
from dsstudy.launching.warm_python import warm_python
from dsstudy.records.folder_lock import hold_folder
from dsstudy.records.record import Record
from dsstudy.records.study_folder import read_states, write_study
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial


class Runner(Protocol):
    """Runs a study's trials: on this machine, or on others."""

    def check(self, trials: Sequence[Trial]) -> None:
        """Raise an `InputError` for trials that cannot run there."""

    def run(self, study: Study, trials: Sequence[Trial], bar: StudyBar) -> None:
        """Run trials, advance the bar, and print there what their records do not contain."""


class ThisMachine:
    """Runs trials here, one at a time."""

    def check(self, trials: Sequence[Trial]) -> None:
        """Raise an `InputError` for trials that this machine cannot run."""
        from dsstudy.launching.machine import Machine
        from dsstudy.launching.placement import problems

        machine = Machine.here()
        for trial in trials:
            if found := problems(trial, machine):
                raise InputError(f"trial {trial.name}: {found[0]}; nothing was started")

    def run(self, study: Study, trials: Sequence[Trial], bar: StudyBar) -> None:
        """Run trials one after the other, each by papermill in a kernel of its own."""
        with warm_kernels(), warm_python(trials):
            for trial in trials:
                with progress_beside([trial], bar):
                    note = run_notebook(trial)
                bar.finish_trial(trial, note)


def run_study(
    study: Study,
    trials: Sequence[Trial],
    rerun_failed: bool = False,
    runner: Runner | None = None,
) -> dict[str, str]:
    """Run those of a study's trials that are not done, each by papermill in its own kernel.

    Parameters
    ----------
    study
        The whole study; the list of its trials is written to its folder, for `study_states`.
    trials
        The trials to run.
    rerun_failed
        Whether to run failed trials again.
    runner
        Where the trials run; by default on this machine.

    Returns
    -------
    dict
        The final state of each trial, by name.

    Raises
    ------
    InputError
        A trial cannot run there, the study's folder cannot be written, or another process is
        running the study. Nothing was started.
    """
    names = [trial.name for trial in trials]
    again = ("left", "unfinished", *(["failed"] if rerun_failed else []))

    def to_run() -> list[Trial]:
        states = read_states(study.folder, study.name, names)
        return [trial for trial in trials if states[trial.name] in again]

    runner = runner or ThisMachine()
    runner.check(to_run())
    with _holding_study(study.folder):
        write_study(study)
        left = to_run()
        with StudyBar(study.name, len(left)) as bar:
            runner.run(study, left, bar)
        return read_states(study.folder, study.name, names)


@contextlib.contextmanager
def _holding_study(folder: Path) -> Iterator[None]:
    """Hold the study's folder, so that no other process runs the study at the same time."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_folder(folder))
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror}): free some space there, or set "
                "DSSTUDY_RUNS to a folder of your own"
            ) from None
        yield


@contextlib.contextmanager
def progress_beside(trials: Collection[Trial], bar: StudyBar) -> Iterator[None]:
    """Show beside the bar over trials the progress of those that run at the moment."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            bar.set_postfix_str(_running_text(list(trials)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _running_text(trials: Sequence[Trial]) -> str:
    """Describe the progress of one trial in full, of several in the width of a terminal."""
    reports = [(trial.name, Record(trial.folder).progress()) for trial in trials]
    if len(trials) == 1:
        ((name, progress),) = reports
        return f"{name}: {progress_text(progress) if progress else 'starting'}"
    return ", ".join(f"{name} {100 * progress_share(p) if p else 0:.0f} %" for name, p in reports)
