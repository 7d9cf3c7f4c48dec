"""The figures of the page on the cost model."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dsstudy.analysis.cost_model.model import (
    FORMS,
    LINE,
    SHARE,
    SHARED_ARITHMETIC,
    break_even_batch,
    fit_cost,
    fit_groups,
    left_out_errors,
    step_parts,
)
from dsstudy.analysis.cost_model.pairs import pairs_of_setting
from dsstudy.pages.cost_model.data import Studies, bandwidths
from dsstudy.paper import printed
from dsstudy.report.figure_style import ENGINE_COLORS, SETTING_MARKERS, add_legend
from dsstudy.spec.engines import DEEPSPEED, ENGINES
from dsstudy.spec.trial import ARCHITECTURES

_PARTS = ("arithmetic", "the rest", "gradients")

_BARS = (("arithmetic", "rest"), ("ranks' arithmetic", "ranks' rest", "transfer"))
"""The columns of `step_parts` in the bar of one device, and in that of several ranks."""


def step_parts_figure(pairs: pd.DataFrame) -> Figure:
    """Draw the parts of each step in the model, in units of normal training's step."""
    some = pairs_of_setting(pairs)
    known = step_parts(some, fit_cost(some, SHARED_ARITHMETIC), SHARE)
    known = known.div(some["normal_seconds"], axis=0)
    figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
    colors = sns.color_palette("cividis", len(_PARTS))
    at = np.arange(len(some))
    for shift, columns in zip((-0.2, 0.2), _BARS, strict=True):
        left = np.zeros(len(some))
        for column, color in zip(columns, colors, strict=False):
            axes.barh(at + shift, known[column], 0.36, left=left, color=color)
            left += known[column].to_numpy()
    measured = some["seconds"] / some["normal_seconds"]
    style = {"color": ENGINE_COLORS[DEEPSPEED], "markeredgecolor": "k"}
    marks = axes.plot(measured, at + 0.2, "D", **style)
    patches = [plt.Rectangle((0, 0), 1, 1, color=color) for color in colors]
    axes.legend([*marks, *patches], ["DeepSpeed, printed", *_PARTS], loc="lower right")
    axes.axvline(1, color="0.3", linewidth=1)
    axes.set(
        yticks=at,
        yticklabels=[printed.NAMES[name] for name in some.index],
        xlabel="a step's time / normal training's (above: normal; below: DeepSpeed on two GPUs)",
    )
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    return figure


def left_out_figure(table2: pd.DataFrame, found: Studies) -> Figure:
    """Draw predicted over measured times of networks left out of the fit.

    Parameters
    ----------
    table2
        The paper's pairs, in the first column of panels.
    found
        From `load_studies`: a column of panels for each study that has pairs.
    """
    ours = {name: pairs for name, pairs in found.items() if not isinstance(pairs, str)}
    sources = {"the paper's Table 2": table2, **ours}
    forms = {name: terms for name, terms in FORMS.items() if terms in (LINE, SHARED_ARITHMETIC)}
    size = (2.2 + 3.4 * len(sources), 5.8)
    figure, grid = plt.subplots(
        len(forms), len(sources), figsize=size, sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    marks: dict[str, Line2D] = {}
    for row, (form, terms) in zip(grid, forms.items(), strict=True):
        for axes, (source, pairs) in zip(row, sources.items(), strict=True):
            marks |= _draw_left_out(axes, pairs, terms)
            axes.set_title(f"{source}\n{form}", fontsize=11)
    first = grid[0, 0]
    names = [printed.NAMES[name] for name in ARCHITECTURES]
    first.set(yticks=range(len(names)), yticklabels=names, xscale="log")
    first.set_xticks([0.25, 0.5, 1, 2, 4], minor=False)
    first.set_xticks([], minor=True)
    first.xaxis.set_major_formatter("{x:g}")
    first.invert_yaxis()
    figure.supxlabel("predicted / measured", fontsize=12)
    add_legend(figure, marks, columns=3)
    return figure


def _draw_left_out(axes: Axes, pairs: pd.DataFrame, terms: tuple[str, ...]) -> dict[str, Line2D]:
    marks = {}
    for engine, setting, some in fit_groups(pairs):
        shift = 0.22 * (printed.SETTINGS.index(setting) - 1)
        at = [ARCHITECTURES.index(name) + shift for name in some.index]
        ratios, color = 1 + left_out_errors(some, terms).to_numpy(), ENGINE_COLORS[engine]
        (mark,) = axes.plot(
            np.where(ratios > 0, ratios, np.nan), at, SETTING_MARKERS[setting], color=color
        )
        for height in np.array(at)[ratios <= 0]:  # cannot be drawn on a logarithmic axis
            axes.plot(0.03, height, "<", color=color, transform=axes.get_yaxis_transform())
        marks[f"{ENGINES[engine].title}, {setting}"] = mark
    axes.axvline(1, color="0.3", linewidth=1)
    axes.grid(axis="y", visible=False)
    return marks


def break_even_figure(pairs: pd.DataFrame) -> Figure:
    """Draw the batch size from which two GPUs pay over their bandwidth, a line per network."""
    some = pairs_of_setting(pairs)
    found = fit_cost(some, SHARED_ARITHMETIC)
    speeds = np.geomspace(1e9, 1e11, 60)
    batches = pd.DataFrame({v: break_even_batch(some, found, SHARE, v) for v in speeds})
    figure, axes = plt.subplots(figsize=(9, 5.4), layout="constrained")
    for name, color in _shades(some["parameters"]).items():
        axes.loglog(speeds / 1e9, batches.loc[name], color=color, linewidth=2)
    for name, height in _apart(batches.iloc[:, -1]).items():
        size = some["sent"][name] * some["parameters"][name] / 1e6
        text = f"  {printed.NAMES[name]}, {size:.3g} MB"
        axes.text(speeds[-1] / 1e9, height, text, va="center", fontsize=11)
    for (name, speed), side in zip(
        bandwidths(some, found).items(), ("center", "right", "left"), strict=True
    ):
        axes.axvline(speed / 1e9, color="0.4", linewidth=1, linestyle=":")
        axes.text(speed / 1e9, 1.02, name, transform=axes.get_xaxis_transform(), ha=side)
    axes.axhline(printed.BATCH_SIZE, color="0.2", linewidth=1, linestyle="--")
    batch = f" the paper: {printed.BATCH_SIZE} images"
    axes.text(speeds[0] / 1e9, 0.9 * printed.BATCH_SIZE, batch, va="top", fontsize=11)
    axes.text(0.5, 0.8, "above its line, two GPUs pay", transform=axes.transAxes, ha="center")
    axes.set(
        xlabel="bandwidth between the two GPUs, in one direction (GB/s)",
        ylabel="images per step from which two GPUs pay",
        xlim=(speeds[0] / 1e9, speeds[-1] / 1e9),
        ylim=(1, None),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    return figure


def _shades(sizes: pd.Series) -> dict[str, tuple[float, ...]]:
    """Return a colour per network, darker for larger ones."""
    places = np.log(sizes / sizes.min()) / np.log(sizes.max() / sizes.min())
    shades = sns.color_palette("viridis_r", as_cmap=True)
    return {name: shades(0.15 + 0.85 * place) for name, place in places.items()}


def _apart(heights: pd.Series, least: float = 1.45) -> pd.Series:
    """Return heights on a logarithmic axis at which labels do not overlap."""
    placed = heights.sort_values()
    for lower, upper in zip(placed.index, placed.index[1:], strict=False):
        placed[upper] = max(placed[upper], least * placed[lower])
    return placed
