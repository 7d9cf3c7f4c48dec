"""The page on capacity: its tables, and what they say in words."""

import html
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis import capacity
from dsstudy.paper.printed import short_model
from dsstudy.report.table_style import interval, ratio, small, style

PARITY = 1.0
"""The ratio of times at which two lines are equally fast."""


def held(trials: pd.DataFrame) -> Styler:
    """Show the bytes a parameter that a rank holds, beside those of ZeRO's paper."""
    texts = capacity.per_parameter(trials).map(_number)
    texts = _titled(texts, trials)
    texts.insert(0, "ZeRO's paper", capacity.theories(trials).map(_number))
    caption = (
        "Bytes a parameter that a rank holds in tensors when a backward pass has ended: weights, "
        "gradients, the optimizer's states, the engine's copies and buffers of them. Under each "
        "model, its parameters. First column: the count of Rajbhandari et al., fp32 and Adam."
    )
    return style(texts, caption, "held", align="right", wrap="5em")


def peaks(trials: pd.DataFrame) -> Styler:
    """Show a rank's peak memory, and how it grows with the model."""
    texts = (capacity.by_size(trials, "peak") / capacity.MIB).map("{:,.0f}".format)
    texts = _titled(texts.replace("nan", "<em>missing</em>"), trials)
    growth = capacity.growth(trials)
    texts["bytes a parameter"] = growth["bytes"].map(_number)
    texts["the rest"] = (growth["rest"] / capacity.MIB).map("{:,.0f}".format).replace("nan", "–")
    caption = (
        "A rank's highest memory in the first epoch, in MiB. The last columns are a line through "
        "each row by least squares: what a further parameter adds, in bytes, and what is there "
        "without any, in MiB (libraries, shared buffers)."
    )
    return style(texts, caption, "peaks", align="right", wrap="5em")


def times(trials: pd.DataFrame) -> Styler:
    """Show each line's time over normal training's, or why there is no ratio."""
    ratios = capacity.ratios(trials)
    texts = pd.Series([_ratio(row) for row in ratios.itertuples()], ratios.index)
    wide = texts.unstack("model")
    order = [line for line in capacity.lines(trials) if line != capacity.BASE]
    wide = wide.reindex(index=order, columns=list(capacity.sizes(trials).index))
    caption = (
        "Time of a line over that of normal training of the same model, mean over the rounds that "
        "both were measured alone in, with its 95 % interval: below 1, the line is the faster."
    )
    return style(_titled(wide, trials), caption, "ratios", align="right", wrap="6em")


def _ratio(row: Any) -> str:
    return ratio(row) if row.n else f"<em>{row.state}</em>"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"


