"""One device: what each engine adds to a step, as a picture, a table and sentences."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.one_device import of_engine
from dsstudy.analysis.one_device import step_ratios as step_ratios  # for the notebook
from dsstudy.paper.printed import network_label
from dsstudy.report.figure_style import ENGINE_COLORS, add_legend, engine_mark, name_rows
from dsstudy.report.table_style import ratio_cell, style_table
from dsstudy.report.wording import span
from dsstudy.spec.engines import DEEPSPEED, ENGINES

OPTIMIZER_NAMES = {"sgd": "SGD", "adam": "Adam"}


def answer_text(ratios: pd.DataFrame) -> str:
    """Say whether DeepSpeed makes a step on one device faster."""
    found = of_engine(ratios, DEEPSPEED)
    found = found[found["n"] > 1]
    if found.empty:
        return "Undecided: no step was timed alone with both engines on one device."
    slower, faster = found["low"] > 1, found["high"] < 1
    gains = f"in {faster.sum() or 'none'} of {len(found)} cases is a step measurably faster"
    by_optimizer = found["value"].groupby(level="optimizer", sort=False)
    ranges = ", ".join(
        f"{span(some, '.2f')} with {OPTIMIZER_NAMES[str(name)]}" for name, some in by_optimizer
    )
    return (
        f"**{'Seldom' if faster.any() else 'No'}: {gains}.** Under DeepSpeed it takes "
        f"{span(found['value'], '.2f')} times as long as in plain PyTorch on the same device, and "
        f"is measurably slower in {slower.sum()} ({ranges})."
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
    axes.margins(x=0.05)
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


def _row_name(row: Any) -> str:
    architecture, model, batch_size, optimizer = row
    name = network_label(architecture, model)
    return f"{name}, {OPTIMIZER_NAMES[optimizer]}, {batch_size} images"
