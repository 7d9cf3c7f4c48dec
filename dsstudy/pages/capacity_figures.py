"""The figures of the page on capacity."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsstudy.analysis import capacity
from dsstudy.pages.trial import ENGINE_COLORS
from dsstudy.paper.printed import short_model

_SHADES = sns.blend_palette(["#f5c27a", ENGINE_COLORS["deepspeed"], "#5a2b00"], 4)

_MARKERS = {"normal": "o", "ddp": "^", "0": "s", "1": "D", "2": "v", "3": "P"}
"""By engine, or by ZeRO stage."""


def by_stage(trials: pd.DataFrame) -> Figure:
    """Draw bytes a parameter over ZeRO's stages: counted, held, and added to the peak."""
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    held, growth = capacity.per_parameter(trials), capacity.growth(trials)["bytes"]
    largest = held.dropna(how="all", axis=1).iloc[:, -1] if held.notna().any(axis=None) else held
    own, small = (capacity.by_zero_stage(trials, kind) for kind in (False, True))
    strong, light = _SHADES[2], _SHADES[1]
    for name, values, lines, style in (
        ("peak, DeepSpeed's own buckets", growth, own, {"color": light, "marker": "s"}),
        ("peak, small buckets", growth, own[:1] + small,
         {"color": light, "marker": "s", "linestyle": "--", "markerfacecolor": "white"}),
        ("held, small buckets", largest, own[:1] + small, {"color": strong, "marker": "D"}),
        ("held, by ZeRO's paper", capacity.theories(trials), own,
         {"color": "0.3", "marker": "_", "linestyle": ":", "markersize": 14}),
    ):  # fmt: skip
        known = values.reindex(lines).astype(float)
        axes.plot([int(capacity.kind(trials, line)) for line in lines], known, label=name, **style)
    for line in _drawn(trials):
        kind = capacity.kind(trials, line)
        if kind in ENGINE_COLORS and np.isfinite(growth[line]):
            axes.axhline(growth[line], color=ENGINE_COLORS[kind], linewidth=1.5, linestyle="-.",
                         label=f"peak, {line}")  # fmt: skip
    axes.set(xlabel="ZeRO stage", ylabel="bytes a parameter, on a rank", ylim=(0, None))
    axes.set_xticks(range(4))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def peaks(trials: pd.DataFrame) -> Figure:
    """Draw a rank's peak over the model's parameters: the slope is what a parameter takes."""
    figure, axes = plt.subplots(figsize=(9, 5.4), layout="constrained")
    found = capacity.by_size(trials, "peak") / capacity.MIB
    marks = {line: _draw(axes, trials, line, found.loc[line]) for line in _drawn(trials)}
    axes.set(ylabel="highest memory of a rank (MiB)", ylim=(0, None))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    _sizes_below(axes, trials)
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def times(trials: pd.DataFrame) -> Figure:
    """Draw each line's time over normal training's, over the model's parameters.

    Ratios of times that were not measured alone are faint crosses: they count for nothing.
    """
    ratios = capacity.ratios(trials)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    axes.set_xscale("log")
    marks: dict[str, Any] = {}
    drawn = [line for line in _drawn(trials) if line != capacity.BASE]
    for place, line in enumerate(drawn):
        aside = 1.015 ** (place - len(drawn) / 2)  # so that they do not lie on one another
        some = ratios.loc[line].reindex(capacity.sizes(trials).index)
        marks[line] = _draw(axes, trials, line, some["value"], aside)
        at, color = aside * capacity.sizes(trials), _style(trials, line)["color"]
        axes.vlines(at, some["low"], some["high"], color=color, linewidth=1.5)
        axes.plot(at, some["rough"].where(some["n"] == 0), "x", color=color, alpha=0.5)
    marks["not measured alone, does not count"] = plt.Line2D(
        [], [], color="0.5", marker="x", linestyle=""
    )
    axes.axhline(1, color="0.3", linewidth=1)
    axes.text(0.3, 1, "as long as normal training", transform=axes.get_yaxis_transform(),
              va="bottom", fontsize=10)  # fmt: skip
    axes.set(yscale="log", ylabel="time / normal training's")
    _ticks(axes, np.append(ratios[["value", "rough", "low", "high"]].to_numpy(float), 1))
    _sizes_below(axes, trials)
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _drawn(trials: pd.DataFrame) -> list[str]:
    """Return the lines that have begun."""
    begun = set(trials.loc[trials["parameters"].notna(), "line"])
    return [line for line in capacity.lines(trials) if line in begun]


def _style(trials: pd.DataFrame, line: str) -> dict[str, Any]:
    kind, small = capacity.kind(trials, line), capacity.has_small_buckets(trials, line)
    color = ENGINE_COLORS.get(kind) or _SHADES[int(kind)]
    return {
        "color": color,
        "marker": _MARKERS[kind],
        "linestyle": "--" if small else "-",
        "markerfacecolor": "white" if small else color,
        "markersize": 8,
    }


def _draw(
    axes: Axes, trials: pd.DataFrame, line: str, values: pd.Series, aside: float = 1
) -> plt.Line2D:
    known = values.astype(float).dropna()
    at = aside * capacity.sizes(trials)[known.index]
    (mark,) = axes.plot(at, known, **_style(trials, line))
    return mark


def _sizes_below(axes: Axes, trials: pd.DataFrame) -> None:
    """Name the models below their places on the axis of parameters."""
    sizes = capacity.sizes(trials)
    names = [f"{short_model(model)}\n{count / 1e6:.1f} M" for model, count in sizes.items()]
    axes.set_xticks(sizes, names, fontsize=10)
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08)
    axes.set_xlabel("parameters")


def _ticks(axes: Axes, values: np.ndarray) -> None:
    """Put round numbers on a logarithmic axis, as many as its range bears."""
    known = values[np.isfinite(values)]
    if not len(known):
        return
    decades = 10.0 ** np.arange(np.floor(np.log10(known.min())), 1 + np.log10(known.max()))
    steps = (1, 2, 5) if known.max() / known.min() > 8 else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [step * decade for decade in decades for step in steps]
    near = [t for t in ticks if 0.8 * known.min() <= t <= 1.25 * known.max()]
    axes.set_yticks(near)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:,g}")
