"""Records as tidy frames: trials, epochs, and the paper's 42 cells."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy import paper
from dsstudy.record import Record, read_lines
from dsstudy.study import published_folder
from dsstudy.trial import ARCHITECTURES, PLACES, InputError, Trial, project_root

CELL = ["architecture", "engine", "setting"]
"""What our trials and the paper's numbers are joined on."""


# Reading


def study_folder(study: str | Path) -> Path:
    """Find a study's records.

    Parameters
    ----------
    study
        ``runs/<study>`` or ``book/results/<study>``: absolute, or relative to the project's
        folder, and ``runs/`` to ``$DSSTUDY_RUNS`` where that is set.

    Raises
    ------
    InputError
        Nothing was recorded there.
    """
    path = Path(study).expanduser()
    runs = os.environ.get("DSSTUDY_RUNS")
    if runs and path.parts[:1] == ("runs",):
        path = Path(runs).joinpath(*path.parts[1:])
    path = (project_root() / path).absolute()
    if not (path / "trials.jsonl").exists() and not any(path.glob("*/trial.json")):
        name = path.name or "demo"
        raise InputError(
            f"study={study} holds no records ({path}): run the study first, 'dsstudy run "
            f"parameters/{name}.yaml', or set study to runs/<study> or book/results/<study>"
        )
    return path


def about(path: Path) -> dict[str, Any]:
    """Return a study's ``study.json``: name, file, overrides, trials; empty where there is none."""
    file = path / "study.json"
    return json.loads(file.read_text()) if file.exists() else {}


def strangers(path: Path) -> list[str]:
    """Return the names of records that the study has no trial for: left from other parameters."""
    known = about(path).get("trials")
    if (path / "trials.jsonl").exists():
        names = [row["name"] for row in read_lines(path / "trials.jsonl")]
    else:
        names = [trial.name for trial in (Record(f).trial() for f in _folders(path)) if trial]
    return [name for name in names if known is not None and name not in known]


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
        trial without a result has the status ``unfinished``. Where ``dsstudy time`` measured the
        study, ``timed_seconds_per_epoch`` is its estimate, and wins over the trial's own time.

    Raises
    ------
    InputError
        There are no records.

    Notes
    -----
    Where a ``study.json`` lists the study's trials, only these are loaded; `strangers` names the
    others.
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
    rows: dict[str, list[dict[str, Any]]] = {}
    for source in _sources(Path(path)):
        rows |= _epochs(source)
    # A study that has just begun has no epochs, but the frame has its columns all the same.
    columns = ["name", "setting", *Trial.model_fields, "epoch", "test_accuracy"]
    flat = [row for name in sorted(rows) for row in rows[name]]
    return pd.DataFrame(flat) if flat else pd.DataFrame(columns=columns, dtype=float)


def _sources(path: Path) -> list[Path]:
    """Return where a study's records lie, the ones that win last.

    Trials that were published, perhaps from another machine, count as done for ``dsstudy run``:
    so they belong to a study's folder in ``runs/`` too.
    """
    committed = published_folder(about(path).get("study", "none"))
    return [committed, path] if (committed / "trials.jsonl").exists() else [path]


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for source in _sources(path):
        rows |= _trials(source)
        for time in read_lines(source / "times.jsonl"):
            if time["name"] in rows and time["timing"] == "exclusive":
                rows[time["name"]]["timed_seconds_per_epoch"] = time["seconds_per_epoch_estimate"]
    return [rows[name] for name in sorted(rows)]


def _trials(path: Path) -> dict[str, dict[str, Any]]:
    unfinished = {"status": "unfinished"}
    if (path / "trials.jsonl").exists():
        rows = [_identity(row) | unfinished | row for row in _published(path)]
    else:
        rows = [_identity(t) | (record.result() or unfinished) for record, t in _records(path)]
    return {row["name"]: row for row in rows}


