"""Figures of the phases of a training step."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dsstudy.records.schema import PHASES
from dsstudy.report.figure_style import ENGINE_COLORS, PALETTE, add_legend, legend_mark, name_rows
from dsstudy.spec.engines import ENGINES

PHASE_COLORS = dict(
    zip(PHASES, [PALETTE[i] for i in (8, 9, 4, 3, 5)] + [(0.85, 0.85, 0.85)], strict=True)
)
"""Colours that no engine has."""

PHASE_HATCHES = dict(zip(PHASES, ("..", "", "//", "xx", "\\\\", ""), strict=True))
"""They distinguish the phases without colour."""


def phases_figure(profiles: pd.DataFrame) -> Figure:
    """Draw each profiled step as a stacked bar of its phases.

    Parameters
    ----------
    profiles
        As from `dsstudy.analysis.step_phases.load_profiles`: a row of panels per network, a
        column per batch size, and in each panel a bar per engine.
    """
    labels = list(profiles.index.get_level_values("label").unique())
    sizes = sorted(profiles.index.get_level_values("batch_size").unique())
    size = (max(9, 4.6 * len(sizes) + 1), 1.75 * len(labels) + 1.2)
    figure, grid = plt.subplots(
        len(labels), len(sizes), figsize=size, squeeze=False, layout="constrained"
    )
    for row, label in zip(grid, labels, strict=True):
        for axes, images in zip(row, sizes, strict=True):
            some = profiles[profiles.index.droplevel("engine") == (label, images)]
            axes.set_title(f"{label}, {images} images", fontsize=11, loc="left")
            if some.empty:
                axes.set_axis_off()
                axes.text(0, 0.8, "not profiled", va="top", fontsize=10, style="italic")
            else:
                _draw_bars(axes, some.droplevel(["label", "batch_size"]))
    figure.supxlabel("milliseconds per step", fontsize=12)
    unprofiled = legend_mark(color="k", marker="D", linestyle="")
    add_legend(figure, {**_phase_patches(), "unprofiled": unprofiled}, columns=4)
    return figure


def _draw_bars(axes: Axes, some: pd.DataFrame) -> None:
    for y, engine in enumerate(ENGINES):
        if engine not in some.index:
            axes.text(0, y, " not profiled", va="center", fontsize=10, style="italic")
            continue
        step, left = some.loc[engine], 0.0
        for phase in PHASES:
            axes.barh(y, 1e3 * step[phase], 0.7, left=left, **_phase_look(phase))
            left += 1e3 * step[phase]
        low, high = 1e3 * step["low"], 1e3 * step["high"]
        axes.plot([low, high], [y, y], color="k", linewidth=1.5)
        axes.plot(1e3 * step["plain"], y, "D", color="k", markeredgecolor="w", markersize=7)
    _name_engines(axes, [(name, engine.title) for name, engine in ENGINES.items()])
    axes.set_xlim(0, None)


def step_figure(profiles: pd.DataFrame, label: str, batch_size: int) -> Figure | None:
    """Draw one step from beginning to end, with a row for each rank of each engine.

    Returns
    -------
    Figure or None
        None if this network and batch size were not profiled.
    """
    some = profiles[profiles.index.droplevel("engine") == (label, batch_size)]
    lanes = [
        (engine, f"{ENGINES[engine].title}, rank {rank}", ranks[rank]["step"])
        for (_, _, engine), ranks in some["ranks"].items()
        for rank in range(len(ranks))
    ]
    if not lanes:
        return None
    figure, axes = plt.subplots(figsize=(10, 0.55 * len(lanes) + 1.6), layout="constrained")
    for y, (_, _, pieces) in enumerate(lanes):
        for phase in PHASES:
            spans = [(a / 1e3, (b - a) / 1e3) for name, a, b in pieces if name == phase]
            axes.broken_barh(spans, (y - 0.35, 0.7), **_phase_look(phase))
    _name_engines(axes, [(engine, name) for engine, name, _ in lanes])
    axes.set_xlabel("milliseconds since the step began on rank 0")
    axes.set_title(f"{label}, {batch_size} images: one step", fontsize=11, loc="left")
    add_legend(figure, _phase_patches(), columns=6)
    return figure


def _phase_look(phase: str) -> dict[str, Any]:
    return {
        "facecolor": PHASE_COLORS[phase],
        "hatch": PHASE_HATCHES[phase],
        "edgecolor": "0.25",
        "linewidth": 0,
    }


def _phase_patches() -> dict[str, Any]:
    return {phase: Patch(**_phase_look(phase)) for phase in PHASES}


def _name_engines(axes: Axes, lanes: list[tuple[str, str]]) -> None:
    """Name the rows in their engines' colours."""
    name_rows(axes, [name for _, name in lanes])
    for tick, (engine, _) in zip(axes.get_yticklabels(), lanes, strict=True):
        tick.set(color=ENGINE_COLORS[engine], fontweight="bold")
    axes.grid(axis="y", visible=False)
