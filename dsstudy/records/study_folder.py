"""A study's folder: its trials, and the state of each."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError, naming_file
from dsstudy.paths import check_name, project_root, published_folder
from dsstudy.records.files import write_text
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.reading import read_lines, read_object
from dsstudy.records.record import FINISHED, Record
from dsstudy.spec.study import Study


def read_study_json(folder: Path) -> dict[str, Any]:
    """Return a study's ``study.json`` (name, title, file, overrides, trials, cells), or {}."""
    file = folder / "study.json"
    content = read_object(file)
    if content is None:
        return {}
    with naming_file(file):  # another machine may have written it; its names become folders
        for name in (content["study"], *content.get("trials", ())):
            check_name(name)
    return content


def study_name(folder: Path) -> str:
    """Return the name of a folder's study; by default the folder's own name."""
    return read_study_json(folder).get("study", folder.name)


def study_title(folder: Path) -> str:
    """Return what the book calls a folder's study; by default its name."""
    return read_study_json(folder).get("title", study_name(folder))


DONE = (*FINISHED, "published")
"""States of a trial that `dsstudy run` skips."""

STATES = (*DONE, "running", "failed", "unfinished", "left")
"""The states of a trial; ``unfinished`` was started and is not running now."""


def write_study(study: Study) -> None:
    """Write the study's trials and the user's overrides to ``study.json`` in its folder."""
    study.folder.mkdir(parents=True, exist_ok=True)
    content = {
        "study": study.name,
        "title": study.title,
        "file": study.file.name,
        "overrides": study.overrides,
        "trials": [trial.name for trial in study.trials],
        # The book uses these to name a missing trial.
        "cells": [[t.name, t.architecture, t.engine, t.setting, t.seed] for t in study.trials],
        "labels": study.labels,
    }
    write_text(study.folder / "study.json", json.dumps(content, indent=1))


def study_states(folder: str | Path) -> dict[str, str]:
    """Return the state of every trial of a folder's study, one of `STATES`.

    Raises
    ------
    InputError
        No study was run there.
    """
    folder = Path(folder)
    content = required_study_json(folder)
    return read_states(folder, content["study"], content.get("trials", ()))


def records_outside_study(folder: str | Path) -> list[str]:
    """Return the names of records in a study's folder that are not its trials.

    They are left over from a study whose parameters were changed.
    """
    folder = Path(folder)
    known = read_study_json(folder).get("trials")
    if known is None:
        return []
    if (folder / "trials.jsonl").exists():
        found = [row["name"] for row in read_lines(folder / "trials.jsonl")]
    else:
        found = [file.parent.name for file in folder.glob("*/trial.json")]
    return sorted({*found} - {*known})


def required_study_json(folder: Path) -> dict[str, Any]:
    """Return a study's ``study.json``; raise an `InputError` if there is none."""
    content = read_study_json(folder)
    if not content:
        raise InputError(
            f"{folder} is not a study's folder: give one that dsstudy run made, such as runs/demo"
        )
    return content


def read_states(folder: Path, study: str, names: Sequence[str]) -> dict[str, str]:
    """Return the state of some trials of a study by name, published ones included."""
    rows = read_lines(published_folder(study) / "trials.jsonl")
    published = {row["name"]: {"status": row.get("status")} for row in rows}
    return {name: trial_state(Record(folder / name), published.get(name)) for name in names}


def trial_state(record: Record, published: dict[str, Any] | None = None) -> str:
    """Return a trial's state, one of `STATES`, from its record and its published result."""
    result = record.result()
    if result and result["status"] in FINISHED:
        return result["status"]
    if published and published.get("status") in FINISHED:
        return "published"
    if result:
        return "unfinished" if result.get("interrupted") else result["status"]
    if folder_holder(record.folder):
        return "running"
    return "unfinished" if (record.folder / "trial.json").exists() else "left"


def states_text(states: dict[str, str]) -> str:
    """Count the states in words: ``3 completed, 1 failed``."""
    counts = Counter(states.values())
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no trials"


def find_study(study: str | Path) -> Path:
    """Find the folder of a study's records.

    Parameters
    ----------
    study
        ``runs/<study>`` or ``book/results/<study>``: absolute, or relative to the project's folder;
        ``runs/`` relative to ``$DSSTUDY_RUNS`` if that is set.

    Raises
    ------
    InputError
        There are no records.
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
