"""Test accuracy over the epochs: the curve of a cell, and how it is drawn."""

import pandas as pd
from matplotlib.axes import Axes

from dsstudy.paper import printed
from dsstudy.report.figure_style import ENGINE_COLORS
from dsstudy.spec.engines import ENGINES


def accuracy_curve(
    epochs: pd.DataFrame, architecture: str, engine: str, setting: str
) -> pd.DataFrame:
    """Return test accuracy by epoch: mean, min and max over the seeds, and how many are left."""
    cell = {"architecture": architecture, "engine": engine, "setting": setting}
    chosen = epochs[(epochs[list(cell)] == list(cell.values())).all(axis=1)]
    curve = chosen.groupby("epoch")["test_accuracy"].agg(["mean", "min", "max", "count"])
    return curve.assign(planned=chosen["epochs"].max())


def draw_accuracy_curve(axes: Axes, curve: pd.DataFrame, engine: str) -> None:
    """Draw an engine's curve: a line for the mean, a band from the lowest to the highest seed."""
    color = ENGINE_COLORS[engine]
    axes.plot(
        curve.index,
        curve["mean"],
        color=color,
        label=printed.NAMES[engine],
        markevery=max(1, len(curve) // 6),
        markersize=4,
        linewidth=1.5,
        linestyle=ENGINES[engine].line,
        marker=ENGINES[engine].marker,
    )
    axes.fill_between(curve.index, curve["min"], curve["max"], color=color, alpha=0.2, linewidth=0)
