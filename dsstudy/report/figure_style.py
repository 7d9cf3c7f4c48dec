"""The theme, colours, marks, legends and logarithmic axes of all figures."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dsstudy.paper import printed
from dsstudy.spec.engines import ENGINES

PALETTE = sns.color_palette("colorblind")
sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)

ENGINE_COLORS = {name: PALETTE[engine.color] for name, engine in ENGINES.items()}
"""Each engine's colour, the same in every figure."""

CSS_COLORS = {name: to_hex(color) for name, color in ENGINE_COLORS.items()}
"""The same colours as CSS and plotly write them."""

SETTING_MARKERS = dict(zip(printed.SETTINGS, "osD", strict=True))

PRINTED_STYLE: dict[str, Any] = {"color": "k", "markerfacecolor": "none", "markersize": 9}
PRINTED_STYLE |= {"marker": "D", "linestyle": ""}
"""How figures mark a number that the paper printed."""

_IN_NOTEBOOKS = ("inline", "ipympl", "widget", "nbagg", "notebook")
"""What the names of matplotlib's backends for notebooks contain."""


def _draw_in_notebooks() -> None:
    """Have a notebook keep its figures although $MPLBACKEND names a backend for files or windows.

    A backend that was chosen in the notebook itself stays.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    chosen = os.environ.get("MPLBACKEND", "").lower()
    if shell is None or not hasattr(shell, "kernel"):
        return
    if any(name in chosen for name in _IN_NOTEBOOKS):
        return
    if mpl.get_backend().lower() == chosen:
        shell.enable_matplotlib("inline")


_draw_in_notebooks()


def literal(text: str) -> str:
    """Return a text of the user's as matplotlib draws it literally: a dollar begins no formula."""
    return text.replace("$", r"\$")


def legend_mark(**style: Any) -> Line2D:
    """Return a line or a point for a legend."""
    return Line2D([], [], **style)


def engine_mark(engine: str) -> Line2D:
    """Return an engine's point for a legend."""
    return legend_mark(color=ENGINE_COLORS[engine], marker=ENGINES[engine].marker, linestyle="")


def add_legend(figure: Figure, marks: Mapping[str, Any], columns: int) -> None:
    """Add a legend above a figure, from marks by label."""
    look: dict[str, Any] = {"loc": "outside upper center", "frameon": False}
    figure.legend(list(marks.values()), list(marks), ncols=columns, **look)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows at y = 0, 1, 2, ... and put the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def set_log_ticks(axes: Axes, values: np.ndarray) -> None:
    """Put round numbers on a logarithmic axis: more of them if its range is short."""
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
