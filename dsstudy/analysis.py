"""Records as tidy tables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.record import Record
from dsstudy.trial import InputError, Trial


def load_results(path: str | Path) -> pd.DataFrame:
    """Load the trials of a study, one row each.

    Parameters
    ----------
    path
        ``runs/<study>``, a folder of records, or ``book/results/<study>``, their published copy.

    Returns
    -------
    pandas.DataFrame
        A column for ``name``, ``setting``, every trial parameter and every field of the result; a
        trial without a result has the status ``unfinished``.

    Raises
    ------
    InputError
        There are no records.
    """
    return pd.DataFrame(_rows(Path(path)))


def load_epochs(path: str | Path) -> pd.DataFrame:
    """Load the epochs of a study's trials, one row each.

    Parameters
    ----------
    path
        As for `load_results`.

    Returns
    -------
    pandas.DataFrame
        The fields of ``epochs.jsonl``, and before them ``name``, ``setting`` and every trial
        parameter.

    Raises
    ------
    InputError
        There are no records.
    """
    path = Path(path)
    if (path / "trials.jsonl").exists():
        trials = {row["name"]: row for row in _read_lines(path / "trials.jsonl")}
        epochs = _read_lines(path / "epochs.jsonl")
        return pd.DataFrame([_identity(trials[row["name"]]) | row for row in epochs])
    return pd.DataFrame(
        [_identity(trial) | epoch for record, trial in _records(path) for epoch in record.epochs()]
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if (path / "trials.jsonl").exists():
        return [_identity(row) | row for row in _read_lines(path / "trials.jsonl")]
    return [
        _identity(trial) | (record.result() or {"status": "unfinished"})
        for record, trial in _records(path)
    ]


def _records(path: Path) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Yield the records at a path (one trial's folder, or a study's), with their parameters."""
    folders = [path] if (path / "trial.json").exists() else sorted(path.glob("*/"))
    found = False
    for record in map(Record, folders):
        trial = record.trial()
        if trial is not None:
            found = True
            yield record, trial.model_dump()
    if not found:
        raise InputError(
            f"{path} holds no records: give a study's folder, runs/<study> or book/results/<study>"
        )


def _identity(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return name, setting and all parameters; those that an older record lacks by default."""
    known = {name: value for name, value in parameters.items() if name in Trial.model_fields}
    trial = Trial(**known)
    return {"name": trial.name, "setting": trial.setting, **trial.model_dump()}


def _read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
