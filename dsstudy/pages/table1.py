"""Tables and sentences on Table 1: the best test accuracies."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import (
    best_cells,
    compare_engines,
    paired_values,
    paper_cells,
    verdict_counts_text,
)
from dsstudy.paper.printed import CELL
from dsstudy.report.table_style import (
    cell_grid,
    difference_cell,
    make_bold,
    named_rows,
    note_below,
    style_table,
    value_cell,
    wrapping_cell,
)
from dsstudy.report.wording import signed
from dsstudy.spec.engines import NORMAL


def accuracy_table(trials: pd.DataFrame) -> Styler:
    """Show the best test accuracies as in the paper's Table 1, with the paper's below ours.

    Parameters
    ----------
    trials
        As from `dsstudy.load_trials`.

    Returns
    -------
    pandas.io.formats.style.Styler
        A row of six cells per architecture. Our best is bold if it is distinguishable from the
        others.
    """
    frame = paper_cells(trials, "best_accuracy")
    best = best_cells(trials)
    frame["text"] = [_accuracy_cell(row) for row in frame.itertuples()]
    frame["bold"] = [cell in best for cell in frame[CELL].itertuples(index=False, name=None)]
    caption = (
        "Best test accuracy over the epochs, in percent: mean ± standard deviation over n seeds; a "
        "number without ± is from one seed. The best of each architecture is bold. With one seed "
        "per cell, as in the paper, it is the highest number; with several, it must be "
        "distinguishable from each other cell of the row. Below each number: the paper's, and ours "
        "minus the paper's."
    )
    return make_bold(
        style_table(cell_grid(frame, "text"), caption, "table1"), cell_grid(frame, "bold")
    )


def differences_table(trials: pd.DataFrame) -> Styler:
    """Show DeepSpeed's accuracy minus normal training's, paired by seed, with a verdict."""
    frame = compare_engines(trials, "best_accuracy")
    texts = pd.DataFrame(
        {
            "DeepSpeed − normal": [difference_cell(row) for row in frame.itertuples()],
            "in the paper": frame["published"].map(signed),
            "n": frame["n"].astype(str),
            "verdict": frame["verdict"].map(wrapping_cell),
        }
    )
    caption = (
        "Points of best test accuracy, DeepSpeed minus normal training in the same setting: the "
        "mean over n pairs with equal seeds, and below it its 95 % interval (Student's t)."
    )
    return style_table(named_rows(texts), caption, "differences")


def _accuracy_cell(row: Any) -> str:
    difference = f"<br>{signed(row.value - row.published)}" if row.n else ""
    return value_cell(row, ".2f") + note_below(f"paper {row.published:.2f}{difference}")


def accuracies_text(trials: pd.DataFrame) -> str:
    """Summarise Table 1, ours and the paper's."""
    frame = paper_cells(trials, "best_accuracy")
    filled = f"{frame['value'].notna().sum()} of {len(frame)} cells have a value."
    pairs = compare_engines(trials, "best_accuracy")
    both = pairs.dropna(subset="value")
    if both.empty:
        return f"{filled} No setting has one with and one without DeepSpeed to compare yet."
    rows = frame[frame["architecture"].isin(both.index.get_level_values("architecture"))]
    last = [values.mean() for values in paired_values(trials, "final_accuracy").values()]
    return (
        f"**In the same setting, DeepSpeed's accuracy minus normal training's is "
        f"{signed(both['value'].mean())} points on average over {len(both)} settings** "
        f"({both['n'].sum()} pairs of trials with equal seeds; in the paper "
        f"{signed(both['published'].mean())} over the same settings, one pair each). By the last "
        f"epoch instead of the best it is {signed(float(np.mean(last)))} points. Normal training "
        f"has the highest mean for {_best_by_normal(rows, 'value')} architectures (in the paper "
        f"for {_best_by_normal(rows, 'published')}). Setting by setting: "
        f"{verdict_counts_text(pairs['verdict'])}. {filled}"
    )


def _best_by_normal(frame: pd.DataFrame, column: str) -> str:
    known = frame.dropna(subset=column)
    best = known.loc[known.groupby("architecture")[column].idxmax(), "engine"]
    return f"{(best == NORMAL).sum()} of {len(best)}"
