"""The paper's Figure 1, test accuracy over the epochs, drawn from records."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dsstudy.analysis.cells import study_architectures as study_architectures  # for the notebook
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.report.accuracy_curve import accuracy_curve, draw_accuracy_curve
from dsstudy.report.figure_style import CSS_COLORS, add_legend
from dsstudy.spec.engines import DEEPSPEED, ENGINES, NORMAL
from dsstudy.spec.trial import ARCHITECTURES

_PLOTLY_SYMBOLS = {"o": "circle", "^": "triangle-up", "s": "square"}
"""Plotly's names of matplotlib's markers."""


def ahead_text(epochs: pd.DataFrame) -> str:
    """Say for how many architectures of each panel DeepSpeed is ahead at the start and the end."""
    counts = [
        f"{panel}) " + " and ".join(_count_ahead(epochs, sides, at) for at in ("first", "last"))
        for panel, sides in printed.PANELS.items()
    ]
    return (
        "Architectures for which DeepSpeed is ahead after the first epoch and after the last, by "
        f"means over seeds, whatever their spread: {'; '.join(counts)}."
    )


def _count_ahead(epochs: pd.DataFrame, settings: dict[str, str], which: str) -> str:
    trials = epochs.sort_values("epoch").groupby([*CELL, "seed"])["test_accuracy"].agg(which)
    sides = trials.groupby(CELL).mean().unstack(["engine", "setting"])
    sides = sides.reindex(list(ARCHITECTURES), columns=list(settings.items()))
    lead = (sides.iloc[:, 0] - sides.iloc[:, 1]).dropna()
    return f"{(lead > 0).sum()} of {len(lead)}"


def panels_figure(epochs: pd.DataFrame, architectures: Sequence[str] = ARCHITECTURES) -> Figure:
    """Draw the paper's Figure 1: test accuracy over the epochs, with and without DeepSpeed.

    The paper's four panels are the columns, and each architecture has a row, so that each frame
    has only the two curves to compare. Over several seeds, the line is the mean and the band
    reaches from the lowest to the highest.

    Parameters
    ----------
    epochs
        As from `dsstudy.load_epochs`.
    architectures
        The rows: those of the study, as from `study_architectures`.
    """
    rows, size = len(architectures), (10, 2 + 1.45 * max(len(architectures), 1.5))
    figure, grid = plt.subplots(rows, len(printed.PANELS), figsize=size, squeeze=False,
                                sharex=True, sharey=True, layout="constrained")  # fmt: skip
    notes: dict[str, list[str]] = {"No curve": [], "Ended early": []}
    for row, architecture in zip(grid, architectures, strict=True):
        for axes, settings in zip(row, printed.PANELS.values(), strict=True):
            for engine, setting in settings.items():
                found = accuracy_curve(epochs, architecture, engine, setting)
                draw_accuracy_curve(axes, found, engine)
                if note := _missing_note(found):
                    notes[note].append(printed.cell_label(architecture, engine, setting))
        row[0].set_ylabel(printed.NAMES[architecture], fontsize=10)
    _label_panels(figure, grid, _axis_top(epochs))
    lines = [f"{note}: {'; '.join(dict.fromkeys(some))}." for note, some in notes.items() if some]
    figure.text(0.01, -0.005, "\n".join(lines), va="top", wrap=True, fontsize=10)
    return figure


def _missing_note(curve: pd.DataFrame) -> str | None:
    """Say whether a curve is missing, or lacks the last epochs of a seed; None if complete."""
    if curve.empty:
        return "No curve"
    whole = curve.index.max() == curve["planned"].iloc[0] and curve["count"].nunique() == 1
    return None if whole else "Ended early"


def _axis_top(epochs: pd.DataFrame) -> float:
    """Return the upper limit of the axis: the highest accuracy, rounded up to a multiple of 10."""
    highest = epochs["test_accuracy"].max()
    return 100 if pd.isna(highest) else 10 * np.ceil(highest / 10)


def _label_panels(figure: Figure, grid: np.ndarray, top: float) -> None:
    for axes, (panel, settings) in zip(grid[0], printed.PANELS.items(), strict=True):
        axes.set_title(f"{panel}) {_panel_name(settings)}", fontsize=11)
    grid[0][0].xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    grid[0][0].yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    grid[0][0].set_ylim(0, top)
    figure.supxlabel("epoch", fontsize=12)
    figure.supylabel("test accuracy (%)", fontsize=12)
    handles, labels = grid[0][0].get_legend_handles_labels()
    add_legend(figure, dict(zip(labels, handles, strict=True)), columns=2)


def _panel_name(settings: dict[str, str]) -> str:
    if settings[DEEPSPEED] == settings[NORMAL]:
        return f"both {settings[NORMAL]}"
    return f"DeepSpeed {settings[DEEPSPEED]},\nnormal {settings[NORMAL]}"


def accuracy_explorer(epochs: pd.DataFrame, architectures: Sequence[str] = ARCHITECTURES) -> HTML:
    """Show Figure 1 interactively, one architecture at a time.

    Parameters
    ----------
    epochs
        As from `dsstudy.load_epochs`.
    architectures
        The choices.

    Returns
    -------
    IPython.display.HTML
        It contains all the JavaScript that it needs and works without a network.
    """
    import plotly.graph_objects as go

    sides = [(engine, setting) for engine in printed.PAPER_ENGINES for setting in printed.SETTINGS]
    curves = {
        architecture: [accuracy_curve(epochs, architecture, *side) for side in sides]
        for architecture in architectures
    }
    # The two menus set different properties, so that neither changes what the other has chosen.
    rows = [(printed.NAMES[name], _trace_data(curves[name], sides)) for name in architectures]
    chosen_panels = [
        (f"{panel}) {_panel_name(settings)}".replace("\n", " "), settings.items())
        for panel, settings in printed.PANELS.items()
    ]
    shown = [
        (name, {"visible": [side in chosen for side in sides]})
        for name, chosen in [*chosen_panels, ("all settings", sides)]
    ]
    first = {**rows[0][1], **shown[0][1]}
    figure = go.Figure(
        [
            _trace(*side, **{name: values[index] for name, values in first.items()})
            for index, side in enumerate(sides)
        ]
    )
    figure.update_layout(
        template="plotly_white",
        height=520,
        margin={"l": 60, "r": 15, "t": 110, "b": 60},
        xaxis={"title": "epoch", "rangemode": "tozero", "tickformat": "d"},
        yaxis={"title": "test accuracy (%)", "range": [0, _axis_top(epochs)]},
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.2},
        updatemenus=[_menu(rows, 1.27), _menu(shown, 1.14)],
    )
    config = {"responsive": True, "displaylogo": False, "displayModeBar": False}
    parts = {"full_html": False, "include_plotlyjs": True, "include_mathjax": False}
    return HTML(figure.to_html(default_width="100%", config=config, **parts))


def _trace(engine: str, setting: str, **shown: Any) -> Any:
    import plotly.graph_objects as go

    dash = {"SGD": "solid", "SGD+S": "dash", "Adam+S": "dot"}[setting]
    return go.Scatter(
        mode="lines+markers",
        line={"color": CSS_COLORS[engine], "dash": dash},
        marker={"symbol": _PLOTLY_SYMBOLS[ENGINES[engine].marker]},
        hovertemplate="%{y:.2f} %%{customdata}",
        **shown,
    )


def _trace_data(curves: list[pd.DataFrame], sides: list[tuple[str, str]]) -> dict[str, list[Any]]:
    """Return the traces of one architecture: names, points, and the range over the seeds."""
    return {
        "name": [
            f"{ENGINES[engine].title} {setting}" + " (no curve)" * curve.empty
            for (engine, setting), curve in zip(sides, curves, strict=True)
        ],
        "x": [curve.index.tolist() for curve in curves],
        "y": [curve["mean"].round(2).tolist() for curve in curves],
        "customdata": [list(map(_range_text, curve.to_dict("records"))) for curve in curves],
    }


def _range_text(epoch: dict[str, Any]) -> str:
    return f" ({epoch['min']:.1f} to {epoch['max']:.1f})" if epoch["count"] > 1 else ""


def _menu(choices: list[tuple[str, dict[str, Any]]], y: float) -> dict[str, Any]:
    buttons = [{"label": name, "method": "restyle", "args": [change]} for name, change in choices]
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": y, "yanchor": "top"}
