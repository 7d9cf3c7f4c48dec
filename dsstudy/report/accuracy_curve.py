"""The curve of test accuracy over the epochs, and how it is drawn."""

import pandas as pd
from matplotlib.axes import Axes

from dsstudy.paper.printed import CELL
from dsstudy.report.figure_style import ENGINE_COLORS
from dsstudy.spec.engines import ENGINES


def accuracy_curve(
    epochs: pd.DataFrame, architecture: str, engine: str, setting: str
) -> pd.DataFrame:
    """Return a cell's test accuracy by epoch: mean, min, max and count over the seeds."""
    chosen = epochs[(epochs[CELL] == [architecture, engine, setting]).all(axis=1)]
    curve = chosen.groupby("epoch")["test_accuracy"].agg(["mean", "min", "max", "count"])
    return curve.assign(planned=chosen["epochs"].max())


def draw_accuracy_curve(axes: Axes, curve: pd.DataFrame, engine: str) -> None:
    """Draw a curve: its mean as a line, and a band from the lowest to the highest seed."""
    color, look = ENGINE_COLORS[engine], ENGINES[engine]
    axes.plot(curve.index, curve["mean"], color=color, linestyle=look.line, linewidth=1.5,
              marker=look.marker, markersize=4, markevery=max(1, len(curve) // 6),
              label=look.title)  # fmt: skip
    axes.fill_between(curve.index, curve["min"], curve["max"], color=color, alpha=0.2, linewidth=0)
