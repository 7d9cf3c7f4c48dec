"""The page on Table 2: seconds per epoch."""

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import (
    CELL,
    adam_over_sgd,
    compare_engines,
    paper_cells,
    study_architectures,
    verdict_counts_text,
)
from dsstudy.paper import printed
from dsstudy.report.table_style import (
    COLUMN_TITLES,
    make_bold,
    named_rows,
    note_below,
    ratio_cell,
    style_table,
    value_cell,
)
from dsstudy.report.wording import span


def seconds_table(trials: pd.DataFrame) -> Styler:
    """Show the seconds per epoch as the paper's Table 2, its ratios beside ours.

    Parameters
    ----------
    trials
        As `dsstudy.analysis.cells.load_trials` returns them.

    Returns
    -------
    pandas.io.formats.style.Styler
        For each architecture of the study three rows of two times, the faster in bold where it
        can be told, and of two ratios. Times that are not ``exclusive`` are marked, are never
        bold, and give no ratio.
    """
    ratios = compare_engines(trials, "seconds_per_epoch")
    times = paper_cells(trials, "seconds_per_epoch").set_index(CELL)
    texts = pd.DataFrame(index=ratios.index)
    for engine in printed.PAPER_ENGINES:
        side = times.xs(engine, level="engine").loc[ratios.index]
        texts[f"{printed.NAMES[engine]} (s)"] = [_seconds_cell(row) for row in side.itertuples()]
    texts["DeepSpeed / normal"] = [_ratio_and_verdict(row) for row in ratios.itertuples()]
    texts["in the paper"] = ratios["published"].map("{:.2f}".format)
    single = ratios["n"] == 1
    faster = pd.DataFrame(False, texts.index, texts.columns)
    faster["DeepSpeed (s)"] = (ratios["high"] < 1) | (single & (ratios["value"] < 1))
    faster["normal (s)"] = (ratios["low"] > 1) | (single & (ratios["value"] > 1))
    caption = (
        "Seconds of training per epoch: mean ± standard deviation over n measurements; a number "
        "without ± is one measurement. The last two columns are DeepSpeed's time divided by normal "
        "training's, ours the mean over pairs of measurements with its 95 % interval: below 1, "
        "DeepSpeed is the faster. The faster of each pair is bold: of single measurements the "
        "lower, of several only if the interval tells it."
    )
    return make_bold(
        style_table(named_rows(texts), caption, "table2", align="right"), named_rows(faster)
    )


def adam_table(trials: pd.DataFrame) -> Styler:
    """Show how many times as long an epoch takes with Adam as with SGD, in each engine.

    Parameters
    ----------
    trials
        As `dsstudy.analysis.cells.load_trials` returns them.
    """
    frame = adam_over_sgd(trials)
    texts = {}
    for engine in printed.PAPER_ENGINES:
        side = frame.xs(engine, level="engine")
        texts[COLUMN_TITLES[engine], "here"] = [ratio_cell(row) for row in side.itertuples()]
        texts[COLUMN_TITLES[engine], "in the paper"] = (
            side["published"].map("{:.2f}".format).tolist()
        )
    names = [printed.NAMES[name] for name in study_architectures(trials)]
    caption = (
        "Seconds of an epoch with Adam divided by those with SGD, both with a scheduler: the mean "
        "over pairs of measurements, and below it its 95 % interval; a number without one is one "
        "pair's."
    )
    return style_table(pd.DataFrame(texts, names), caption, "adam", align="right")


def _seconds_cell(row: Any) -> str:
    return value_cell(row, ".2f" if row.value >= 1 else ".4f")


def _ratio_and_verdict(row: Any) -> str:
    return ratio_cell(row) + (note_below(row.verdict.partition(":")[0]) if row.n > 1 else "")


def ratios_text(trials: pd.DataFrame) -> str:
    """Say in a sentence what Table 2 shows, of ours and of the paper's."""
    frame = compare_engines(trials, "seconds_per_epoch")
    both = frame.dropna(subset="value")
    ours, published = both["value"], both["published"]
    if ours.empty:
        return "No pair has two times that were measured alone: there is nothing to compare yet."
    return (
        f"DeepSpeed's time is {ours.median():.2f} times normal training's at the median of "
        f"{len(ours)} pairs, and from {ours.min():.2f} to {ours.max():.2f} (in the paper, of the "
        f"same pairs, {published.median():.2f}, from {published.min():.2f} to "
        f"{published.max():.2f}); below 1 in {(ours < 1).sum()} of {len(ours)} (in the paper in "
        f"{(published < 1).sum()} of {len(published)}). Pair by pair: "
        f"{verdict_counts_text(frame['verdict'])}."
    )


def adam_text(trials: pd.DataFrame) -> str:
    """Say what Adam, in place of SGD, does to an epoch's time in each engine."""
    both = adam_over_sgd(trials).dropna(subset="value")
    if both.empty:
        return "No engine has times with both optimizers that were measured alone."
    sides = [
        f"With a scheduler, an epoch of {printed.NAMES[engine]} training takes "
        f"{span(side['value'], '.2f')} times as long with Adam as with SGD (in the paper, for the "
        f"same architectures, {span(side['published'], '.2f')}), {_longer_text(side[side['n'] > 1])}."
        for engine, side in both.groupby("engine")
    ]
    return " ".join(sides)


def _longer_text(side: pd.DataFrame) -> str:
    if side.empty:
        return "by one measurement each, without an interval"
    longer, shorter = (side["low"] > 1).sum(), (side["high"] < 1).sum()
    return f"by its 95 % interval longer for {longer} of {len(side)}, shorter for {shorter}"
