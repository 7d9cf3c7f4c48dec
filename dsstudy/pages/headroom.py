"""What one RTX 3090 could have done: a figure, a table, sentences, and their caveats."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.cost_model.model import PEAKS, SHARE
from dsstudy.analysis.headroom import (
    BUSIEST,
    SETTING,
    arithmetic_speeds,
    card_speeds,
    fitted_exchange,
    implied_shares,
    layout_ratios,
    speed_ratios,
    two_card_gains,
)
from dsstudy.paper import printed
from dsstudy.paper.public import load_timm_rates, load_two_card_rates
from dsstudy.report.figure_style import (
    ENGINE_COLORS,
    add_legend,
    engine_mark,
    legend_mark,
    name_rows,
)
from dsstudy.report.table_style import named_rows, note_below, style_table
from dsstudy.report.wording import bullets_text, span
from dsstudy.spec.engines import DEEPSPEED, ENGINES, NORMAL

TIMM_LOOK: dict[str, Any] = {"color": "0.15", "marker": "D"}
"""Timm's benchmark is none of the engines: dark grey."""

PAPER_COLUMNS = {NORMAL: "one card, normal training", DEEPSPEED: "two cards, DeepSpeed"}

PAPER_SIDE = 299
"""The side of the paper's images as its text gives it."""

QUICK = "alexnet"
"""The network for which the paper's host loaded most images a second of a size like timm's."""

_TWO_CARD_NAMES = {"resnet50": "ResNet-50", "vgg16": "VGG16"}


def answer_text() -> str:
    """Say how much faster than the paper's two cards one was in public measurements."""
    ratios = speed_ratios(card_speeds(), DEEPSPEED)
    *others, last = (f"{_span(row)} for {name}" for name, row in _rows(ratios))
    return (
        "More than two did with DeepSpeed. In public measurements, one card with mixed precision "
        f"and a large batch trains {_span(ratios)} times as many images a second as the paper's "
        f"two with DeepSpeed: {', '.join(others)} and {last}."
    )


def brings_text() -> str:
    """Compare what precision and batch bring with what DeepSpeed's second card brought."""
    speeds = card_speeds()
    second = speeds[DEEPSPEED] / speeds[NORMAL]
    return (
        "Compared with the paper's one card without DeepSpeed, precision and batch together bring "
        f"{_span(speed_ratios(speeds, NORMAL))} times the speed. What the paper tried instead, "
        "DeepSpeed with a second card and half precision, but the same small batch, brought "
        f"{span(second, '.2f')} times: a loss for {(second < 1).sum()} of the {len(second)} "
        "networks."
    )


def caveats_text() -> str:
    """List what the comparison leaves open."""
    batches, side = load_timm_rates()["batch_size"], load_timm_rates()["image_size"].iloc[0]
    loaded = printed.TRAIN_IMAGES / printed.printed_by_cell("seconds_per_epoch")[QUICK].min()
    return bullets_text(
        (
            "Timm trains on one batch of random numbers that is on the card already: no loader, no "
            f"copying. The paper's host has loaded {loaded:,.0f} images a second, for "
            f"{printed.NAMES[QUICK]}; whether it can load more, as ResNet-18 would need, is open.",
            f"Precision and batch changed together ({span(batches)} images instead of "
            f"{printed.BATCH_SIZE}), so neither has a number of its own.",
            "Images a second are not accuracy: a larger batch takes fewer steps an epoch, and "
            "needs another learning rate.",
            "The hosts, drivers and versions of PyTorch differ.",
            "The paper's “fp32” was very probably TF32: before version 1.12, PyTorch allowed it "
            "for matrix products and convolutions by default.",
            f"All the paper's speeds here are those of {SETTING}; timm's benchmark uses SGD too, "
            "with momentum, and without a scale for the loss.",
            f"Timm's images are {side} pixels wide. The paper speaks of {PAPER_SIDE}, which a "
            f"ViT's patches of 16 pixels do not divide. If it did train on {PAPER_SIDE}, an image "
            f"was up to {(PAPER_SIDE / side) ** 2:.1f} times the work: divide the ratios by that.",
        )
    )


def share_text() -> str:
    """Say what timm's speed tells of the number that Table 2 leaves open."""
    speed, peak = arithmetic_speeds().loc[BUSIEST], PEAKS["fp16"]
    return (
        f"The cost model assumes that each of two cards needs {SHARE:.2f} of the arithmetic's "
        "time, and Table 2 cannot say whether it does. Timm's "
        f"{printed.NAMES[BUSIEST]} does {_span(speed / 1e12, '.0f')} TFLOP/s, "
        f"{_span(100 * speed / peak, '.0f')} % of the card's peak of {peak / 1e12:.0f}.\n\nPut "
        f"into the fits, this speed gives a share of {_span(implied_shares(), '.2f')} (over runs "
        "and settings). So the assumption was fair for cards that are as busy; with "
        f"{printed.BATCH_SIZE // printed.PROCESSES[DEEPSPEED]} images on each, the paper's may "
        "have been slower."
    )


