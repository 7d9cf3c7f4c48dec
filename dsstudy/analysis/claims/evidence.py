"""The evidence for claims: the paper's tables, or a study's records and their limits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.analysis.cells import values_with_states
from dsstudy.analysis.intervals import NORMAL_QUANTILE, mean_interval, ratio_interval
from dsstudy.analysis.load import load_epochs, load_results
from dsstudy.analysis.provenance import (
    environments,
    fewest_devices,
    is_synthetic,
    optimizer_steps,
    stand_ins,
    timing_machines,
)
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.spec.trial import ARCHITECTURES

NEAR_CHANCE = 2
"""Accuracies up to this multiple of chance are near chance."""

LEAST_SHARE = 0.1
"""With a smaller share of the paper's optimizer steps, a training has only begun."""

COLUMNS = {"accuracy": "best_accuracy", "seconds": "seconds_per_epoch"}
"""The column of each kind of value."""

Cell = tuple[str, str, str]
Pair = tuple[str, Cell, Cell]  # label, first, second
Limits = tuple[float, float, float]  # value, low, high


class UndecidedError(Exception):
    """The evidence cannot decide the claim; the message says why."""


@dataclass(frozen=True)
class Evidence:
    """What a study measured, as far as claims need it.

    Attributes
    ----------
    values : mapping
        For ``accuracy`` (percent) and ``seconds`` (per epoch): a frame from
        `dsstudy.analysis.cells.values_with_states`.
    curves : pandas.DataFrame
        Test accuracy after each epoch: the same columns and ``epoch``.
    doubts : mapping
        For ``accuracy``, ``seconds``, ``curves`` and the name of an architecture: why it decides
        nothing, if so.
    test_images : int or None
        The number of test images; None takes accuracies at face value.
    chance : float or None
        The accuracy of guessing: a difference between two accuracies near it decides nothing.
    """

    values: Mapping[str, pd.DataFrame]
    curves: pd.DataFrame
    doubts: Mapping[str, str] = field(default_factory=dict)
    test_images: int | None = None
    chance: float | None = None

    def gain(self, pairs: Sequence[Pair]) -> pd.DataFrame:
        """Compare accuracies: first minus second, in points.

        Parameters
        ----------
        pairs
            Each a label and two cells (architecture, engine, setting).

        Returns
        -------
        pandas.DataFrame
            By label: ``value``, the mean over common seeds; ``low`` and ``high``, its 95 % interval
            (with one seed: from the sampling of test images; infinite if both are near chance);
            ``text``, all three.

        Raises
        ------
        UndecidedError
            The accuracies or an architecture are in doubt, or a cell has no value.
        """
        return self._compare_all("accuracy", pairs)

    def ratio(self, pairs: Sequence[Pair]) -> pd.DataFrame:
        """Compare seconds per epoch: first over second, the geometric mean; otherwise as `gain`."""
        return self._compare_all("seconds", pairs)

    def _compare_all(self, kind: str, pairs: Sequence[Pair]) -> pd.DataFrame:
        cells = [cell for _, *both in pairs for cell in both]
        self._raise_doubts(kind, *(architecture for architecture, *_ in cells))
        seeds = {cell: self._seeds(kind, cell) for cell in cells}
        gaps = [f"{printed.cell_label(*cell)} ({found})" for cell, found in seeds.items()
                if isinstance(found, str)]  # fmt: skip
        if gaps:
            more = f" and {len(gaps) - 3} more" if len(gaps) > 3 else ""
            raise UndecidedError(f"No value for {'; '.join(gaps[:3])}{more}.")
        found = {name: self._compare(kind, seeds[a], seeds[b]) for name, a, b in pairs}
        for name, *both in pairs if kind == "accuracy" else ():
            if all(map(self._near_chance, both)):
                found[name] = (found[name][0], -math.inf, math.inf)
        rows = {name: (*one, _value_text(kind, *one)) for name, one in found.items()}
        columns = ["value", "low", "high", "text"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def _raise_doubts(self, *subjects: str) -> None:
        for subject in subjects:
            if subject in self.doubts:
                raise UndecidedError(self.doubts[subject])

    def accuracy(self, cell: Cell) -> float:
        """Return a cell's mean accuracy over its seeds; NaN if it has none."""
        seeds = self._seeds("accuracy", cell)
        return float("nan") if isinstance(seeds, str) else seeds.mean()

    def _seeds(self, kind: str, cell: Cell) -> pd.Series | str:
        """Return a cell's values by seed, or the reason why it has none."""
        trials = self._trials[kind].get(cell)
        if trials is None:
            return "missing"
        # A diverged training has an accuracy too: its best before, or chance.
        states = ["completed", "diverged"] if kind == "accuracy" else ["completed"]
        counting = trials[trials["state"].isin(states)].set_index(["seed", "round"])
        counting = counting["value"].dropna()
        return ", ".join(trials["state"].unique()) if counting.empty else counting

    @cached_property
    def _trials(self) -> dict[str, dict[Any, pd.DataFrame]]:
        return {kind: dict(list(frame.groupby(CELL))) for kind, frame in self.values.items()}

    def _compare(self, kind: str, first: pd.Series, second: pd.Series) -> Limits:
        both = (first - second if kind == "accuracy" else first / second).dropna()
        if both.empty:
            raise UndecidedError("Two trials to be compared have no seed in common.")
        found = mean_interval(both) if kind == "accuracy" else ratio_interval(both)
        if found.n > 1:
            return found.value, found.low, found.high
        if kind != "accuracy" or not self.test_images:
            return found.value, found.value, found.value
        shares = [side[both.index].mean() / 100 for side in (first, second)]
        sampled = 100 * (sum(p * (1 - p) for p in shares) / self.test_images) ** 0.5
        half = NORMAL_QUANTILE * sampled
        return found.value, found.value - half, found.value + half

    def _near_chance(self, cell: Cell) -> bool:
        return self.chance is not None and self.accuracy(cell) <= NEAR_CHANCE * self.chance

    def during(self, *epochs: int) -> "Evidence":
        """Return the evidence with mean accuracies over some epochs; -1 is the last epoch."""
        if "curves" in self.doubts:
            raise UndecidedError(self.doubts["curves"])
        trial, curves = [*CELL, "seed", "round"], self.curves
        from_end = curves["epoch"] - curves.groupby(trial)["epoch"].transform("max") - 1
        chosen = curves[curves["epoch"].isin(epochs) | from_end.isin(epochs)]
        means = chosen.groupby(trial, as_index=False).agg({"value": "mean", "state": "first"})
        return replace(self, values={**self.values, "accuracy": means})

    def capacity(self, architectures: Iterable[str] = ARCHITECTURES) -> pd.Series:
        """Return the parameters of some architectures."""
        asked = list(architectures)
        self._raise_doubts(*asked)
        return pd.Series(printed.CAPACITY)[asked]


def _value_text(kind: str, value: float, low: float, high: float) -> str:
    digits = "+.2f" if kind == "accuracy" else ".2f"
    limits = f" ({low:{digits}} to {high:{digits}})" if low < high else ""
    near_chance = " (both near chance)" if math.isinf(high) else limits
    return f"{value:{digits}}{near_chance}".replace("-", "−")


def paper_evidence() -> Evidence:
    """Return the paper's two tables, at face value; it has no curves as numbers."""
    values = {
        kind: printed.printed_values(column).assign(seed=0, round=0, state="completed")
        for kind, column in COLUMNS.items()
    }
    curves = values["accuracy"].head(0).assign(epoch=0)
    reason = "The paper prints its curves as a picture, not as numbers."
    return Evidence(values, curves, {"curves": reason})


def study_evidence(path: str | Path) -> Evidence:
    """Return what a study measured, and the reasons to doubt it."""
    results, epochs = load_results(path), load_epochs(path)
    values = {kind: values_with_states(results, column) for kind, column in COLUMNS.items()}
    accuracy = values["accuracy"]
    curves = epochs[[*CELL, "seed", "epoch"]].assign(value=epochs["test_accuracy"].astype(float))
    curves = curves.merge(accuracy.drop(columns="value"), on=[*CELL, "seed"])
    images = [p["dataset"]["test_images"] for p in environments(results)]
    doubts, chance = _study_doubts(results, accuracy), 100 / _classes(results)
    return Evidence(values, curves, doubts, min(images, default=None), chance)


def _classes(results: pd.DataFrame) -> int:
    return max((place["dataset"]["classes"] for place in environments(results)), default=10)


def _study_doubts(results: pd.DataFrame, accuracy: pd.DataFrame) -> dict[str, str]:
    doubts = {}
    if reason := _learning_doubt(results, accuracy):
        doubts["accuracy"] = doubts["curves"] = reason
    for row, model in stand_ins(results):
        name = printed.NAMES.get(row, row)
        doubts[row] = f"It says nothing about the paper's {name}: {model} stands in for it."
    if reason := _timing_doubt(results):
        doubts["seconds"] = reason
    if is_synthetic(results):
        doubts |= dict.fromkeys(("accuracy", "curves", "seconds"), "The images are synthetic.")
    return doubts


def _timing_doubt(results: pd.DataFrame) -> str | None:
    """Return why times decide nothing about the paper's, if so."""
    ranks = results["processes"].max()
    if fewest_devices(results) < ranks:
        return f"{ranks} processes shared one device: no time shows what a second device brings."
    if len(machines := timing_machines(results)) > 1:
        return f"The times come from {len(machines)} different machines."
    return None


def _learning_doubt(results: pd.DataFrame, accuracy: pd.DataFrame) -> str | None:
    """Return why the trainings are too short to decide anything about accuracies, if so."""
    fewest = optimizer_steps(results).min()
    if fewest < LEAST_SHARE * printed.STEPS:
        return (
            f"Its shortest trial makes {fewest:,.0f} optimizer steps, the paper's "
            f"{printed.STEPS:,}: too few to decide an accuracy."
        )
    counting = accuracy.loc[accuracy["state"].isin(["completed", "diverged"]), "value"]
    above = (counting > NEAR_CHANCE * 100 / _classes(results)).sum()
    if above <= len(counting) / 2:
        return f"Only {above} of {len(counting)} finished trials are clearly above chance."
    return None
