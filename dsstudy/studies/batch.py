"""Running a study: papermill per trial, one at a time, resumed, kept going past failures."""

import contextlib
import json
import shlex
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from dsstudy.launching.machine import memory_kills
from dsstudy.records.folder_lock import held, holder
from dsstudy.records.published_copy import write_published
from dsstudy.records.reading import read_lines, rows_and_lines
from dsstudy.records.record import FINISHED, Record, write_text
from dsstudy.spec.study import Study, about, published_folder
from dsstudy.spec.trial import TEXTS, InputError, Trial, project_root

DONE = (*FINISHED, "published")
"""The states of a trial that is not to be run here."""

STATES = (*DONE, "running", "failed", "unfinished", "left")
"""What a trial of a study can be; ``unfinished`` was begun and is not running now."""

PATIENCE = 600
"""Seconds for a kernel to load its libraries; of one that has died, papermill knows at once."""


class Place(Protocol):
    """Where a study's trials are run: on this machine, or on others."""

    def check(self, trials: Sequence[Trial]) -> None:
        """Refuse trials that cannot be run there, by an `InputError`."""

    def run(self, study: Study, trials: Sequence[Trial], bar: tqdm) -> None:
        """Run trials; the bar over them is moved on, and told what their records do not say."""


class ThisMachine:
    """Runs one trial at a time, here."""

    def check(self, trials: Sequence[Trial]) -> None:
        """Refuse trials that this machine cannot run, by an `InputError`."""
        from dsstudy.launching.machine import Machine, problems

        machine = Machine.here()
        for trial in trials:
            if found := problems(trial, machine):
                raise InputError(f"trial {trial.name}: {found[0]}; nothing was started")

    def run(self, study: Study, trials: Sequence[Trial], bar: tqdm) -> None:
        """Run trials one after the other, each by papermill in a kernel of its own."""
        for trial in trials:
            with _watched(Record(trial.folder), trial.name, bar):
                if word := run_notebook(trial):
                    bar.write(f"{trial.name}: {word}")
            bar.update()


def run_study(
    study: Study,
    trials: Sequence[Trial],
    rerun_failed: bool = False,
    place: Place | None = None,
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
        states = _states(study.folder, study.name, names)
        return [trial for trial in trials if states[trial.name] in again]

    place = place or ThisMachine()
    place.check(to_run())
    with _alone(study.folder):
        write_study(study)
        left = to_run()
        with tqdm(total=len(left), desc=study.name, unit="trial") as bar:
            place.run(study, left, bar)
        return _states(study.folder, study.name, names)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the study's folder, so that no other process runs the study meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(folder))
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror}): free some space there, or set "
                "DSSTUDY_RUNS to a folder of your own"
            ) from None
        yield


def write_study(study: Study) -> None:
    """Note in the study's folder which trials it has, and what the user set otherwise."""
    study.folder.mkdir(parents=True, exist_ok=True)
    content = {
        "study": study.name,
        "file": study.file.name,
        "overrides": study.overrides,
        "trials": [trial.name for trial in study.trials],
        # What the book needs to name a trial that is missing.
        "cells": [[t.name, t.architecture, t.engine, t.setting, t.seed] for t in study.trials],
        "labels": study.labels,
    }
    write_text(study.folder / "study.json", json.dumps(content, indent=1))


def study_states(folder: str | Path) -> dict[str, str]:
    """Return the state of every trial of the study that is run in a folder, one of `STATES`.

    Raises
    ------
    InputError
        No study was run there.
    """
    folder = Path(folder)
    content = _about(folder)
    return _states(folder, content["study"], content.get("trials", ()))


def strangers(folder: str | Path) -> list[str]:
    """Return the names of records in a study's folder that belong to none of its trials.

    They are what is left of a study whose parameters were changed.
    """
    known = set(_about(Path(folder)).get("trials", ()))
    found = (file.parent.name for file in Path(folder).glob("*/trial.json"))
    return sorted(name for name in found if name not in known)


