"""Memory and time over the size of a model: tables, figures and sentences."""

import html
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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
from dsstudy.report.figure_style import ENGINE_COLORS, add_legend, legend_mark, set_log_ticks
from dsstudy.report.table_style import note_below, ratio_cell, style_table
from dsstudy.report.wording import bullets_text, interval_text
from dsstudy.spec.engines import DEEPSPEED, ENGINES
from dsstudy.spec.model_counts import short_model

_SHADES = sns.blend_palette(["#f5c27a", ENGINE_COLORS[DEEPSPEED], "#5a2b00"], 4)
"""A colour per ZeRO stage."""

_KIND_MARKERS = {name: engine.marker for name, engine in ENGINES.items()}
_KIND_MARKERS |= {"0": "s", "1": "D", "2": "v", "3": "P"}
"""The marker of each engine, and of each ZeRO stage."""


def held_table(trials: pd.DataFrame) -> Styler:
    """Show the bytes per parameter that a rank holds, beside those of ZeRO's paper."""
    texts = _titled(held_per_parameter(trials).map(_bytes_text), trials)
    texts.insert(0, "ZeRO's paper", theory_by_way(trials).map(_bytes_text))
    caption = (
        "Bytes per parameter that a rank holds in tensors at the end of a backward pass: weights, "
        "gradients, the optimizer's states, and the engine's copies and buffers. Under each model "
        "is its number of parameters. First column: the count of Rajbhandari et al., for fp32 and "
        "Adam."
    )
    return style_table(texts, caption, "held", align="right", wrap="5em")


def peaks_table(trials: pd.DataFrame) -> Styler:
    """Show a rank's peak memory, and how it grows with the model."""
    texts = (memory_by_size(trials, "peak") / MIB).map("{:,.0f}".format)
    texts = _titled(texts.replace("nan", "<em>missing</em>"), trials)
    growth = memory_growth(trials)
    texts["bytes per parameter"] = growth["bytes"].map(_bytes_text)
    texts["the rest"] = (growth["rest"] / MIB).map("{:,.0f}".format).replace("nan", "–")
    caption = (
        "A rank's peak memory in the first epoch, in MiB. The last columns are a least-squares "
        "line through each row: the bytes that a further parameter adds, and the MiB that do not "
        "depend on the parameters (libraries, shared buffers)."
    )
    return style_table(texts, caption, "peaks", align="right", wrap="5em")


def ratios_table(trials: pd.DataFrame) -> Styler:
    """Show each way's time over normal training's, or why there is no ratio."""
    ratios = time_ratios(trials)
    cells = [ratio_cell(row) if row.n else f"<em>{row.state}</em>" for row in ratios.itertuples()]
    order = [way for way in ways(trials) if way != BASE_WAY]
    texts = pd.Series(cells, ratios.index).unstack("model")
    texts = texts.reindex(index=order, columns=list(model_sizes(trials).index))
    caption = (
        "The time of each way of training divided by that of normal training of the same model: "
        "mean over the rounds in which both were measured alone, with its 95 % interval. Below 1 "
        "the way is faster than normal training."
    )
    return style_table(_titled(texts, trials), caption, "ratios", align="right", wrap="6em")


