"""Where a study's numbers come from: machine, data, versions, and what was set otherwise."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.analysis.cells import CELL, load_trials, of_rounds, timed_alone
from dsstudy.analysis.load import load_results, strangers
from dsstudy.paper import printed
from dsstudy.records.reading import read_lines
from dsstudy.spec.study import about, name_of
from dsstudy.spec.trial import project_root

SYNTHETIC = (
    "These numbers come from synthetic images, drawn by the program to show that everything works. "
    "They say nothing about CIFAR-10, about the paper, or about DeepSpeed."
)
"""What stands above every table and figure of a study on drawn images."""

NAMED = 6
"""So many trials in no cell of the paper's are named; more are counted."""


def any_synthetic(folders: Iterable[Path]) -> bool:
    """Say whether any of some studies was trained on drawn images."""
    return any(is_synthetic(load_results(folder)) for folder in folders)


def study_title(folder: Path) -> str:
    """Return a study's name, and beside it whether its images were drawn."""
    return name_of(folder) + " (synthetic images)" * any_synthetic([folder])


def is_synthetic(results: pd.DataFrame) -> bool:
    """Say whether any of the study's trials was trained on drawn images."""
    return bool((results["dataset"] == "synthetic").any())


def facts(path: str | Path) -> dict[str, str]:
    """Say where a study's numbers come from.

    Parameters
    ----------
    path
        As for `load_results`. A ``study.json`` there adds the study's name, file and overrides.

    Returns
    -------
    dict
        Texts by title: trials, hardware, data set, epochs, seeds, versions, dates, commit ...
    """
    path, results = Path(path), load_results(path)
    known, found = about(path), places(results)
    by_engine = results.sort_values("engine").to_dict("records")
    return {
        "study": f"{known.get('study', path.name)} ({known.get('file', 'no study file noted')})",
        "records": records(path),
        "trials": _trials_text(load_trials(path)),
        "hardware": _each(hardware(place["hardware"]) for place in found),
        "device": _each(place["device"] for place in found),
        "images": _each(_images(place["dataset"]) for place in found),
        "image size": _each(f"{size} x {size}" for size in sorted(results["image_size"])),
        "epochs": _each(sorted(results["epochs"])),
        "seeds": _each(
            f"{seed} ({count} trials)"
            for seed, count in results["seed"].value_counts().sort_index().items()
        ),
        "settings": _each(map(_settings, by_engine)),
        "engines": _each(map(_engine, by_engine)),
        "stand-ins": _each(f"{m} for {printed.NAMES.get(a, a)}" for a, m in stand_ins(results)),
        "times": _times(results),
        "profiles": _profiles(path),
        "versions": _each(", ".join(f"{k} {v}" for k, v in p["software"].items()) for p in found),
        "allocator": _each(
            f"{k}={v}" for place in found for k, v in place.get("allocator", {}).items()
        ),
        "dates": _dates(results.get("finished_at", pd.Series()).dropna()),
        "commit": _each(
            place["commit"].replace("+changes", " with uncommitted changes") for place in found
        ),
        "left out": _each(f"{name}, not a trial of the study" for name in strangers(path)),
        "overrides": _each(f"{k}={v}" for k, v in known.get("overrides", {}).items()),
    }


def records(path: str | Path) -> str:
    """Name a study's records as the repository does: a file, or the folder that holds a run."""
    path = Path(path).absolute()
    file = path / "trials.jsonl" if (path / "trials.jsonl").exists() else path
    root = project_root() if path.is_relative_to(project_root()) else path.parents[1]
    return str(file.relative_to(root))


def unfinished(path: str | Path) -> dict[str, str]:
    """Return the study's trials that have no number, by name, and why each has none."""
    trials = load_trials(path)
    rest = trials[trials["status"] != "completed"].to_dict("records")
    return {trial["name"]: _why(trial) for trial in rest}


def _why(trial: dict[str, Any]) -> str:
    words = {
        "missing": "not run yet, or not published",
        "unfinished": "begun, not finished",
        "diverged": "diverged: the loss became infinite",
    }
    if trial["status"] != "failed":
        return words[trial["status"]]
    error = str(trial.get("error") or "no word").strip().splitlines()
    return f"failed: {error[-1]}"