def _epochs(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the epochs of each trial, with its parameters."""
    epochs: dict[str, list[dict[str, Any]]] = {}
    if (path / "trials.jsonl").exists():
        trials = {row["name"]: _identity(row) for row in _published(path)}
        for row in read_lines(path / "epochs.jsonl"):
            if row["name"] in trials:
                epochs.setdefault(row["name"], []).append(trials[row["name"]] | row)
        return epochs
    return {
        Trial(**trial).name: [_identity(trial) | epoch for epoch in record.epochs()]
        for record, trial in _records(path)
    }


def _published(path: Path) -> list[dict[str, Any]]:
    known = about(path).get("trials")
    rows = read_lines(path / "trials.jsonl")
    return [row for row in rows if known is None or row["name"] in known]


def _records(path: Path) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Yield the records at a path (one trial's folder, or a study's), with their parameters."""
    known = about(path).get("trials")
    found = False
    for record in map(Record, _folders(path)):
        trial = record.trial()
        if trial is not None and (known is None or trial.name in known):
            found = True
            yield record, trial.model_dump()
    if not found:
        raise InputError(
            f"{path} holds no records: give a study's folder, runs/<study> or book/results/<study>"
        )


def _folders(path: Path) -> list[Path]:
    return [path] if (path / "trial.json").exists() else sorted(path.glob("*/"))


def _identity(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return name, setting and all parameters; those that an older record lacks by default."""
    known = {name: value for name, value in parameters.items() if name in Trial.model_fields}
    trial = Trial(**known)
    return {"name": trial.name, "setting": trial.setting, **trial.model_dump()}


# The 42 cells


def with_states(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the study's trials that belong to the paper's 42 cells, and which of them count.

    Parameters
    ----------
    results
        As `load_results` returns them.
    column
        ``best_accuracy`` or ``seconds_per_epoch``.

    Returns
    -------
    pandas.DataFrame
        ``architecture``, ``engine``, ``setting``, ``seed``, ``value`` and ``state``:
        ``completed`` where the value counts, ``shared`` for a time that something else on the
        machine may have stretched, or the word for why there is none.

    Raises
    ------
    InputError
        Two trials of one cell differ in more than their seed, so that no mean makes sense.
    """
    inside = results[pd.MultiIndex.from_frame(results[CELL]).isin(paper.CELLS)]
    for cell, trials in inside.groupby(CELL):
        _check_alike(cell, trials)
    kept = [*CELL, "seed", column, "status", "timing", "timed_seconds_per_epoch"]
    frame = inside.reindex(columns=kept)
    frame = frame.rename(columns={column: "value", "status": "state"}).astype({"value": float})
    if column == "seconds_per_epoch":
        alone = frame["timed_seconds_per_epoch"].astype(float)
        shared = (frame["timing"] != "exclusive") & alone.isna()
        frame["value"] = alone.fillna(frame["value"])
        frame["state"] = frame["state"].mask((frame["state"] == "completed") & shared, "shared")
    return frame.drop(columns=["timing", "timed_seconds_per_epoch"])


def _check_alike(cell: Any, trials: pd.DataFrame) -> None:
    identity = [name for name in Trial.model_fields if name not in (*PLACES, "seed")]
    differing = [name for name in identity if trials[name].astype(str).nunique() > 1]
    if differing:
        raise InputError(
            f"the study holds several trials for {paper.label(*cell)}, which differ in "
            f"{', '.join(differing)} and not in the seed alone: give a study in which each of the "
            "paper's 42 trials is one set of parameters"
        )


def cells(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the paper's 42 cells with our value and the published one.

    Parameters
    ----------
    results
        As `load_results` returns them.
    column
        ``best_accuracy`` or ``seconds_per_epoch``.

    Returns
    -------
    pandas.DataFrame
        42 rows: ``architecture``, ``engine``, ``setting``, ``published``; ``value`` and
        ``deviation``, mean and standard deviation over the seeds that count; ``seeds``, their
        number; ``state`` (``completed``, ``shared``, or why there is no value: ``missing``,
        ``failed``, ``unfinished``, ``diverged``) and ``note`` on seeds that do not count.
    """
    trials = with_states(results, column)
    rows = [_cell(group) for _, group in _by_cell(trials)]
    published = paper.published(column).rename(columns={"value": "published"})
    return pd.concat([published, pd.DataFrame(rows)], axis=1)


def _by_cell(trials: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    for cell in paper.CELLS:
        yield cell, trials[(trials[CELL] == list(cell)).all(axis=1)]


def _cell(trials: pd.DataFrame) -> dict[str, Any]:
    states = trials["state"].value_counts()
    counting = next((state for state in ("completed", "shared") if state in states), None)
    values = trials.loc[trials["state"] == counting, "value"]
    rest = [f"{n} of {len(trials)} {state}" for state, n in states.items() if state != counting]
    return {
        "value": values.mean(),
        "deviation": values.std(),
        "seeds": len(values),
        "state": counting or ", ".join(states.index) or "missing",
        "note": ", ".join(rest) if counting else "",
    }


def pairs(results: pd.DataFrame) -> pd.DataFrame:
    """Return the seconds per epoch with the two engines side by side.

    Parameters
    ----------
    results
        As `load_results` returns them.

    Returns
    -------
    pandas.DataFrame
        21 rows by ``architecture`` and ``setting``: the columns of `cells`, each for both
        engines, and ``("ratio", "ours")`` and ``("ratio", "paper")``, DeepSpeed's time over
        normal training's. Ours is missing unless both times are ``completed``.
    """
    frame = cells(results, "seconds_per_epoch")
    frame = frame.pivot(index=["architecture", "setting"], columns="engine")
    frame = frame.loc[[(a, s) for a in ARCHITECTURES for s in paper.SETTINGS]]
    counts = (frame["state"] == "completed").all(axis=1)
    for name, column in (("ours", "value"), ("paper", "published")):
        frame["ratio", name] = frame[column, "deepspeed"] / frame[column, "normal"]
    frame["ratio", "ours"] = frame["ratio", "ours"].where(counts)
    return frame
