"""A study's trials outside the paper's tables: own networks, and other engines."""

import html
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import cell_summary, measured_values, outside_paper
from dsstudy.paper.printed import CELL
from dsstudy.report.figure_style import ENGINE_COLORS, literal
from dsstudy.report.table_style import style_table, value_cell
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import PLACES, Trial

ROW = ["network", "run"]
"""The columns that name a row of the table."""

_NOT_IN_RUN = ("model", *CELL, "optimizer", "scheduler", "seed", *PLACES)
"""Parameters that a row names in other words, averages over, or may ignore."""


def counts_text(trials: pd.DataFrame) -> str:
    """Say how many trials and networks the page is over."""
    rows = name_runs(trials)
    if rows.empty:
        return "This study has no trial outside the paper's tables."
    completed = (rows["status"] == "completed").sum()
    return (
        f"{len(rows)} trials of {rows['network'].nunique()} networks are outside the paper's "
        f"tables; {completed} of them are completed."
    )


def runs_table(trials: pd.DataFrame) -> Styler | None:
    """Show the best test accuracy and the seconds per epoch of trials that differ only by seed.

    Parameters
    ----------
    trials
        As from `dsstudy.load_trials`.

    Returns
    -------
    pandas.io.formats.style.Styler or None
        A row per network and run; None without trials outside the paper's tables.
    """
    rows = name_runs(trials)
    if rows.empty:
        return None
    columns = {"best_accuracy": "best test accuracy (%)", "seconds_per_epoch": "seconds per epoch"}
    runs = dict(list(rows.groupby(ROW)))
    texts = pd.DataFrame(
        {
            title: [_value_cell(run, column) for run in runs.values()]
            for column, title in columns.items()
        },
        index=pd.MultiIndex.from_tuples(tuple(map(html.escape, row)) for row in runs),
    )
    caption = (
        "Best test accuracy over the epochs, and seconds that an epoch of training takes without "
        "evaluation: mean ± standard deviation over n seeds or rounds; a number without ± is from "
        "one. A time marked shared was measured beside other work."
    )
    return style_table(texts, caption, "networks", wrap="7em")


def _value_cell(run: pd.DataFrame, column: str) -> str:
    # Run by run: where some runs were timed alone, the others keep the times that they have.
    summary = cell_summary(measured_values(run, column))
    return value_cell(pd.Series(summary), ".2f")


def name_runs(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows outside the paper's tables, with ``network`` and ``run``.

    A run is named by its engine, its setting, and every other parameter that differs between rows.
    """
    rows = outside_paper(trials)
    names = [name for name in Trial.model_fields if name in rows and name not in _NOT_IN_RUN]
    run = rows["engine"].map(lambda engine: ENGINES[engine].title) + ", " + rows["setting"]
    for name in names:
        if rows[name].nunique() > 1:
            run += rows[name].map(lambda value, name=name: f", {name} {_parameter_text(value)}",
                                  na_action="ignore").fillna("")  # fmt: skip
    # Not the architecture: models that stand for one architecture are different networks.
    network = rows.get("model", rows["architecture"]).fillna(rows["architecture"])
    return rows.assign(network=network, run=run)


def _parameter_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def accuracy_figure(epochs: pd.DataFrame) -> Figure | None:
    """Draw test accuracy over the epochs: a frame per network, a colour per engine.

    None without epochs of trials outside the paper's tables.

    Over several seeds, the line is the mean and the band reaches from the lowest to the highest.

    Parameters
    ----------
    epochs
        As from `dsstudy.load_epochs`.
    """
    rows = name_runs(epochs)
    if rows.empty:
        return None
    columns = min(3, rows["network"].nunique())
    colors = {
        run: ENGINE_COLORS[engine] for run, engine in zip(rows["run"], rows["engine"], strict=True)
    }
    grid = sns.relplot(rows, kind="line", x="epoch", y="test_accuracy", hue="run", style="run",
                       palette=colors, markers=True, errorbar=("pi", 100), col="network",
                       col_wrap=columns, height=2.8, aspect=1.2)  # fmt: skip
    grid.set(ylim=(0, None)).set_axis_labels("epoch", "test accuracy (%)")
    for name, axes in grid.axes_dict.items():
        axes.set_title(literal(name))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    sns.move_legend(
        grid, "lower center", bbox_to_anchor=(0.5, 1), ncol=1, title=None, frameon=False
    )
    return grid.figure