def _bytes_text(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"


def _titled(frame: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Replace models by their short names and numbers of parameters at the head of columns."""
    heads = {
        model: f"{html.escape(short_model(model))}{note_below(f'{count / 1e6:.1f} M')}"
        for model, count in model_sizes(trials).items()
    }
    return frame.rename(columns=heads).rename_axis(index=None, columns=None)


def memory_text(trials: pd.DataFrame) -> str:
    """Say how the held memory and the growth of the peak change with the ZeRO stage."""
    held = held_per_parameter(trials).dropna(how="all", axis=1)
    growth = memory_growth(trials)["bytes"]
    parts = []
    if held.shape[1]:
        model = held.columns[-1]
        parts.append(
            f"Bytes per parameter that a rank holds of {short_model(model)}, the largest model "
            f"measured: {_by_way_text(trials, held[model])}."
        )
    if growth.notna().any():
        parts.append(
            f"Bytes that a further parameter adds to a rank's peak: {_by_way_text(trials, growth)}."
        )
    return bullets_text(parts) or "Nothing is measured yet."


def _by_way_text(trials: pd.DataFrame, values: pd.Series) -> str:
    """List the values of all ways, those of DeepSpeed by stage."""
    known = values.dropna()
    own, small = (
        [way for way in zero_ways(trials, kind) if way in known.index] for kind in (False, True)
    )
    parts = [f"{way} {known[way]:.1f}" for way in known.index.drop([*own, *small])]
    for chosen, buckets in ((own, "DeepSpeed's own buckets"), (small, "small buckets")):
        if chosen:
            stages = ", ".join(way_kind(trials, way) for way in chosen)
            numbers = ", ".join(f"{known[way]:.1f}" for way in chosen)
            plural = "s" * (len(chosen) > 1)
            parts.append(f"with {buckets} {numbers} at stage{plural} {stages}")
    return "; ".join(parts)


def times_text(trials: pd.DataFrame) -> str:
    """List the ratio of times for each way and size."""
    ratios = time_ratios(trials)
    counting = ratios[ratios["n"] > 0]
    if counting.empty:
        return (
            "No time was measured alone yet, so no ratio counts. `dsstudy time` measures the "
            "times, on a machine that does nothing else."
        )
    texts = {
        way: (f"{_ratio_text(row, '')} for {short_model(key[1])}" for key, row in some.iterrows())
        for way, some in counting.groupby(level="line", sort=False)
    }
    listed = bullets_text(f"{way}: {', '.join(each)}" for way, each in texts.items())
    return f"Time divided by normal training's, with 95 % intervals:\n\n{listed}"


def _ratio_text(row: pd.Series, level: str = "95 %: ") -> str:
    return f"{row['value']:.2f}" + (f" ({level}{interval_text(row)})" if row["n"] > 1 else "")


def answer_text(trials: pd.DataFrame) -> str:
    """Say whether DeepSpeed pays for larger models, in time and in memory."""
    return bullets_text([_time_answer(trials), _memory_answer(trials)])


def _time_answer(trials: pd.DataFrame) -> str:
    ratios = time_ratios(trials)
    stages = [way for small in (False, True) for way in zero_ways(trials, small)]
    counting = ratios[(ratios["n"] > 0) & ratios.index.isin(stages, level="line")]
    models = [m for m in model_sizes(trials).index if m in counting.index.unique("model")]
    if len(models) < 2:
        return (
            "Whether DeepSpeed saves time with larger models is undecided: fewer than two sizes "
            "were timed alone."
        )
    ends = [models[0], models[-1]]
    first, last = (counting.xs(m, level="model").sort_values("value").iloc[0] for m in ends)
    smallest, largest = (
        f"{_ratio_text(row)} for {short_model(model)} ({row.name})"
        for row, model in zip((first, last), ends, strict=True)
    )
    paying = (counting["high"] < 1).sum()  # as fast as normal training: 1
    return (
        f"**Time: DeepSpeed pays in {paying or 'none'} of {len(counting)} comparisons with normal "
        "training** (the 95 % interval of the ratio of times is below 1). The ratio of its fastest "
        f"way is {smallest} and {largest}: {_trend_text(first, last)}."
    )


def _trend_text(first: pd.Series, last: pd.Series) -> str:
    if last["high"] < first["low"]:
        return "this favours the larger model"
    if last["low"] > first["high"]:
        return "this favours the smaller model"
    return "the two do not differ measurably"


def _memory_answer(trials: pd.DataFrame) -> str:
    found = memory_growth(trials).dropna()
    growth = found["bytes"]
    zero = [way for kind in (False, True) for way in zero_ways(trials, kind)]
    others = [way for way in found.index if way not in zero]
    if len(others) == len(found) or not others:
        return "Memory is undecided: its growth needs two sizes."
    best = growth.drop(others).idxmin()
    limits = " and ".join(
        f"below that of {other} {_from_size_text(less_from(found, best, other))}"
        for other in others
    )
    return (
        f"**Memory: DeepSpeed adds least with {best}**; by the fitted lines its peak is {limits}. "
        "A further parameter adds this many bytes to a rank's peak: "
        f"{_by_way_text(trials, growth)}."
    )


def _from_size_text(parameters: float) -> str:
    if np.isinf(parameters):
        return "at no larger size"
    return f"from {parameters / 1e6:.0f} million parameters on" if parameters else "at every size"


def stage_figure(trials: pd.DataFrame) -> Figure:
    """Draw bytes per parameter over ZeRO's stages: in theory, held, and added to the peak."""
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    held = held_per_parameter(trials).dropna(how="all", axis=1)
    largest = held.iloc[:, -1] if held.shape[1] else pd.Series(dtype=float)
    growth = memory_growth(trials)["bytes"]
    own, small = (zero_ways(trials, kind) for kind in (False, True))
    small = own[:1] + small  # both curves start at stage 0, whose buckets do not matter
    peak: dict[str, Any] = {"color": _SHADES[1], "marker": "s"}
    dashed = peak | {"linestyle": "--", "markerfacecolor": "white"}
    theory = {"color": "0.3", "marker": "_", "linestyle": ":", "markersize": 14}
    marks = {}
    for name, values, chosen, style in (
        ("peak, DeepSpeed's own buckets", growth, own, peak),
        ("peak, small buckets", growth, small, dashed),
        ("held, small buckets", largest, small, {"color": _SHADES[2], "marker": "D"}),
        ("held, by ZeRO's paper", theory_by_way(trials), own, theory),
    ):
        known = values.reindex(chosen).astype(float)
        stages = [int(way_kind(trials, way)) for way in chosen]
        (marks[name],) = axes.plot(stages, known, **style)
    for way in _started_ways(trials):
        kind = way_kind(trials, way)
        if kind in ENGINE_COLORS and np.isfinite(growth[way]):
            look = {"color": ENGINE_COLORS[kind], "linewidth": 1.5, "linestyle": "-."}
            marks[f"peak, {way}"] = axes.axhline(growth[way], **look)
    axes.set(xlabel="ZeRO stage", ylabel="bytes per parameter on a rank", ylim=(0, None))
    axes.set_xticks(range(4))
    add_legend(figure, marks, columns=3)
    return figure


def peaks_figure(trials: pd.DataFrame) -> Figure:
    """Draw a rank's peak over the model's parameters; the slope is the memory per parameter."""
    figure, axes = plt.subplots(figsize=(9, 5.4), layout="constrained")
    found = memory_by_size(trials, "peak") / MIB
    marks = {way: _draw_way(axes, trials, way, found.loc[way]) for way in _started_ways(trials)}
    axes.set(ylabel="peak memory of a rank (MiB)", ylim=(0, None))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    _name_sizes(axes, trials)
    add_legend(figure, marks, columns=3)
    return figure


def ratios_figure(trials: pd.DataFrame) -> Figure:
    """Draw each way's time over normal training's, over the model's parameters.

    Ratios of times that were not measured alone are faint crosses; they do not count.
    """
    ratios, sizes = time_ratios(trials), model_sizes(trials)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    axes.set_xscale("log")
    marks: dict[str, Any] = {}
    drawn = [way for way in _started_ways(trials) if way != BASE_WAY]
    for place, way in enumerate(drawn):
        aside = 1.015 ** (place - len(drawn) / 2)  # so that points do not overlap
        some = ratios.loc[way].reindex(sizes.index)
        marks[way] = _draw_way(axes, trials, way, some["value"], aside)
        at, color = aside * sizes, marks[way].get_color()
        axes.vlines(at, some["low"], some["high"], color=color, linewidth=1.5)
        axes.plot(at, some["rough"].where(some["n"] == 0), "x", color=color, alpha=0.5)
    rough = legend_mark(color="0.5", marker="x", linestyle="")
    marks["not measured alone, does not count"] = rough
    axes.axhline(1, color="0.3", linewidth=1)
    at_line: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "va": "bottom",
        "fontsize": 10,
    }
    axes.text(0.3, 1, "as long as normal training", **at_line)
    axes.set(yscale="log", ylabel="time / normal training's")
    set_log_ticks(axes, np.append(ratios[["value", "rough", "low", "high"]].to_numpy(float), 1))
    _name_sizes(axes, trials)
    add_legend(figure, marks, columns=3)
    return figure


def _started_ways(trials: pd.DataFrame) -> list[str]:
    """Return the ways that have trials."""
    started = set(trials.loc[trials["parameters"].notna(), "line"])
    return [way for way in ways(trials) if way in started]


def _way_style(trials: pd.DataFrame, way: str) -> dict[str, Any]:
    kind, small = way_kind(trials, way), has_small_buckets(trials, way)
    color = ENGINE_COLORS.get(kind) or _SHADES[int(kind)]
    return {
        "color": color,
        "marker": _KIND_MARKERS[kind],
        "linestyle": "--" if small else "-",
        "markerfacecolor": "white" if small else color,
        "markersize": 8,
    }


def _draw_way(
    axes: Axes, trials: pd.DataFrame, way: str, values: pd.Series, aside: float = 1
) -> Line2D:
    known = values.astype(float).dropna()
    at = aside * model_sizes(trials)[known.index]
    (mark,) = axes.plot(at, known, **_way_style(trials, way))
    return mark


def _name_sizes(axes: Axes, trials: pd.DataFrame) -> None:
    """Name the models on the axis of parameters."""
    sizes = model_sizes(trials)
    names = [f"{short_model(model)}\n{count / 1e6:.1f} M" for model, count in sizes.items()]
    axes.set_xticks(sizes, names, fontsize=10)
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08)
    axes.set_xlabel("parameters")
