"""The page on capacity: its tables, its figures, its sentences."""

import html
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.capacity import (
    BASE_WAY,
    MIB,
    has_small_buckets,
    held_per_parameter,
    less_from,
    memory_by_size,
    memory_growth,
    model_sizes,
    theory_by_way,
    time_ratios,
    way_kind,
    ways,
    zero_ways,
)
from dsstudy.analysis.capacity import load_capacity as load_capacity  # for the notebook
from dsstudy.report.figure_style import ENGINE_COLORS, set_log_ticks
from dsstudy.report.table_style import note_below, ratio_cell, style_table
from dsstudy.report.wording import interval_text
from dsstudy.spec.engines import DEEPSPEED, ENGINES
from dsstudy.spec.model_counts import short_model

PARITY = 1.0
"""The ratio of times at which two lines are equally fast."""


def held_table(trials: pd.DataFrame) -> Styler:
    """Show the bytes a parameter that a rank holds, beside those of ZeRO's paper."""
    texts = held_per_parameter(trials).map(_bytes_text)
    texts = _titled(texts, trials)
    texts.insert(0, "ZeRO's paper", theory_by_way(trials).map(_bytes_text))
    caption = (
        "Bytes a parameter that a rank holds in tensors when a backward pass has ended: weights, "
        "gradients, the optimizer's states, the engine's copies and buffers of them. Under each "
        "model, its parameters. First column: the count of Rajbhandari et al., fp32 and Adam."
    )
    return style_table(texts, caption, "held", align="right", wrap="5em")


def peaks_table(trials: pd.DataFrame) -> Styler:
    """Show a rank's peak memory, and how it grows with the model."""
    texts = (memory_by_size(trials, "peak") / MIB).map("{:,.0f}".format)
    texts = _titled(texts.replace("nan", "<em>missing</em>"), trials)
    growth = memory_growth(trials)
    texts["bytes a parameter"] = growth["bytes"].map(_bytes_text)
    texts["the rest"] = (growth["rest"] / MIB).map("{:,.0f}".format).replace("nan", "–")
    caption = (
        "A rank's highest memory in the first epoch, in MiB. The last columns are a line through "
        "each row by least squares: what a further parameter adds, in bytes, and what is there "
        "without any, in MiB (libraries, shared buffers)."
    )
    return style_table(texts, caption, "peaks", align="right", wrap="5em")


def ratios_table(trials: pd.DataFrame) -> Styler:
    """Show each line's time over normal training's, or why there is no ratio."""
    ratios = time_ratios(trials)
    texts = pd.Series([_ratio_or_state(row) for row in ratios.itertuples()], ratios.index)
    wide = texts.unstack("model")
    order = [line for line in ways(trials) if line != BASE_WAY]
    wide = wide.reindex(index=order, columns=list(model_sizes(trials).index))
    caption = (
        "Time of a line over that of normal training of the same model, mean over the rounds that "
        "both were measured alone in, with its 95 % interval: below 1, the line is the faster."
    )
    return style_table(_titled(wide, trials), caption, "ratios", align="right", wrap="6em")


def _ratio_or_state(row: Any) -> str:
    return ratio_cell(row) if row.n else f"<em>{row.state}</em>"


