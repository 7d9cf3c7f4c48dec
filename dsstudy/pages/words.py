"""Closing sentences: what a study's tables and figure show, in words that are computed."""

from pathlib import Path

import pandas as pd

from dsstudy.analysis import cells
from dsstudy.analysis.load import load_results
from dsstudy.paper import printed
from dsstudy.records.reading import read_lines
from dsstudy.report.departures import departures
from dsstudy.report.origin import span
from dsstudy.report.table_style import signed
from dsstudy.spec.study import about
from dsstudy.spec.trial import ARCHITECTURES


def state(path: str | Path) -> str:
    """Say how much of a study is there: n of its N trials, what came of the rest, profiles."""
    trials = cells.load_trials(path)
    planned = about(Path(path)).get("trials", trials["name"])
    names, lines = set(planned), read_lines(Path(path) / "profiles.jsonl")
    profiled = sum(line["name"] in names for line in lines)
    states = trials["status"].value_counts()
    rest = [f"{n} {name}" for name, n in states.items() if name != "completed"]
    done = f"{states.get('completed', 0)} of {len(planned)} trials are complete"
    text = f"{done}; {', '.join(rest)}." if rest else f"{done}."
    return text + f" {profiled} of {len(planned)} trials are profiled." * bool(profiled)


def departures_of(path: str | Path) -> str:
    """Say in a paragraph where a study departs from the paper's, and how far it reaches."""
    found = departures(load_results(path))
    return "**Where this study departs from the paper.** " + (" ".join(found) or "Nowhere.")


def table1(trials: pd.DataFrame) -> str:
    """Say in a sentence what Table 1 shows, of ours and of the paper's."""
    frame = cells.cells(trials, "best_accuracy")
    held = f"{frame['value'].notna().sum()} of {len(frame)} cells hold a value."
    pairs = cells.compare(trials, "best_accuracy")
    both = pairs.dropna(subset="value")
    if both.empty:
        return f"{held} No setting has one with and one without DeepSpeed: nothing to compare yet."
    rows = frame[frame["architecture"].isin(both.index.get_level_values("architecture"))]
    return (
        f"{held} Normal training has the highest mean for {_best_by_normal(rows, 'value')} "
        f"architectures (in the paper for {_best_by_normal(rows, 'published')}); with the same "
        f"setting on both sides, DeepSpeed's accuracy minus normal training's is "
        f"{signed(both['value'].mean())} points on average over {len(both)} pairs (in the paper "
        f"{signed(both['published'].mean())} over the same). "
        f"Pair by pair: {cells.count_verdicts(pairs['verdict'])}."
    )


def _best_by_normal(frame: pd.DataFrame, column: str) -> str:
    held = frame.dropna(subset=column)
    best = held.loc[held.groupby("architecture")[column].idxmax(), "engine"]
    return f"{(best == 'normal').sum()} of {len(best)}"


def table2(trials: pd.DataFrame) -> str:
    """Say in a sentence what Table 2 shows, of ours and of the paper's."""
    frame = cells.compare(trials, "seconds_per_epoch")
    both = frame.dropna(subset="value")
    ours, published = both["value"], both["published"]
    if ours.empty:
        return "No pair has two times that were measured alone: there is nothing to compare yet."
    return (
        f"DeepSpeed's time is {ours.median():.2f} times normal training's at the median of "
        f"{len(ours)} pairs, and from {ours.min():.2f} to {ours.max():.2f} (in the paper, of the "
        f"same pairs, {published.median():.2f}, from {published.min():.2f} to "
        f"{published.max():.2f}); below 1 in {(ours < 1).sum()} of {len(ours)} (in the paper in "
        f"{(published < 1).sum()} of {len(published)}). Pair by pair: "
        f"{cells.count_verdicts(frame['verdict'])}."
    )


def adam(trials: pd.DataFrame) -> str:
    """Say what Adam, in place of SGD, does to an epoch's time in each engine."""
    both = cells.adam_over_sgd(trials).dropna(subset="value")
    if both.empty:
        return "No engine has times with both optimizers that were measured alone."
    sides = [
        f"With a scheduler, an epoch of {printed.NAMES[engine]} training takes "
        f"{span(side['value'], '.2f')} times as long with Adam as with SGD (in the paper, for the "
        f"same architectures, {span(side['published'], '.2f')}), {_intervals(side[side['n'] > 1])}."
        for engine, side in both.groupby("engine")
    ]
    return " ".join(sides)


def _intervals(side: pd.DataFrame) -> str:
    if side.empty:
        return "by one measurement each, without an interval"
    longer, shorter = (side["low"] > 1).sum(), (side["high"] < 1).sum()
    return f"by its 95 % interval longer for {longer} of {len(side)}, shorter for {shorter}"


def figure1(epochs: pd.DataFrame) -> str:
    """Say in a sentence, by panel, for how many architectures DeepSpeed is ahead, and when."""
    counts = [
        f"{panel}) {_ahead(epochs, settings, 'first')} and {_ahead(epochs, settings, 'last')}"
        for panel, settings in printed.PANELS.items()
    ]
    return (
        "Architectures for which DeepSpeed is ahead, after the first epoch and after the last, by "
        "means over seeds, whatever their spread: "
        f"{'; '.join(counts)}."
    )


def _ahead(epochs: pd.DataFrame, settings: dict[str, str], which: str) -> str:
    """Count the architectures for which DeepSpeed is ahead, as a mean over seeds."""
    trials = epochs.sort_values("epoch").groupby([*cells.CELL, "seed"])["test_accuracy"].agg(which)
    sides = trials.groupby(cells.CELL).mean().unstack(["engine", "setting"])
    sides = sides.reindex(list(ARCHITECTURES), columns=list(settings.items()))
    lead = (sides.iloc[:, 0] - sides.iloc[:, 1]).dropna()
    return f"{(lead > 0).sum()} of {len(lead)}"
