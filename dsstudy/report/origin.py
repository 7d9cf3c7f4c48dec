"""Where a study's numbers come from: machines, images, versions, settings and overrides."""

import html
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import load_trials
from dsstudy.analysis.load import load_results
from dsstudy.analysis.provenance import any_synthetic, environments, is_synthetic, stand_ins
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.paths import project_root
from dsstudy.records.reading import read_lines
from dsstudy.records.record import Record
from dsstudy.records.study_folder import read_study_json, records_outside_study, study_title
from dsstudy.report.table_style import style_table
from dsstudy.report.wording import count_text, join_distinct, span, versions_text

SYNTHETIC = (
    "These numbers come from synthetic images, generated to show that everything works. They say "
    "nothing about CIFAR-10, about the paper, or about DeepSpeed."
)
"""The warning above a study on synthetic images."""

MOST_NAMED = 6
"""Up to this many trials outside the paper's cells are named; more are only counted."""


def marked_title(folder: Path) -> str:
    """Return a study's title, marked if its images are synthetic."""
    return study_title(folder) + " (synthetic images)" * any_synthetic([folder])


def origin_facts(path: str | Path) -> dict[str, str]:
    """Return where a study's numbers come from, as texts by title.

    Parameters
    ----------
    path
        As for `dsstudy.load_results`. A ``study.json`` there adds the study's name, file and
        overrides.
    """
    path, results = Path(path), load_results(path)
    known, found = read_study_json(path), environments(results)
    by_engine = results.sort_values("engine").to_dict("records")
    dates = results.get("finished_at", pd.Series()).dropna().str[:10]
    return {
        "study": f"{known.get('study', path.name)} ({known.get('file', 'no study file recorded')})",
        "records": records_path(path),
        "trials": _trials_text(load_trials(path)),
        "hardware": join_distinct(hardware_text(place["hardware"]) for place in found),
        "device": join_distinct(place["device"] for place in found),
        "images": join_distinct(_images_fact(place["dataset"]) for place in found),
        "image size": join_distinct(f"{size} x {size}" for size in sorted(results["image_size"])),
        "epochs": join_distinct(sorted(results["epochs"])),
        "seeds": join_distinct(
            f"{seed} ({count} trials)"
            for seed, count in results["seed"].value_counts().sort_index().items()
        ),
        "settings": join_distinct(map(_settings_fact, by_engine)),
        "engines": join_distinct(map(_engine_fact, by_engine)),
        "stand-ins": join_distinct(
            f"{m} for {printed.NAMES.get(a, a)}" for a, m in stand_ins(results)
        ),
        "times": _times_fact(results),
        "profiles": _profiles_fact(path),
        "versions": join_distinct(versions_text(place["software"]) for place in found),
        "allocator": join_distinct(
            f"{k}={v}" for place in found for k, v in place.get("allocator", {}).items()
        ),
        "dates": span(dates, "") if len(dates) else "none",
        "commit": join_distinct(
            place["commit"].replace("+changes", " with uncommitted changes") for place in found
        ),
        "left out": join_distinct(
            f"{name}, not a trial of the study" for name in records_outside_study(path)
        ),
        "overrides": join_distinct(f"{k}={v}" for k, v in known.get("overrides", {}).items()),
    }


def records_path(path: str | Path) -> str:
    """Return the path of a study's records in the project: a published file or a run's folder."""
    path = Path(path).absolute()
    file = path / "trials.jsonl" if (path / "trials.jsonl").exists() else path
    root = project_root() if path.is_relative_to(project_root()) else path.parents[1]
    return str(file.relative_to(root))


def _times_fact(results: pd.DataFrame) -> str:
    if "timed_seconds_per_epoch" in results:
        timed = results[results["timed_seconds_per_epoch"].notna()]
        rounds, machines = timed["timed_rounds"].map(len), timed["timed_on"].dropna()
        return (
            f"of {len(timed)} trials measured alone, estimated from {span(rounds)} rounds of "
            f"{span(timed['timed_steps'])} steps each (dsstudy time), on "
            f"{join_distinct(map(hardware_text, machines))}"
        )
    return join_distinct(results.get("timing", pd.Series()).dropna())


