"""The page on the bridge: its tables, its figure, its sentences."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import CELL
from dsstudy.analysis.chains import (
    CANDIDATES,
    chain_gap,
    chain_names,
    chain_steps,
    is_complete_chain,
    is_distinguishable,
)
from dsstudy.analysis.chains import load_chains as load_chains  # for the notebook
from dsstudy.analysis.intervals import prediction_interval
from dsstudy.paper import printed
from dsstudy.report.figure_style import ENGINE_COLORS
from dsstudy.report.table_style import difference_cell, style_table, wrapping_cell
from dsstudy.report.wording import signed

UNITS = {"best_accuracy": "points", "final_accuracy": "points", "seconds_per_epoch": "s"}
"""Of a difference between two steps, by column."""

_LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def chain_table(trials: pd.DataFrame, chain: str, column: str) -> Styler:
    """Show a chain's steps, or its candidates: what each measures, and what it changes."""
    frame = chain_steps(trials, chain, column)
    texts = pd.DataFrame(
        {
            "measured": [_mean_cell(row) for row in frame.itertuples()],
            "change": [difference_cell(row._replace(n=row.pairs)) for row in frame.itertuples()],
            "n": frame["n"].astype(str),
        }
    )
    texts.index = pd.Index([wrapping_cell(step) for step in frame.index])
    alone = chain.endswith(CANDIDATES)
    to = f"the first step of {chain.removesuffix(CANDIDATES)}" if alone else "the step above"
    caption = (
        f"{chain}: {_column_title(column)}, mean ± standard deviation over n measurements, and the change "
        f"against {to}, with its 95 % interval."
    )
    name = "".join(letter if letter.isalnum() else "_" for letter in f"{chain}_{column}")
    return style_table(texts, caption, name)


def _mean_cell(row: Any) -> str:
    if not row.n:
        return "<em>missing</em>"
    return f"{row.mean:.2f}" + (f" ± {row.deviation:.2f}" if row.n > 1 else "")


