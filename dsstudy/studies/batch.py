"""Running a study: papermill per trial, one at a time, resumed, kept going past failures."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from dsstudy.errors import InputError
from dsstudy.launching.notebook import run_notebook
from dsstudy.records.folder_lock import hold_folder
from dsstudy.records.record import Record
from dsstudy.records.study_folder import read_states, write_study
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial


class Runner(Protocol):
    """Where a study's trials are run: on this machine, or on others."""

    def check(self, trials: Sequence[Trial]) -> None:
        """Refuse trials that cannot be run there, by an `InputError`."""

    def run(self, study: Study, trials: Sequence[Trial], bar: tqdm) -> None:
        """Run trials; the bar over them is moved on, and told what their records do not say."""


class ThisMachine:
    """Runs one trial at a time, here."""

    def check(self, trials: Sequence[Trial]) -> None:
        """Refuse trials that this machine cannot run, by an `InputError`."""
        from dsstudy.launching.machine import Machine
        from dsstudy.launching.placement import problems

        machine = Machine.here()
        for trial in trials:
            if found := problems(trial, machine):
                raise InputError(f"trial {trial.name}: {found[0]}; nothing was started")

    def run(self, study: Study, trials: Sequence[Trial], bar: tqdm) -> None:
        """Run trials one after the other, each by papermill in a kernel of its own."""
        for trial in trials:
            with _progress_beside(Record(trial.folder), trial.name, bar):
                if word := run_notebook(trial):
                    bar.write(f"{trial.name}: {word}")
            bar.update()


def run_study(
    study: Study,
    trials: Sequence[Trial],
    rerun_failed: bool = False,
    place: Runner | None = None,
) -> dict[str, str]:
    """Run what is left of a study's trials, each by papermill in a kernel of its own.

    Parameters
    ----------
    study
        The whole study; its list of trials is noted in its folder, for `study_states`.
    trials
        Those of its trials to run.
    rerun_failed
        Run those again that failed before; otherwise they are left as they are.
    place
        Where to run them; on this machine, if nothing is said.

    Returns
    -------
    dict
        The state of each of the trials at the end, by name.

    Raises
    ------
    InputError
        One of the trials cannot be run there, the study's folder cannot be written, or
        another process runs the study: nothing was started.
    """
    names = [trial.name for trial in trials]
    again = ("left", "unfinished", *(["failed"] if rerun_failed else []))

    def to_run() -> list[Trial]:
        states = read_states(study.folder, study.name, names)
        return [trial for trial in trials if states[trial.name] in again]

    place = place or ThisMachine()
    place.check(to_run())
    with _holding_study(study.folder):
        write_study(study)
        left = to_run()
        with tqdm(total=len(left), desc=study.name, unit="trial") as bar:
            place.run(study, left, bar)
        return read_states(study.folder, study.name, names)


@contextlib.contextmanager
def _holding_study(folder: Path) -> Iterator[None]:
    """Hold the study's folder, so that no other process runs the study meanwhile."""
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
def _progress_beside(record: Record, name: str, bar: tqdm) -> Iterator[None]:
    """Show beside the bar over trials how far the current one has come."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            progress = record.progress()
            where = "starting"
            if progress:
                loss = progress["loss"]
                where = (
                    f"epoch {progress['epoch']}/{progress['epochs']} step {progress['step']}"
                    f"/{progress['steps']} loss {'not finite' if loss is None else f'{loss:.3f}'}"
                )
            bar.set_postfix_str(f"{name}: {where}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