def advice_text() -> str:
    """Say what to try before a second card, with what each step brought where it was measured."""
    layouts = ", ".join(f"{_span(row, '.2f')} for {name}" for name, row in _rows(layout_ratios()))
    batches = load_timm_rates().groupby("architecture")["batch_size"].max()
    largest = ", ".join(
        f"{printed.NAMES[name]} {size}" for name, size in batches.sort_values().items()
    )
    gains = two_card_gains()["gain"].groupby("model")
    second = ", ".join(f"{_TWO_CARD_NAMES[name]} {span(some, '.2f')}" for name, some in gains)
    cards = load_two_card_rates()["batch_size"]
    return "\n".join(
        f"{number}. {step}"
        for number, step in enumerate(
            (
                "**Mixed precision**: `torch.autocast` with bf16, or with fp16 and a `GradScaler`.",
                f"**A batch as large as fits**. Timm's largest: {largest}. Choose the learning "
                "rate anew, and compare accuracies.",
                "**`channels_last`** for images and a convolutional network. In timm's runs, all "
                f"else equal, it is this many times as fast: {layouts}.",
                "**Only then a second card**, with DDP. Two RTX 3090 were this many times as fast "
                f"as one, with {span(cards)} images on each, in fp16: {second}.",
            ),
            1,
        )
    )


def exchange_text() -> str:
    """Compare what a second card costs in the public benchmark with the fit to Table 2."""
    costs = 1e9 * two_card_gains()["exchange"]
    return (
        f"A step on those two cards takes {span(costs, '.2f')} ns a parameter longer than on one. "
        f"The fit to the paper's Table 2 says {1e9 * fitted_exchange():.2f}. So its cards paid "
        "about as much for a second one as such cards do elsewhere. Only a large batch makes this "
        "a small part of a step."
    )


def speeds_figure() -> Figure:
    """Draw the seconds of an epoch: the paper's two columns, and timm's range."""
    speeds = card_speeds()
    seconds, ratios = printed.TRAIN_IMAGES / speeds, speed_ratios(speeds, DEEPSPEED)
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    for row, name in enumerate(seconds.index):
        timm = seconds.loc[name, ["high", "low"]]
        axes.plot(timm, [row, row], linewidth=2, markersize=6, **TIMM_LOOK)
        text, at = f"{_span(ratios.loc[name])} ×", (timm.median(), row)
        axes.annotate(text, at, (0, 9), textcoords="offset points", ha="center", fontsize=11)
        for engine in PAPER_COLUMNS:
            axes.plot(
                seconds[engine][name],
                row,
                ENGINES[engine].marker,
                color=ENGINE_COLORS[engine],
                markersize=9,
            )
    marks = {f"paper, {text}": engine_mark(engine) for engine, text in PAPER_COLUMNS.items()}
    timm_label = "timm, one card, mixed precision, large batch (× two cards' speed)"
    marks[timm_label] = legend_mark(**TIMM_LOOK, linewidth=2)
    add_legend(figure, marks, columns=2)
    name_rows(axes, [printed.NAMES[name] for name in seconds.index])
    axes.set(xscale="log", xlabel=f"seconds for {printed.TRAIN_IMAGES:,} images (logarithmic)")
    ticks = [10, 20, 50, 100, 200, 400]
    axes.set_xticks(ticks, map(str, ticks), minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", visible=False)
    return figure


def speeds_table() -> Styler:
    """Show images a second and the seconds of an epoch, and the ratios."""
    speeds, runs = card_speeds(), load_timm_rates().groupby("architecture")["batch_size"]
    ratios = {engine: speed_ratios(speeds, engine) for engine in PAPER_COLUMNS}
    texts = {
        name: {
            **{f"paper, {text}": _speeds_cell([row[e]]) for e, text in PAPER_COLUMNS.items()},
            "timm, one card": _speeds_cell(row[["low", "high"]]),
            "timm's batch": span(runs.get_group(name)),
            "times the paper's two": _span(ratios[DEEPSPEED].loc[name]),
            "times the paper's one": _span(ratios[NORMAL].loc[name]),
        }
        for name, row in speeds.iterrows()
    }
    caption = (
        f"Images a second, and below them the seconds of an epoch of {printed.TRAIN_IMAGES:,}. "
        f"Paper: {SETTING}, batches of {printed.BATCH_SIZE}. Timm: the slowest and the fastest of "
        f"{len(load_timm_rates()) // len(speeds)} runs (three versions of PyTorch, two layouts in "
        "memory)."
    )
    return style_table(
        named_rows(pd.DataFrame(texts).T), caption, "speeds", align="right", wrap="4em"
    )


def _speeds_cell(speeds: pd.Series | list[float]) -> str:
    seconds = [printed.TRAIN_IMAGES / speed for speed in speeds]
    return span(speeds) + note_below(f"{span(seconds, '.1f')} s")


def _rows(frame: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    return [(printed.NAMES[str(name)], row) for name, row in frame.iterrows()]


def _span(values: pd.DataFrame | pd.Series, digits: str = ".1f") -> str:
    return span(values.to_numpy().ravel(), digits)