def publish(folder: str | Path) -> Path:
    """Write the finished trials of a study's folder into its small, committed copy.

    Trials that were published before, perhaps from another machine, stay.

    Returns
    -------
    Path
        The folder that holds ``trials.jsonl``, ``epochs.jsonl`` and ``study.json``.
    """
    folder = Path(folder)
    content = _about(folder)
    target = published_folder(content["study"])
    measured = {
        file: {
            row["name"]: line.decode()
            for place in (target, folder)
            for row, line in rows_and_lines(place / file)
        }
        for file in ("times.jsonl", "profiles.jsonl")
    }
    write_published(folder, target)
    write_text(target / "study.json", json.dumps(content, indent=1))
    for file, lines in measured.items():
        if lines:
            write_text(target / file, "".join(f"{line}\n" for line in lines.values()))
    return target


def trial_command(trial: Trial) -> list[str]:
    """Return the papermill command line that runs a trial anywhere."""
    command = ["papermill", "notebooks/trial.ipynb", f"{trial.folder}/trial.ipynb"]
    for name, value in trial.model_dump().items():
        # -r: papermill would take a folder that is called 2026 for a number.
        command += ["-r" if name in TEXTS else "-p", name, str(value)]
    return command


def shell_line(trial: Trial) -> str:
    """Return `trial_command` as a line for ``sh``, in the project's folder."""
    # papermill writes into no folder that is not there.
    return f"{shlex.join(['mkdir', '-p', str(trial.folder)])} && {shlex.join(trial_command(trial))}"


def run_notebook(trial: Trial) -> str:
    """Execute the trial's notebook, and see to it that the record states how it ended.

    Returns
    -------
    str
        What the user should know and the record does not say; mostly nothing.
    """
    import papermill

    from dsstudy.launching.warm_kernels import WarmKernelManager

    record, killed = Record(trial.folder), memory_kills()
    record.folder.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            project_root() / "notebooks" / "trial.ipynb",
            record.folder / "trial.ipynb",
            parameters=trial.model_dump(),
            progress_bar=False,
            request_save_on_cell_execute=False,
            kernel_manager_class=WarmKernelManager,
            start_timeout=PATIENCE,
            shutdown_kernel="immediate",  # the record is written: no waiting for torch's way out
        )
    except Exception as error:
        return _after(error, trial, record, out_of_memory=memory_kills() > killed)
    return ""


def _after(error: Exception, trial: Trial, record: Record, out_of_memory: bool) -> str:
    """See what a notebook's error means for the trial, and note it where nobody else did."""
    words = str(error).strip().splitlines() or [type(error).__name__]
    if record.finished:
        return f"trained to its end, but its notebook was not: {words[-1]} (see trial.ipynb there)"
    if record.result() is not None:
        return ""  # the trial failed, and says why itself
    # What a cell raises comes as an error of papermill's own; one of these, from its client.
    if isinstance(error, RuntimeError) and "died" in words[-1]:
        why = "the notebook's kernel was killed"
        if out_of_memory:
            why += " by the system, which had run out of memory"
        words = [f"{why}; run the study again to go on"]
    outside = isinstance(error, RuntimeError | OSError)  # not the trial's own doing
    try:
        with held(record.folder):
            # Whatever the trial says: what it has recorded by now stays.
            record.start(trial.model_copy(update={"overwrite": False}))
            record.fail("\n".join(words), interrupted=outside)
    except (InputError, OSError):
        return words[-1]  # somebody else's record, or a disk that takes no word more
    return ""


@contextlib.contextmanager
def _watched(record: Record, name: str, bar: tqdm) -> Iterator[None]:
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


def _about(folder: Path) -> dict[str, Any]:
    content = about(folder)
    if not content:
        raise InputError(
            f"{folder} is no study's folder: give one that dsstudy run made, as runs/demo"
        )
    return content


def _states(folder: Path, study: str, names: Sequence[str]) -> dict[str, str]:
    rows = read_lines(published_folder(study) / "trials.jsonl")
    published = {row["name"]: {"status": row.get("status")} for row in rows}
    return {name: state(Record(folder / name), published.get(name)) for name in names}


def state(record: Record, published: dict[str, Any] | None = None) -> str:
    """Return a trial's state, one of `STATES`, from its record and its published result."""
    result = record.result()
    if result is not None and result["status"] in FINISHED:
        return result["status"]
    if published is not None and published.get("status") in FINISHED:
        return "published"
    if result is not None:
        return "unfinished" if result.get("interrupted") else result["status"]
    if holder(record.folder):
        return "running"
    return "unfinished" if (record.folder / "trial.json").exists() else "left"


def summary(states: dict[str, str]) -> str:
    """Count the states in words: ``3 completed, 1 failed``."""
    counts = Counter(states.values())
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no trials"
