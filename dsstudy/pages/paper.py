"""The paper's tables and figure, redrawn from the numbers that it printed."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.paper.printed import NAMES, PANELS, PAPER_ENGINES, printed_by_cell, printed_values
from dsstudy.report.figure_style import ENGINE_COLORS, name_rows
from dsstudy.report.table_style import cell_grid, make_bold, style_table
from dsstudy.spec.engines import DEEPSPEED, ENGINES, NORMAL
from dsstudy.spec.trial import ARCHITECTURES

_CAPTIONS = {
    "best_accuracy": "Best test accuracy in 25 epochs, in percent, as published.",
    "seconds_per_epoch": "Seconds of training per epoch, as published.",
}


def paper_table(column: str) -> Styler:
    """Show a table of the paper as printed, the best accuracy or the faster of a pair in bold.

    Parameters
    ----------
    column
        ``best_accuracy`` (Table 1, percent) or ``seconds_per_epoch`` (Table 2).
    """
    wide = cell_grid(printed_values(column), "value")
    if column == "best_accuracy":
        best = wide.eq(wide.max(axis=1), axis=0)
    else:
        deepspeed, normal = (ENGINES[engine].column for engine in PAPER_ENGINES)
        faster = wide[deepspeed] < wide[normal]
        best = pd.concat({deepspeed: faster, normal: ~faster}, axis=1)
    shown = style_table(wide.map("{:.2f}".format), _CAPTIONS[column], column, align="right")
    return make_bold(shown, best)


def endpoints_figure() -> Figure:
    """Draw the best accuracies (Table 1) of the curves in the paper's Figure 1."""
    values = printed_by_cell("best_accuracy")
    figure, grid = plt.subplots(2, 2, figsize=(11, 7), sharex=True, sharey=True)
    for axes, (letter, settings) in zip(grid.flat, PANELS.items(), strict=True):
        rows = range(len(ARCHITECTURES))
        ends = {
            engine: [values[name, engine, settings[engine]] for name in ARCHITECTURES]
            for engine in PAPER_ENGINES
        }
        axes.hlines(rows, ends[DEEPSPEED], ends[NORMAL], color="0.75", zorder=1)
        for engine in PAPER_ENGINES:
            label = f"{ENGINES[engine].title}, {settings[engine]}"
            look = {"color": ENGINE_COLORS[engine], "marker": ENGINES[engine].marker}
            axes.scatter(ends[engine], rows, zorder=2, label=label, **look)
        axes.axvline(10, color="0.5", linestyle=":")
        axes.set_title(f"({letter})", loc="left")
        name_rows(axes, [NAMES[name] for name in ARCHITECTURES])
        axes.legend(loc="center left", bbox_to_anchor=(0.15, 0.33), fontsize=8)
        axes.set_xlim(0, 90)
    for axes in grid[1]:
        axes.set_xlabel("best test accuracy (%); dotted: chance")
    figure.tight_layout()
    return figure