def _bytes_text(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"


def _titled(frame: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Head each column with the model's short name and its parameters."""
    heads = {
        model: f"{html.escape(short_model(model))}{note_below(f'{count / 1e6:.1f} M')}"
        for model, count in model_sizes(trials).items()
    }
    return frame.rename(columns=heads).rename_axis(index=None, columns=None)


def memory_text(trials: pd.DataFrame) -> str:
    """Say how what a rank holds, and what a parameter adds to its peak, change with the stage."""
    held = held_per_parameter(trials).dropna(how="all", axis=1)
    growth = memory_growth(trials)["bytes"]
    parts = []
    if held.shape[1]:
        model = held.columns[-1]
        parts.append(
            f"What a rank holds of {short_model(model)}, the largest model measured, in bytes a "
            f"parameter: {_by_way_text(trials, held[model])}."
        )
    if growth.notna().any():
        parts.append(
            f"What a further parameter adds to a rank's peak, in bytes: {_by_way_text(trials, growth)}."
        )
    return "\n".join(f"- {part}" for part in parts) or "Nothing is measured yet."


def _by_way_text(trials: pd.DataFrame, values: pd.Series) -> str:
    """List the values of all lines, those of DeepSpeed by stage."""
    known = values.dropna()
    own, small = (
        [line for line in zero_ways(trials, kind) if line in known.index] for kind in (False, True)
    )
    parts = [f"{line} {known[line]:.1f}" for line in known.index.drop([*own, *small])]
    for lines, buckets in ((own, "DeepSpeed's own buckets"), (small, "small buckets")):
        if lines:
            stages = ", ".join(way_kind(trials, line) for line in lines)
            numbers = ", ".join(f"{known[line]:.1f}" for line in lines)
            plural = "s" * (len(lines) > 1)
            parts.append(f"with {buckets} {numbers} at stage{plural} {stages}")
    return "; ".join(parts)


def times_text(trials: pd.DataFrame) -> str:
    """Say for which lines and sizes a second process pays, and whether size changes it."""
    ratios = time_ratios(trials)
    counting = ratios[ratios["n"] > 0]
    if counting.empty:
        return (
            "No time was measured alone yet, so there is no ratio that counts: `dsstudy time` "
            "measures them, on a machine that does nothing else."
        )
    lines = [
        f"- {line}: {', '.join(_ratio_at_text(*one) for one in some.iterrows())}"
        for line, some in counting.groupby(level="line", sort=False)
    ]
    return "\n".join(["Times normal training's time, with 95 % intervals:", "", *lines])


def _ratio_at_text(key: tuple[str, str], row: pd.Series) -> str:
    limits = f" ({interval_text(row, '{:.2f}'.format)})" if row["n"] > 1 else ""
    return f"{row['value']:.2f}{limits} for {short_model(key[1])}"


def answer_text(trials: pd.DataFrame) -> str:
    """Answer the page's question, whether DeepSpeed pays only for larger models."""
    return f"{_time_answer(trials)} {_memory_answer(trials)}"


def _time_answer(trials: pd.DataFrame) -> str:
    ratios = time_ratios(trials)
    stages = [line for small in (False, True) for line in zero_ways(trials, small)]
    counting = ratios[(ratios["n"] > 0) & ratios.index.isin(stages, level="line")]
    models = [m for m in model_sizes(trials).index if m in counting.index.unique("model")]
    if len(models) < 2:
        return (
            "Whether DeepSpeed pays in time for larger models cannot be told yet: fewer than two "
            "sizes were timed alone."
        )
    first, last = (counting.xs(model, level="model").sort_values("value").iloc[0]
                   for model in (models[0], models[-1]))  # fmt: skip
    paying = counting[counting["high"] < PARITY]
    pays = (
        f"and pays in {len(paying)} of {len(counting)} comparisons"
        if len(paying)
        else f"and pays in none of {len(counting)} comparisons"
    )
    return (
        f"From {short_model(models[0])} to {short_model(models[-1])} DeepSpeed's fastest line goes "
        f"from {_ratio_text(first)} times normal training's time ({first.name}) to {_ratio_text(last)} "
        f"({last.name}), which {_trend_text(first, last)}, {pays} (its 95 % interval below 1)."
    )


def _ratio_text(row: pd.Series) -> str:
    limits = f" (95 %: {interval_text(row, '{:.2f}'.format)})" if row["n"] > 1 else ""
    return f"{row['value']:.2f}{limits}"


def _trend_text(first: pd.Series, last: pd.Series) -> str:
    if last["high"] < first["low"]:
        return "favours the larger model"
    if last["low"] > first["high"]:
        return "favours the smaller model"
    return "does not tell the sizes apart"


def _memory_answer(trials: pd.DataFrame) -> str:
    found = memory_growth(trials).dropna()
    growth = found["bytes"]
    zero = [line for kind in (False, True) for line in zero_ways(trials, kind)]
    others = [line for line in found.index if line not in zero]
    if len(others) == len(found) or not others:
        return "In memory it cannot be told yet: a line needs two sizes."
    best = growth.drop(others).idxmin()
    from_sizes = [
        f"below that of {other} {_from_size_text(less_from(found, best, other))}"
        for other in others
    ]
    return (
        f"In memory, a further parameter adds to a rank's peak, in bytes: {_by_way_text(trials, growth)}. "
        f"With {best}, the least of DeepSpeed's, by these lines the peak is "
        f"{' and '.join(from_sizes)}."
    )


def _from_size_text(parameters: float) -> str:
    if np.isinf(parameters):
        return "at no larger size"
    return f"from {parameters / 1e6:.0f} million parameters on" if parameters else "at every size"


_SHADES = sns.blend_palette(["#f5c27a", ENGINE_COLORS[DEEPSPEED], "#5a2b00"], 4)

_KIND_MARKERS = {name: engine.marker for name, engine in ENGINES.items()} | {
    "0": "s",
    "1": "D",
    "2": "v",
    "3": "P",
}
"""By engine, or by ZeRO stage."""


def stage_figure(trials: pd.DataFrame) -> Figure:
    """Draw bytes a parameter over ZeRO's stages: counted, held, and added to the peak."""
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    held, growth = held_per_parameter(trials), memory_growth(trials)["bytes"]
    largest = held.dropna(how="all", axis=1).iloc[:, -1] if held.notna().any(axis=None) else held
    own, small = (zero_ways(trials, kind) for kind in (False, True))
    strong, light = _SHADES[2], _SHADES[1]
    for name, values, lines, style in (
        ("peak, DeepSpeed's own buckets", growth, own, {"color": light, "marker": "s"}),
        ("peak, small buckets", growth, own[:1] + small,
         {"color": light, "marker": "s", "linestyle": "--", "markerfacecolor": "white"}),
        ("held, small buckets", largest, own[:1] + small, {"color": strong, "marker": "D"}),
        ("held, by ZeRO's paper", theory_by_way(trials), own,
         {"color": "0.3", "marker": "_", "linestyle": ":", "markersize": 14}),
    ):  # fmt: skip
        known = values.reindex(lines).astype(float)
        axes.plot([int(way_kind(trials, line)) for line in lines], known, label=name, **style)
    for line in _begun_ways(trials):
        kind = way_kind(trials, line)
        if kind in ENGINE_COLORS and np.isfinite(growth[line]):
            axes.axhline(growth[line], color=ENGINE_COLORS[kind], linewidth=1.5, linestyle="-.",
                         label=f"peak, {line}")  # fmt: skip
    axes.set(xlabel="ZeRO stage", ylabel="bytes a parameter, on a rank", ylim=(0, None))
    axes.set_xticks(range(4))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def peaks_figure(trials: pd.DataFrame) -> Figure:
    """Draw a rank's peak over the model's parameters: the slope is what a parameter takes."""
    figure, axes = plt.subplots(figsize=(9, 5.4), layout="constrained")
    found = memory_by_size(trials, "peak") / MIB
    marks = {line: _draw_way(axes, trials, line, found.loc[line]) for line in _begun_ways(trials)}
    axes.set(ylabel="highest memory of a rank (MiB)", ylim=(0, None))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    _name_sizes(axes, trials)
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def ratios_figure(trials: pd.DataFrame) -> Figure:
    """Draw each line's time over normal training's, over the model's parameters.

    Ratios of times that were not measured alone are faint crosses: they count for nothing.
    """
    ratios = time_ratios(trials)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    axes.set_xscale("log")
    marks: dict[str, Any] = {}
    drawn = [line for line in _begun_ways(trials) if line != BASE_WAY]
    for place, line in enumerate(drawn):
        aside = 1.015 ** (place - len(drawn) / 2)  # so that they do not lie on one another
        some = ratios.loc[line].reindex(model_sizes(trials).index)
        marks[line] = _draw_way(axes, trials, line, some["value"], aside)
        at, color = aside * model_sizes(trials), _way_style(trials, line)["color"]
        axes.vlines(at, some["low"], some["high"], color=color, linewidth=1.5)
        axes.plot(at, some["rough"].where(some["n"] == 0), "x", color=color, alpha=0.5)
    marks["not measured alone, does not count"] = plt.Line2D(
        [], [], color="0.5", marker="x", linestyle=""
    )
    axes.axhline(1, color="0.3", linewidth=1)
    axes.text(0.3, 1, "as long as normal training", transform=axes.get_yaxis_transform(),
              va="bottom", fontsize=10)  # fmt: skip
    axes.set(yscale="log", ylabel="time / normal training's")
    set_log_ticks(axes, np.append(ratios[["value", "rough", "low", "high"]].to_numpy(float), 1))
    _name_sizes(axes, trials)
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _begun_ways(trials: pd.DataFrame) -> list[str]:
    """Return the lines that have begun."""
    begun = set(trials.loc[trials["parameters"].notna(), "line"])
    return [line for line in ways(trials) if line in begun]


def _way_style(trials: pd.DataFrame, line: str) -> dict[str, Any]:
    kind, small = way_kind(trials, line), has_small_buckets(trials, line)
    color = ENGINE_COLORS.get(kind) or _SHADES[int(kind)]
    return {
        "color": color,
        "marker": _KIND_MARKERS[kind],
        "linestyle": "--" if small else "-",
        "markerfacecolor": "white" if small else color,
        "markersize": 8,
    }


def _draw_way(
    axes: Axes, trials: pd.DataFrame, line: str, values: pd.Series, aside: float = 1
) -> plt.Line2D:
    known = values.astype(float).dropna()
    at = aside * model_sizes(trials)[known.index]
    (mark,) = axes.plot(at, known, **_way_style(trials, line))
    return mark


def _name_sizes(axes: Axes, trials: pd.DataFrame) -> None:
    """Name the models below their places on the axis of parameters."""
    sizes = model_sizes(trials)
    names = [f"{short_model(model)}\n{count / 1e6:.1f} M" for model, count in sizes.items()]
    axes.set_xticks(sizes, names, fontsize=10)
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08)
    axes.set_xlabel("parameters")