def _profiles_fact(path: Path) -> str:
    """Say how and where a study's steps were profiled: perhaps not where its trials trained."""
    rows = list(read_lines(path / "profiles.jsonl"))
    kinds = Counter(
        f"{row['timing']}, on {hardware_text(row['environment']['hardware'])}" for row in rows
    )
    return join_distinct(f"{count} {kind}" for kind, count in kinds.items())


def _trials_text(results: pd.DataFrame) -> str:
    states = ", ".join(f"{n} {state}" for state, n in results["status"].value_counts().items())
    results = results[results["status"] != "missing"]
    inside = pd.MultiIndex.from_frame(results[CELL]).isin(printed.CELLS)
    filled = results[inside].drop_duplicates(CELL).shape[0]
    text = f"{states}; in {filled} of the paper's {len(printed.CELLS)} cells"
    outside = list(results.loc[~inside, "name"])
    if len(outside) > MOST_NAMED:
        outside = [f"{len(outside)} trials"]
    return text + (f"; outside these cells: {', '.join(outside)}" if outside else "")


def hardware_text(hardware: dict[str, Any]) -> str:
    """Describe a machine by the hardware in its record."""
    gpus = join_distinct(f"{gpu['name']} ({gpu['memory_gib']:.0f} GiB)" for gpu in hardware["gpus"])
    count = f"{len(hardware['gpus'])} x {gpus}" if hardware["gpus"] else "no GPU"
    return (
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB, {count}"
    )


def _images_fact(dataset: dict[str, Any]) -> str:
    return (
        f"{dataset['name']}: {dataset['train_images']:,} for training, "
        f"{dataset['test_images']:,} for testing, {dataset['classes']} classes"
        + (f", fingerprint {dataset['fingerprint']}" if "fingerprint" in dataset else "")
    )


def _engine_fact(trial: dict[str, Any]) -> str:
    processes = count_text(trial["processes"], "process", "es")
    return f"{trial['engine']}: {processes}, {trial['precision']}"


def _settings_fact(trial: dict[str, Any]) -> str:
    return (
        f"{trial['engine']}: batch size {trial['batch_size']}, learning rate "
        f"{trial['learning_rate']:g}, gradient clipping {trial['gradient_clipping']}"
    )


def synthetic_warning(results: pd.DataFrame) -> HTML | None:
    """Warn if a study was trained on synthetic images; otherwise show nothing."""
    return warning_box(SYNTHETIC) if is_synthetic(results) else None


def warning_box(text: str) -> HTML:
    """Show a warning in bold with a coloured border."""
    style = "border-left: 0.4em solid #d55e00; padding: 0.5em 1em; margin: 1em 0; font-weight: bold"
    return HTML(f'<div role="note" style="{style}">{text}</div>')


def origin_box(path: str | Path) -> Styler:
    """Show a study's `origin_facts`; in the book, with a link to its published records."""
    facts = pd.DataFrame({"": origin_facts(path)}).map(html.escape)
    if (Path(path) / "trials.jsonl").exists():
        facts.loc["records"] = f'<a href="trials.jsonl">{facts.loc["records", ""]}</a>'
    table = style_table(facts, "Where these numbers come from.", "provenance", wrap="5em")
    return table.hide(axis=1)


def study_progress_text(path: str | Path) -> str:
    """Say how many of a study's trials are complete and profiled, and the state of the rest."""
    trials = load_trials(path)
    planned = read_study_json(Path(path)).get("trials", trials["name"])
    names, lines = set(planned), read_lines(Path(path) / "profiles.jsonl")
    profiled = sum(line["name"] in names for line in lines)
    states = trials["status"].value_counts()
    rest = [f"{n} {name}" for name, n in states.items() if name != "completed"]
    done = f"{states.get('completed', 0)} of {len(planned)} trials are complete"
    text = f"{done}; {', '.join(rest)}." if rest else f"{done}."
    return text + f" {profiled} of {len(planned)} trials are profiled." * bool(profiled)


def environment_table(record: Record) -> pd.DataFrame:
    """Return where a trial ran as a table: hardware, versions, data set, commit."""
    environment = (record.result() or {})["environment"]
    return values_table(pd.json_normalize(environment).iloc[0].to_dict())


def values_table(values: dict[str, object]) -> pd.DataFrame:
    """Return named values as a table of texts, with numbers rounded to four significant digits."""
    texts = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values.values()]
    return pd.DataFrame({"value": texts}, index=list(values))