def _titled(frame: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Head each column with the model's short name and its parameters."""
    heads = {
        model: f"{html.escape(short_model(model))}{small(f'{count / 1e6:.1f} M')}"
        for model, count in capacity.sizes(trials).items()
    }
    return frame.rename(columns=heads).rename_axis(index=None, columns=None)


def memory_in_words(trials: pd.DataFrame) -> str:
    """Say how what a rank holds, and what a parameter adds to its peak, change with the stage."""
    held = capacity.per_parameter(trials).dropna(how="all", axis=1)
    growth = capacity.growth(trials)["bytes"]
    parts = []
    if held.shape[1]:
        model = held.columns[-1]
        parts.append(
            f"What a rank holds of {short_model(model)}, the largest model measured, in bytes a "
            f"parameter: {_each(trials, held[model])}."
        )
    if growth.notna().any():
        parts.append(
            f"What a further parameter adds to a rank's peak, in bytes: {_each(trials, growth)}."
        )
    return "\n".join(f"- {part}" for part in parts) or "Nothing is measured yet."


def _each(trials: pd.DataFrame, values: pd.Series) -> str:
    """List the values of all lines, those of DeepSpeed by stage."""
    known = values.dropna()
    own, small = (
        [line for line in capacity.by_zero_stage(trials, kind) if line in known.index]
        for kind in (False, True)
    )
    parts = [f"{line} {known[line]:.1f}" for line in known.index.drop([*own, *small])]
    for lines, buckets in ((own, "DeepSpeed's own buckets"), (small, "small buckets")):
        if lines:
            stages = ", ".join(capacity.kind(trials, line) for line in lines)
            numbers = ", ".join(f"{known[line]:.1f}" for line in lines)
            plural = "s" * (len(lines) > 1)
            parts.append(f"with {buckets} {numbers} at stage{plural} {stages}")
    return "; ".join(parts)


def times_in_words(trials: pd.DataFrame) -> str:
    """Say for which lines and sizes a second process pays, and whether size changes it."""
    ratios = capacity.ratios(trials)
    counting = ratios[ratios["n"] > 0]
    if counting.empty:
        return (
            "No time was measured alone yet, so there is no ratio that counts: `dsstudy time` "
            "measures them, on a machine that does nothing else."
        )
    lines = [
        f"- {line}: {', '.join(_at(*one) for one in some.iterrows())}"
        for line, some in counting.groupby(level="line", sort=False)
    ]
    return "\n".join(["Times normal training's time, with 95 % intervals:", "", *lines])


def _at(key: tuple[str, str], row: pd.Series) -> str:
    limits = f" ({interval(row, '{:.2f}'.format)})" if row["n"] > 1 else ""
    return f"{row['value']:.2f}{limits} for {short_model(key[1])}"


def answer(trials: pd.DataFrame) -> str:
    """Answer the page's question, whether DeepSpeed pays only for larger models."""
    return f"{_time_answer(trials)} {_memory_answer(trials)}"


def _time_answer(trials: pd.DataFrame) -> str:
    ratios = capacity.ratios(trials)
    stages = [line for small in (False, True) for line in capacity.by_zero_stage(trials, small)]
    counting = ratios[(ratios["n"] > 0) & ratios.index.isin(stages, level="line")]
    models = [m for m in capacity.sizes(trials).index if m in counting.index.unique("model")]
    if len(models) < 2:
        return (
            "Whether DeepSpeed pays in time for larger models cannot be told yet: fewer than two "
            "sizes were timed alone."
        )
    first, last = (counting.xs(model, level="model").sort_values("value").iloc[0]
                   for model in (models[0], models[-1]))  # fmt: skip
    paying = counting[counting["high"] < PARITY]
    pays = (
        f"and pays in {len(paying)} of {len(counting)} comparisons"
        if len(paying)
        else f"and pays in none of {len(counting)} comparisons"
    )
    return (
        f"From {short_model(models[0])} to {short_model(models[-1])} DeepSpeed's fastest line goes "
        f"from {_limits(first)} times normal training's time ({first.name}) to {_limits(last)} "
        f"({last.name}), which {_trend(first, last)}, {pays} (its 95 % interval below 1)."
    )


def _limits(row: pd.Series) -> str:
    limits = f" (95 %: {interval(row, '{:.2f}'.format)})" if row["n"] > 1 else ""
    return f"{row['value']:.2f}{limits}"


def _trend(first: pd.Series, last: pd.Series) -> str:
    if last["high"] < first["low"]:
        return "favours the larger model"
    if last["low"] > first["high"]:
        return "favours the smaller model"
    return "does not tell the sizes apart"


def _memory_answer(trials: pd.DataFrame) -> str:
    found = capacity.growth(trials).dropna()
    growth = found["bytes"]
    zero = [line for kind in (False, True) for line in capacity.by_zero_stage(trials, kind)]
    others = [line for line in found.index if line not in zero]
    if len(others) == len(found) or not others:
        return "In memory it cannot be told yet: a line needs two sizes."
    best = growth.drop(others).idxmin()
    from_sizes = [
        f"below that of {other} {_from(capacity.less_from(found, best, other))}" for other in others
    ]
    return (
        f"In memory, a further parameter adds to a rank's peak, in bytes: {_each(trials, growth)}. "
        f"With {best}, the least of DeepSpeed's, by these lines the peak is "
        f"{' and '.join(from_sizes)}."
    )


def _from(parameters: float) -> str:
    if np.isinf(parameters):
        return "at no larger size"
    return f"from {parameters / 1e6:.0f} million parameters on" if parameters else "at every size"
