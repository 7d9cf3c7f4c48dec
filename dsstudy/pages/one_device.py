"""One device: what each engine adds to a step, as a picture, a table and sentences."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.one_device import step_ratios as step_ratios  # for the notebook
from dsstudy.paper import printed
from dsstudy.report.figure_style import ENGINE_COLORS, add_legend, engine_mark, name_rows
from dsstudy.report.table_style import ratio_cell, style_table
from dsstudy.report.wording import span
from dsstudy.spec.engines import DEEPSPEED, ENGINES
from dsstudy.spec.model_counts import short_model


def answer_text(ratios: pd.DataFrame) -> str:
    """Say whether DeepSpeed makes a step on one device faster."""
    found = _of_engine(ratios, DEEPSPEED)
    found = found[found["n"] > 1]
    if found.empty:
        return "Undecided: no step was timed alone with both engines on one device."
    slower, faster = found["low"] > 1, found["high"] < 1
    first = (
        "**No, in none of them.**"
        if not faster.any()
        else f"**Only in {faster.sum()} of {len(found)} cases.**"
    )
    largest = found.loc[found["normal_ms"].idxmax()]
    return (
        f"{first} On one device a step under DeepSpeed takes {span(found['value'], '.2f')} times "
        f"as long as in plain PyTorch ({len(found)} cases; longer beyond chance in "
        f"{slower.sum()}). What it adds hardly grows with the network, so it weighs most where a "
        f"step is short: the longest step here, {largest['normal_ms']:.0f} ms, takes "
        f"{largest['value']:.2f} times as long."
    )


def ratios_figure(ratios: pd.DataFrame) -> Figure:
    """Draw each engine's step over normal training's, with its 95 % interval."""
    rows = list(dict.fromkeys(key[:-1] for key in ratios.index))
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.42 * len(rows)), layout="constrained")
    marks: dict[str, Any] = {}
    for (*row, engine), one in ratios.iterrows():
        shift = -0.15 if engine == DEEPSPEED else 0.15
        at = rows.index(tuple(row)) + shift
        look = {"color": ENGINE_COLORS[engine]}
        axes.plot([one["low"], one["high"]], [at, at], linewidth=1.5, **look)
        axes.plot(one["value"], at, ENGINES[engine].marker, **look)
        marks[ENGINES[engine].title] = engine_mark(engine)
    axes.axvline(1, color="0.3", linewidth=1)
    axes.set_xlim(left=min(0.9, float(ratios["value"].min()) - 0.1))
    axes.set_xlabel("milliseconds of a step / plain PyTorch's (line: as long)")
    name_rows(axes, [_row_name(row) for row in rows])
    add_legend(figure, marks, columns=2)
    return figure


def ratios_table(ratios: pd.DataFrame) -> Styler:
    """Show plain PyTorch's step in milliseconds, and the other engines' ratios to it."""
    rows: dict[str, dict[str, str]] = {}
    for (*row, engine), one in ratios.iterrows():
        cells = rows.setdefault(_row_name(row), {"plain PyTorch (ms)": f"{one['normal_ms']:.2f}"})
        cells[f"{ENGINES[str(engine)].title} / plain PyTorch"] = ratio_cell(one)
    caption = (
        "A training step with one process on one device: plain PyTorch's milliseconds, and the "
        "other engines' time divided by it, the geometric mean over rounds that took turns, with "
        "its 95 % interval."
    )
    return style_table(pd.DataFrame.from_dict(rows, orient="index"), caption, "one_device")


def _of_engine(ratios: pd.DataFrame, engine: str) -> pd.DataFrame:
    return ratios[ratios.index.get_level_values("engine") == engine]


def _row_name(row: Any) -> str:
    architecture, model, batch_size, optimizer = row
    name = printed.NAMES.get(architecture, architecture)
    if model != architecture:
        name = short_model(model)
    return f"{name}, {optimizer.upper() if optimizer == 'sgd' else 'Adam'}, {batch_size} images"
