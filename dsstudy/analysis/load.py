"""Records as tidy frames of trials and epochs."""

import itertools
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.analysis.columns import Columns, columns_beside
from dsstudy.errors import InputError, naming_file
from dsstudy.paths import published_folder
from dsstudy.records.reading import read_lines
from dsstudy.records.record import Record
from dsstudy.records.study_folder import read_study_json
from dsstudy.spec.trial import Trial


def load_results(path: str | Path) -> pd.DataFrame:
    """Load the trials of a study, one row each.

    Parameters
    ----------
    path
        ``runs/<study>``, a folder of records, or ``book/results/<study>``, their published copy.

    Returns
    -------
    pandas.DataFrame
        Columns: ``name``, ``setting``, every trial parameter, every field of the result. A trial
        without a result has the status ``unfinished``. If ``dsstudy time`` measured the study:
        ``timed_seconds_per_epoch``, its estimate, which takes precedence over the trial's own time;
        ``timed_rounds``, the estimates of its rounds of ``timed_steps`` steps; ``timed_on``, the
        hardware.

    Raises
    ------
    InputError
        There are no records.

    Notes
    -----
    If a ``study.json`` lists the study's trials, only these are loaded; `records_outside_study`
    names the others.
    """
    rows = Columns()
    for row in _result_rows(Path(path)):
        rows.add(row)
    return _by_name(rows.frame())


def load_epochs(path: str | Path) -> pd.DataFrame:
    """Load the epochs of a study's trials, one row each.

    Parameters
    ----------
    path
        As for `load_results`.

    Returns
    -------
    pandas.DataFrame
        Columns: ``name``, ``setting``, every trial parameter, the fields of ``epochs.jsonl``.

    Raises
    ------
    InputError
        There are no records.
    """
    trials, epochs, counts = Columns(), Columns(), []
    for trial, lines in _trials_and_epochs(Path(path)):
        trials.add(trial)
        counts.append(0)
        for line in lines:
            epochs.add(line)
            counts[-1] += 1
    if not any(counts):
        # A study that has just started has no epochs, but its frame has the same columns.
        columns = ["name", "setting", *Trial.model_fields, "epoch", "test_accuracy"]
        return pd.DataFrame(columns=columns, dtype=float)
    return _by_name(columns_beside(trials.frame(), counts, epochs.frame()))


def _by_name(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty or frame["name"].is_monotonic_increasing:  # nearly always, so no copy
        return frame
    return frame.sort_values("name", kind="stable", ignore_index=True)


def _sources(path: Path) -> list[Path]:
    """Return the folders of a study's records, in order of precedence.

    Published trials, perhaps from another machine, count as done for ``dsstudy run``, so they
    belong to a study's folder in ``runs/`` too.
    """
    committed = published_folder(read_study_json(path).get("study", "none"))
    if not (committed / "trials.jsonl").exists() or committed.samefile(path):
        return [path]
    return [path, committed]


def _result_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every trial of a study once: parameters, result, and times measured alone."""
    seen: set[str] = set()
    times: dict[str, dict[str, Any]] = {}
    environments: dict[str, Any] = {}
    for source in _sources(path):
        times = _exclusive_times(source) | times
        for row in _trial_rows(source, seen):
            seen.add(row["name"])
            if environment := row.get("environment"):  # most environments are equal and kept once
                row["environment"] = environments.setdefault(repr(environment), environment)
            yield row | times.get(row["name"], {})


def _exclusive_times(path: Path) -> dict[str, dict[str, Any]]:
    return {
        time["name"]: _timed_columns(time)
        for time in read_lines(path / "times.jsonl")
        if time["timing"] == "exclusive"
    }


def _timed_columns(time: dict[str, Any]) -> dict[str, Any]:
    rounds = [seconds * time["steps_per_epoch"] for seconds in time["seconds_per_step"]]
    return {
        "timed_seconds_per_epoch": time["seconds_per_epoch_estimate"],
        "timed_rounds": rounds,
        "timed_steps": time["steps"],
        "timed_on": time.get("environment", {}).get("hardware"),
    }


def _trial_rows(path: Path, seen: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the trials of one source that are not in `seen`."""
    unfinished = {"status": "unfinished"}
    if (path / "trials.jsonl").exists():
        for row in _published_rows(path):
            if row["name"] not in seen:
                yield _identity(_row_trial(path, row), row["name"]) | unfinished | row
    else:
        for record, trial, name in _records(path):
            yield _identity(trial, name) | (record.result() or unfinished)


def _trials_and_epochs(path: Path) -> Iterator[tuple[dict[str, Any], Iterable[dict[str, Any]]]]:
    """Yield the parameters and the epochs of each trial of a study."""
    seen: set[str] = set()
    for source in _sources(path):
        if (source / "trials.jsonl").exists():
            rows = (row for row in _published_rows(source) if row["name"] not in seen)
            trials = {row["name"]: _identity(_row_trial(source, row), row["name"]) for row in rows}
            seen |= trials.keys()
            if not trials:  # the study's folder has all of them
                continue
            lines = read_lines(source / "epochs.jsonl", "name")
            for name, some in itertools.groupby(lines, key=itemgetter("name")):
                if name in trials:
                    yield trials[name], some
        else:
            for record, trial, name in _records(source):
                seen.add(name)
                yield _identity(trial, name), record.epochs()


def _published_rows(path: Path) -> Iterator[dict[str, Any]]:
    known = _planned_names(path)
    for row in read_lines(path / "trials.jsonl"):
        if known is None or row["name"] in known:
            yield row


def _row_trial(path: Path, row: dict[str, Any]) -> Trial:
    """Return the trial of a published row; parameters that an older row lacks are defaults."""
    with naming_file(path / "trials.jsonl"):
        return Trial(**{name: row[name] for name in Trial.model_fields if name in row})


def _records(path: Path) -> Iterator[tuple[Record, Trial, str]]:
    """Yield the records at a path (one trial's folder, or a study's), with trial and name."""
    known = _planned_names(path)
    seen: set[str] = set()
    for record in map(Record, _folders(path)):
        trial = record.trial()
        if trial is None:
            continue
        name = trial.name
        if name not in seen and (known is None or name in known):
            seen.add(name)
            yield record, trial, name
    if not seen:
        raise InputError(
            f"{path} holds no records: give a study's folder, runs/<study> or book/results/<study>"
        )


def _planned_names(path: Path) -> set[str] | None:
    """Return the names of a study's trials, or None if they are not known."""
    names = read_study_json(path).get("trials")
    return None if names is None else set(names)


def _folders(path: Path) -> list[Path]:
    return [path] if (path / "trial.json").exists() else sorted(path.glob("*/"), key=str)


def _identity(trial: Trial, name: str) -> dict[str, Any]:
    return {"name": name, "setting": trial.setting, **trial.model_dump()}