def _times(results: pd.DataFrame) -> str:
    if "timed_seconds_per_epoch" in results:
        timed = results[results["timed_seconds_per_epoch"].notna()]
        rounds, machines = timed["timed_rounds"].map(len), timed["timed_on"].dropna()
        return (
            f"of {len(timed)} trials measured alone, estimated from {span(rounds)} rounds of "
            f"{span(timed['timed_steps'])} steps each (dsstudy time), on "
            f"{_each(map(hardware, machines))}"
        )
    return _each(results.get("timing", pd.Series()).dropna())


def _profiles(path: Path) -> str:
    """Say how a study's steps were profiled, and where: not always where its trials trained."""
    rows = list(read_lines(path / "profiles.jsonl"))
    kinds = Counter(
        f"{row['timing']}, on {hardware(row['environment']['hardware'])}" for row in rows
    )
    return _each(f"{count} {kind}" for kind, count in kinds.items())


def places(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the environments that the records state, one a trial that has come so far."""
    if "environment" not in results:
        return []
    return list(results["environment"].dropna())


def clocks(results: pd.DataFrame) -> set[str]:
    """Return the machines, as their hardware in text, that measured the times that count."""
    if "timing" in results:
        results = of_rounds(results[timed_alone(results) & (results["status"] == "completed")])
    environments = results.get("environment", pd.Series(None, results.index, dtype=object))
    machines = environments.map(lambda place: place["hardware"], na_action="ignore")
    if "timed_on" in results:  # alone, and perhaps not where it was trained
        machines = results["timed_on"].where(results["timed_on"].notna(), machines)
    return set(machines.dropna().map(str))


def stand_ins(results: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the rows that another model than the paper's stands in for: (architecture, model)."""
    rows = results.loc[results["model"] != results["architecture"], ["architecture", "model"]]
    return list(rows.drop_duplicates().itertuples(index=False, name=None))


def _trials_text(results: pd.DataFrame) -> str:
    states = ", ".join(f"{n} {state}" for state, n in results["status"].value_counts().items())
    results = results[results["status"] != "missing"]
    inside = pd.MultiIndex.from_frame(results[CELL]).isin(printed.CELLS)
    filled = results[inside].drop_duplicates(CELL).shape[0]
    text = f"{states}; in {filled} of the paper's {len(printed.CELLS)} cells"
    outside = list(results.loc[~inside, "name"])
    if len(outside) > NAMED:
        outside = [f"{len(outside)} trials"]
    return text + (f"; in none of them: {', '.join(outside)}" if outside else "")


def hardware(hardware: dict[str, Any]) -> str:
    """Say what a machine has, as a record states it."""
    gpus = _each(f"{gpu['name']} ({gpu['memory_gib']:.0f} GiB)" for gpu in hardware["gpus"])
    count = f"{len(hardware['gpus'])} x {gpus}" if hardware["gpus"] else "no GPU"
    return (
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB, {count}"
    )


def _images(dataset: dict[str, Any]) -> str:
    return (
        f"{dataset['name']}: {dataset['train_images']:,} for training, "
        f"{dataset['test_images']:,} for testing, {dataset['classes']} classes"
        + (f", fingerprint {dataset['fingerprint']}" if "fingerprint" in dataset else "")
    )


def _engine(trial: dict[str, Any]) -> str:
    count = trial["processes"]
    return f"{trial['engine']}: {count} process{'es' * (count > 1)}, {trial['precision']}"


def span(numbers: Iterable[float], digits: str = ",.0f") -> str:
    """Write numbers as their least and their greatest, or as the one that all are."""
    given = sorted(numbers)
    return " to ".join(dict.fromkeys(f"{number:{digits}}" for number in (given[0], given[-1])))


def _settings(trial: dict[str, Any]) -> str:
    return (
        f"{trial['engine']}: batch size {trial['batch_size']}, learning rate "
        f"{trial['learning_rate']:g}, gradient clipping {trial['gradient_clipping']}"
    )


def _dates(stamps: pd.Series) -> str:
    days = sorted(stamp[:10] for stamp in stamps)
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "none"


def _each(values: Iterable[Any]) -> str:
    """Join the different values, in the order in which they come."""
    return "; ".join(dict.fromkeys(map(str, values))) or "none"