def chain_figure(trials: pd.DataFrame, column: str) -> Figure:
    """Draw every chain: where its first trial stands, what each step adds, where its last stands.

    A step's bar reaches from the mean of the step before to its own, in the colour of its engine;
    the line over its end is the 95 % interval of the change. Diamonds are the paper's numbers.
    """
    names = chain_names(trials)
    frames = {name: chain_steps(trials, name, column) for name in names}
    heights = [len(frame) + 1 for frame in frames.values()]
    figure, column_of_axes = plt.subplots(
        len(names),
        1,
        figsize=(9, 0.8 + 0.42 * sum(heights)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    above: dict[str, Axes] = {}  # the last panel of each network: one scale for all of its chains
    for axes, (name, frame) in zip(column_of_axes[:, 0], frames.items(), strict=True):
        network = trials.loc[trials["chain"] == name, "architecture"].iloc[0]
        if network in above:
            axes.sharex(above[network])
            above[network].tick_params(labelbottom=False)
        above[network] = axes
        published = _draw_printed(axes, trials[trials["chain"] == name], frame, column)
        _draw_chain(axes, frame, published)
        axes.set_title(name, fontsize=11, loc="left")
    column_of_axes[-1, 0].set_xlabel(_column_title(column))
    _legend(figure, frames)
    return figure


def _draw_chain(axes: Axes, frame: pd.DataFrame, published: dict[int, float]) -> None:
    before = frame["mean"].iloc[0]
    for y, row in enumerate(frame.itertuples()):
        color = ENGINE_COLORS[row.engine]
        if y == 0:
            axes.plot(row.mean, y, "o", color=color, markersize=9)
        elif row.n:
            axes.barh(y, row.mean - before, left=before, color=color, height=0.6)
            axes.plot([before, before], [y - 1, y + 0.3], color="0.6", linewidth=1)
            axes.plot([before + row.low, before + row.high], [y, y], color="0.2", linewidth=1.5)
            text = f" {signed(row.value)}"
            drawn = [row.mean, before, before + row.high, published.get(y, np.nan)]
            end = np.nanmax(drawn)  # beyond all that is in the row
            axes.text(end, y, text, va="center", fontsize=10, bbox=_LABEL)
        if row.n:
            before = row.mean
    axes.set_yticks(range(len(frame)), list(frame.index))
    axes.set_ylim(len(frame) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.use_sticky_edges = False  # which would put the end of a bar on the frame


def _draw_printed(
    axes: Axes, trials: pd.DataFrame, frame: pd.DataFrame, column: str
) -> dict[int, float]:
    """Mark what the paper prints for the two ends of a chain; return the numbers by row."""
    if column == "final_accuracy":
        return {}
    ends = {y: trials[trials["step"] == frame.index[y]] for y in (0, len(frame) - 1)}
    found = {y: number for y, step in ends.items() if (number := _printed_number(step, column))}
    for y, number in found.items():
        axes.plot(number, y, "D", color="k", markerfacecolor="none", markersize=9, zorder=4)
    return found


def _printed_number(step: pd.DataFrame, column: str) -> float | None:
    """Return what the paper prints for a step's trials, if they have as many epochs as its own."""
    if set(step["epochs"].dropna()) != {printed.EPOCHS}:
        return None
    table = printed.printed_values(column).set_index(CELL)["value"]
    return table.get(tuple(step[CELL].iloc[0]))


def _legend(figure: Figure, frames: dict[str, pd.DataFrame]) -> None:
    engines = dict.fromkeys(e for frame in frames.values() for e in frame["engine"])
    marks: list[Any] = [plt.Rectangle((0, 0), 1, 1, color=ENGINE_COLORS[e]) for e in engines]
    marks.append(plt.Line2D([], [], color="0.2", linewidth=1.5))
    marks.append(plt.Line2D([], [], color="k", marker="D", markerfacecolor="none", linestyle=""))
    labels = [printed.NAMES[e] for e in engines] + ["95 % interval of the change", "the paper"]
    figure.legend(marks, labels, loc="outside upper center", ncols=5, frameon=False)


def _column_title(column: str) -> str:
    return {
        "best_accuracy": "best test accuracy (%)",
        "final_accuracy": "test accuracy after the last epoch (%)",
        "seconds_per_epoch": "seconds per epoch",
    }[column]


def chains_text(trials: pd.DataFrame, column: str) -> str:
    """Say how much of each chain's gap each of its steps carries, in computed sentences."""
    return "\n".join(f"- {_chain_text(trials, name, column)}" for name in chain_names(trials))


def _chain_text(trials: pd.DataFrame, chain: str, column: str) -> str:
    frame, unit = chain_steps(trials, chain, column), UNITS[column]
    if not is_complete_chain(frame):
        missing = [step for step, row in frame.iterrows() if row["n"] == 0]
        return f"**{chain}**: not complete yet; missing: {', '.join(missing)}."
    parts = frame.iloc[1:]
    shares = ", ".join(f"{step} {signed(row['value'])}" for step, row in parts.iterrows())
    told = parts[[is_distinguishable(change) for _, change in parts.iterrows()]]
    certain = (
        f"the interval excludes zero for {', '.join(told.index)}"
        if len(told)
        else "no step's interval excludes zero"
    )
    return (
        f"**{chain}**: from {frame['mean'].iloc[0]:.2f} to {frame['mean'].iloc[-1]:.2f}, a "
        f"difference of {signed(chain_gap(frame))} {unit}, of which {shares}; {certain}."
    )


def beside_paper_text(trials: pd.DataFrame) -> str:
    """Say whether the paper's DeepSpeed runs are what seeds of ours would give, or else what is.

    A printed number is one run, so it is compared with where one further seed would lie.
    """
    return "\n".join(
        f"- **{name}**: {text}"
        for name in chain_names(trials)
        if (text := _chain_beside_paper(trials, name))
    )


def _chain_beside_paper(trials: pd.DataFrame, chain: str) -> str | None:
    last = trials[trials["chain"] == chain]
    last = last[last["step"] == last["step"].iloc[-1]]
    printed = _printed_number(last, "best_accuracy")
    if printed is None:
        return None
    ours = prediction_interval(last["best_accuracy"].dropna())
    text = f"the paper's DeepSpeed run reached {printed:.2f} %, ours {ours.value:.2f} % on average"
    if ours.n < 2:
        return f"{text}, of {ours.n} seeds, which do not say where another one would lie."
    text += f"; one more seed would lie between {ours.low:.2f} and {ours.high:.2f} (95 %)"
    if not ours.excludes(printed):
        return f"{text}, and there the paper's number lies: this training may well be its own."
    return (
        f"{text}, and there the paper's number does not lie: no step of this chain explains it. "
        f"Nearest to it of all that was tried: {_nearest_text(trials, chain, printed)}."
    )


def _nearest_text(trials: pd.DataFrame, chain: str, printed: float) -> str:
    """Name the step or candidate whose mean is nearest to a number, by its best or last epoch."""
    epochs = {"best_accuracy": "best", "final_accuracy": "last"}
    axes = [name for name in (chain, chain + CANDIDATES) if name in set(trials["chain"])]
    found = pd.concat(
        chain_steps(trials, axis, column).assign(epoch=epoch)
        for axis in axes
        for column, epoch in epochs.items()
    ).query("n > 0")
    near = found.iloc[(found["mean"] - printed).abs().argsort()[:1]]
    (row,) = near.itertuples()
    return f"“{row.Index}”, {_mean_cell(row)} % by its {row.epoch} epoch (n = {row.n})"


def answer_text(trials: pd.DataFrame) -> str:
    """Answer the page's question, for accuracy and for time: the largest step, DeepSpeed's own."""
    questions = {"best_accuracy": "Accuracy", "seconds_per_epoch": "Seconds per epoch"}
    return " ".join(
        f"{name}. {_column_answer(trials, column)}" for column, name in questions.items()
    )


def _column_answer(trials: pd.DataFrame, column: str) -> str:
    frames = {chain: chain_steps(trials, chain, column) for chain in chain_names(trials)}
    known = {chain: frame for chain, frame in frames.items() if is_complete_chain(frame)}
    sentences = []
    if known:
        own = {chain: frame.iloc[-1] for chain, frame in known.items()}
        changes = "; ".join(
            f"with {chain} {_change_text(one, column)}" for chain, one in own.items()
        )
        sentences = [
            "From normal training to DeepSpeed's, the largest step is "
            f"{_largest_steps_text(known, column)}.",
            f"DeepSpeed in place of DDP, everything else equal, changes: {changes}; told from zero "
            f"in {sum(map(is_distinguishable, own.values()))} of {len(own)}.",
        ]
    if missing := [chain for chain in frames if chain not in known]:
        sentences.append(f"With {', '.join(missing)} it cannot be told yet: trials are missing.")
    return " ".join(sentences)


def _largest_steps_text(frames: dict[str, pd.DataFrame], column: str) -> str:
    """Name every step that is its chain's largest, with what it carries of that chain's gap."""
    found: dict[str, list[str]] = {}
    for chain, frame in frames.items():
        changes = frame.iloc[1:]
        largest = changes.loc[changes["value"].abs().idxmax()]
        doubt = "" if is_distinguishable(largest) else ", not told from zero"
        share = f"{signed(largest['value'])} of {signed(chain_gap(frame))} {UNITS[column]}{doubt}"
        found.setdefault(str(largest.name), []).append(f"with {chain} ({share})")
    return "; ".join(f"“{step}” {', '.join(where)}" for step, where in found.items())


def _change_text(change: pd.Series, column: str) -> str:
    value = f"{signed(change['value'])} {UNITS[column]}"
    if change["pairs"] < 2:
        return f"{value}, measured once"
    return f"{value} (95 %: {signed(change['low'])} to {signed(change['high'])})"
