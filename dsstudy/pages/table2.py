"""Tables and sentences on Table 2: seconds per epoch."""

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import (
    adam_over_sgd,
    compare_engines,
    paper_cells,
    study_architectures,
    verdict_counts_text,
)
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.report.table_style import (
    make_bold,
    named_rows,
    note_below,
    ratio_cell,
    style_table,
    value_cell,
)
from dsstudy.report.wording import span
from dsstudy.spec.engines import ENGINES


def seconds_table(trials: pd.DataFrame) -> Styler:
    """Show the seconds per epoch as in the paper's Table 2, with the paper's ratios beside ours.

    Parameters
    ----------
    trials
        As from `dsstudy.load_trials`.

    Returns
    -------
    pandas.io.formats.style.Styler
        A row per architecture and setting: two times and two ratios. The faster time is bold if
        the two are distinguishable. Times that are not ``exclusive`` are marked, are never bold,
        and give no ratio.
    """
    ratios = compare_engines(trials, "seconds_per_epoch")
    times = paper_cells(trials, "seconds_per_epoch").set_index(CELL)
    texts = pd.DataFrame(index=ratios.index)
    for engine in printed.PAPER_ENGINES:
        side = times.xs(engine, level="engine").loc[ratios.index]
        texts[f"{ENGINES[engine].title} (s)"] = [_seconds_cell(row) for row in side.itertuples()]
    texts["DeepSpeed / normal"] = [_ratio_and_verdict(row) for row in ratios.itertuples()]
    texts["in the paper"] = ratios["published"].map("{:.2f}".format)
    single = ratios["n"] == 1
    faster = pd.DataFrame(False, texts.index, texts.columns)
    faster["DeepSpeed (s)"] = ratios["high"].where(~single, ratios["value"]) < 1
    faster["normal (s)"] = ratios["low"].where(~single, ratios["value"]) > 1
    caption = (
        "Seconds of training per epoch: mean ± standard deviation over n measurements; a number "
        "without ± is one measurement. The last two columns are DeepSpeed's time divided by normal "
        "training's (below 1, DeepSpeed is faster); ours is the geometric mean over pairs of "
        "measurements, with its 95 % interval. The faster of each pair is bold: of single "
        "measurements the lower, of several only if the interval excludes 1."
    )
    return make_bold(
        style_table(named_rows(texts), caption, "table2", align="right"), named_rows(faster)
    )


def adam_table(trials: pd.DataFrame) -> Styler:
    """Show each engine's seconds per epoch with Adam divided by those with SGD."""
    frame = adam_over_sgd(trials)
    texts = {}
    for engine in printed.PAPER_ENGINES:
        side, title = frame.xs(engine, level="engine"), ENGINES[engine].column
        texts[title, "here"] = [ratio_cell(row) for row in side.itertuples()]
        texts[title, "in the paper"] = [f"{ratio:.2f}" for ratio in side["published"]]
    names = [printed.NAMES[name] for name in study_architectures(trials)]
    caption = (
        "Seconds per epoch with Adam divided by those with SGD, both with a scheduler: the "
        "geometric mean over pairs of measurements, and below it its 95 % interval; a number "
        "without an interval is from one pair."
    )
    return style_table(pd.DataFrame(texts, names), caption, "adam", align="right")


def _seconds_cell(row: Any) -> str:
    return value_cell(row, ".2f" if row.value >= 1 else ".4f")


def _ratio_and_verdict(row: Any) -> str:
    return ratio_cell(row) + (note_below(row.verdict.partition(":")[0]) if row.n > 1 else "")


def ratios_text(trials: pd.DataFrame) -> str:
    """Summarise Table 2, ours and the paper's."""
    frame = compare_engines(trials, "seconds_per_epoch")
    both = frame.dropna(subset="value")
    ours, published = both["value"], both["published"]
    if ours.empty:
        return "No pair has two times that were measured alone: nothing to compare yet."
    return (
        f"**DeepSpeed's time is {ours.median():.2f} times normal training's at the median of "
        f"{len(ours)} pairs**, and from {ours.min():.2f} to {ours.max():.2f} (in the paper, of the "
        f"same pairs, {published.median():.2f}, from {published.min():.2f} to "
        f"{published.max():.2f}); below 1 in {(ours < 1).sum()} of {len(ours)} (in the paper in "
        f"{(published < 1).sum()}). Pair by pair: {verdict_counts_text(frame['verdict'])}."
    )


def adam_text(trials: pd.DataFrame) -> str:
    """Say how Adam in place of SGD changes each engine's time per epoch."""
    both = adam_over_sgd(trials).dropna(subset="value")
    if both.empty:
        return "No engine has times with both optimizers that were measured alone."
    sides = [
        f"With a scheduler, an epoch of {ENGINES[engine].title} training takes "
        f"{span(side['value'], '.2f')} times as long with Adam as with SGD (in the paper, for the "
        f"same architectures, {span(side['published'], '.2f')}), {_longer_text(side)}."
        for engine, side in both.groupby("engine")
    ]
    return " ".join(sides)


def _longer_text(side: pd.DataFrame) -> str:
    side = side[side["n"] > 1]
    if side.empty:
        return "by one measurement each, without an interval"
    longer, shorter = (side["low"] > 1).sum(), (side["high"] < 1).sum()
    return f"by the 95 % interval longer for {longer} of {len(side)}, shorter for {shorter}"
