"""The paper in numbers: its tables and figure redrawn from its own data."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.pages.trial import ENGINE_COLORS
from dsstudy.paper.printed import ENGINES, NAMES, PANELS, SETTINGS, published
from dsstudy.report import table_style
from dsstudy.spec.trial import ARCHITECTURES

_MARKERS = {"deepspeed": "s", "normal": "o"}

_CAPTIONS = {
    "best_accuracy": "Best test accuracy in 25 epochs, in percent, as published.",
    "seconds_per_epoch": "Seconds of training per epoch, as published.",
}


def table(column: str) -> Styler:
    """Show one of the paper's tables as printed: best accuracy in bold, or the faster of a pair.

    Parameters
    ----------
    column
        ``best_accuracy`` (Table 1, percent) or ``seconds_per_epoch`` (Table 2).
    """
    wide = table_style.grid(published(column), "value")
    if column == "best_accuracy":
        best = wide.eq(wide.max(axis=1), axis=0)
    else:
        deepspeed, normal = wide.columns.unique(level=0)
        faster = wide[deepspeed] < wide[normal]
        best = pd.concat({deepspeed: faster, normal: ~faster}, axis=1)
    shown = table_style.style(wide.map("{:.2f}".format), _CAPTIONS[column], column, align="right")
    return table_style.bold(shown, best)


def endpoints() -> Figure:
    """Draw where the curves of the paper's Figure 1 end: the accuracies of its Table 1."""
    values = _values("best_accuracy")
    figure, grid = plt.subplots(2, 2, figsize=(11, 7), sharex=True, sharey=True)
    for axes, (letter, settings) in zip(grid.flat, PANELS.items(), strict=True):
        rows = range(len(ARCHITECTURES))
        ends = {
            engine: [values[name, engine, settings[engine]] for name in ARCHITECTURES]
            for engine in ENGINES
        }
        axes.hlines(rows, ends["deepspeed"], ends["normal"], color="0.75", zorder=1)
        for engine in ENGINES:
            label = f"{NAMES[engine]}, {settings[engine]}"
            style = {"color": ENGINE_COLORS[engine], "marker": _MARKERS[engine], "label": label}
            axes.scatter(ends[engine], rows, zorder=2, **style)
        axes.axvline(10, color="0.5", linestyle=":")
        axes.set_title(f"({letter})", loc="left")
        axes.set(yticks=list(rows), yticklabels=[NAMES[name] for name in ARCHITECTURES])
        axes.legend(loc="center left", bbox_to_anchor=(0.15, 0.33), fontsize=8)
        axes.set_xlim(0, 90)
    grid[0, 0].invert_yaxis()
    for axes in grid[1]:
        axes.set_xlabel("best test accuracy (%); dotted: chance")
    figure.tight_layout()
    return figure


def time_ratios() -> Figure:
    """Draw how many times as long an epoch took with DeepSpeed's two GPUs as with one."""
    values = _values("seconds_per_epoch")
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    for shift, (setting, marker) in enumerate(zip(SETTINGS, "osD", strict=True)):
        ratios = [
            values[name, "deepspeed", setting] / values[name, "normal", setting]
            for name in ARCHITECTURES
        ]
        rows = [row + 0.2 * (shift - 1) for row in range(len(ARCHITECTURES))]
        axes.scatter(ratios, rows, marker=marker, color=f"{0.1 + 0.3 * shift}", label=setting)
    axes.axvline(1, color="0.3", linewidth=1)
    axes.axvline(0.5, color="0.3", linewidth=1, linestyle=":")
    axes.set(
        yticks=range(len(ARCHITECTURES)),
        yticklabels=[NAMES[name] for name in ARCHITECTURES],
        xlabel="seconds per epoch, DeepSpeed on two GPUs / normal on one (dotted: twice as fast)",
        xlim=(0, 3),
    )
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    return figure


def _values(column: str) -> "pd.Series[float]":
    return published(column).set_index(["architecture", "engine", "setting"])["value"]
