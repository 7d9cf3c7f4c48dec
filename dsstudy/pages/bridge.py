"""The bridge: chains of trials that lead from one training to another, one factor a step.

A chain is an axis of the study's matrix whose labels are its steps, in their order. An axis called
``<chain> candidates`` holds further trials, each compared with the chain's first step.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis import cells, intervals
from dsstudy.errors import InputError
from dsstudy.pages.trial import ENGINE_COLORS
from dsstudy.paper import printed
from dsstudy.report.table_style import difference, signed, style, wrapping

CANDIDATES = " candidates"

UNITS = {"best_accuracy": "points", "final_accuracy": "points", "seconds_per_epoch": "s"}
"""Of a difference between two steps, by column."""

_LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def load_bridge(path: str | Path) -> pd.DataFrame:
    """Load a study of chains.

    Returns
    -------
    pandas.DataFrame
        What `dsstudy.analysis.cells.load_labelled` gives, its axes as ``chain``, its labels as ``step``.
    """
    return cells.load_labelled(path).rename(columns={"axis": "chain", "label": "step"})


def chains(trials: pd.DataFrame) -> list[str]:
    """Return the names of the chains, without those of their candidates."""
    return [name for name in trials["chain"].unique() if not name.endswith(CANDIDATES)]


def steps(trials: pd.DataFrame, chain: str, column: str) -> pd.DataFrame:
    """Follow a chain: what each step measures, and what it adds to the one before.

    The same seed gives every step the same initial weights and, where the step does not change it,
    the same order of images: so a step's change is taken seed by seed (times: round by round).

    Parameters
    ----------
    trials
        As `load_bridge` returns them.
    chain
        One of `chains`, or its candidates, each of which is compared with the chain's first step.
    column
        ``best_accuracy`` or ``final_accuracy`` (percent), or ``seconds_per_epoch``.

    Returns
    -------
    pandas.DataFrame
        By ``step``: ``engine``; ``mean`` and ``deviation`` over the ``n`` values that count;
        ``value``, the mean change, with ``low`` and ``high``, its 95 % interval, and ``pairs``.
    """
    first = _values(trials, chain.removesuffix(CANDIDATES), column)
    if not first:
        name, known = chain.removesuffix(CANDIDATES), ", ".join(chains(trials))
        raise InputError(f"the study has no chain {name}: its chains are {known}")
    before = next(iter(first.values()))
    rows = {}
    for step, (engine, values) in _values(trials, chain, column).items():
        change = intervals.of_mean((values - before[1]).dropna())
        rows[step] = {
            "engine": engine,
            "mean": values.mean(),
            "deviation": values.std(),
            "n": len(values),
            "value": change.value,
            "low": change.low,
            "high": change.high,
            "pairs": change.n,
        }
        if not chain.endswith(CANDIDATES):
            before = engine, values
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("step")


def _values(trials: pd.DataFrame, chain: str, column: str) -> dict[str, tuple[str, pd.Series]]:
    """Return every step's engine, and its values that count, by seed and round."""
    found = {}
    for step, some in trials[trials["chain"] == chain].groupby("step", sort=False):
        measured = cells.measured(some, column)
        counting = measured[measured["state"] == "completed"].set_index(["seed", "round"])
        found[str(step)] = str(some["engine"].iloc[0]), counting["value"]
    return found


def table(trials: pd.DataFrame, chain: str, column: str) -> Styler:
    """Show a chain's steps, or its candidates: what each measures, and what it changes."""
    frame = steps(trials, chain, column)
    texts = pd.DataFrame(
        {
            "measured": [_mean(row) for row in frame.itertuples()],
            "change": [difference(row._replace(n=row.pairs)) for row in frame.itertuples()],
            "n": frame["n"].astype(str),
        }
    )
    texts.index = pd.Index([wrapping(step) for step in frame.index])
    alone = chain.endswith(CANDIDATES)
    to = f"the first step of {chain.removesuffix(CANDIDATES)}" if alone else "the step above"
    caption = (
        f"{chain}: {_title(column)}, mean ± standard deviation over n measurements, and the change "
        f"against {to}, with its 95 % interval."
    )
    name = "".join(letter if letter.isalnum() else "_" for letter in f"{chain}_{column}")
    return style(texts, caption, name)


def _mean(row: Any) -> str:
    if not row.n:
        return "<em>missing</em>"
    return f"{row.mean:.2f}" + (f" ± {row.deviation:.2f}" if row.n > 1 else "")


def waterfall(trials: pd.DataFrame, column: str) -> Figure:
    """Draw every chain: where its first trial stands, what each step adds, where its last stands.

    A step's bar reaches from the mean of the step before to its own, in the colour of its engine;
    the line over its end is the 95 % interval of the change. Diamonds are the paper's numbers.
    """
    names = chains(trials)
    frames = {name: steps(trials, name, column) for name in names}
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
        published = _draw_published(axes, trials[trials["chain"] == name], frame, column)
        _draw_chain(axes, frame, published)
        axes.set_title(name, fontsize=11, loc="left")
    column_of_axes[-1, 0].set_xlabel(_title(column))
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


def _draw_published(
    axes: Axes, trials: pd.DataFrame, frame: pd.DataFrame, column: str
) -> dict[int, float]:
    """Mark what the paper prints for the two ends of a chain; return the numbers by row."""
    if column == "final_accuracy":
        return {}
    ends = {y: trials[trials["step"] == frame.index[y]] for y in (0, len(frame) - 1)}
    found = {y: number for y, step in ends.items() if (number := _published(step, column))}
    for y, number in found.items():
        axes.plot(number, y, "D", color="k", markerfacecolor="none", markersize=9, zorder=4)
    return found


def _published(step: pd.DataFrame, column: str) -> float | None:
    """Return what the paper prints for a step's trials, if they have as many epochs as its own."""
    if set(step["epochs"].dropna()) != {printed.EPOCHS}:
        return None
    table = printed.published(column).set_index(cells.CELL)["value"]
    return table.get(tuple(step[cells.CELL].iloc[0]))


def _legend(figure: Figure, frames: dict[str, pd.DataFrame]) -> None:
    engines = dict.fromkeys(e for frame in frames.values() for e in frame["engine"])
    marks: list[Any] = [plt.Rectangle((0, 0), 1, 1, color=ENGINE_COLORS[e]) for e in engines]
    marks.append(plt.Line2D([], [], color="0.2", linewidth=1.5))
    marks.append(plt.Line2D([], [], color="k", marker="D", markerfacecolor="none", linestyle=""))
    labels = [printed.NAMES[e] for e in engines] + ["95 % interval of the change", "the paper"]
    figure.legend(marks, labels, loc="outside upper center", ncols=5, frameon=False)


def _title(column: str) -> str:
    return {
        "best_accuracy": "best test accuracy (%)",
        "final_accuracy": "test accuracy after the last epoch (%)",
        "seconds_per_epoch": "seconds per epoch",
    }[column]


def in_words(trials: pd.DataFrame, column: str) -> str:
    """Say how much of each chain's gap each of its steps carries, in computed sentences."""
    return "\n".join(f"- {_chain_in_words(trials, name, column)}" for name in chains(trials))


def _chain_in_words(trials: pd.DataFrame, chain: str, column: str) -> str:
    frame, unit = steps(trials, chain, column), UNITS[column]
    if not _is_complete(frame):
        missing = [step for step, row in frame.iterrows() if row["n"] == 0]
        return f"**{chain}**: not complete yet; missing: {', '.join(missing)}."
    parts = frame.iloc[1:]
    shares = ", ".join(f"{step} {signed(row['value'])}" for step, row in parts.iterrows())
    told = parts[[_is_told(change) for _, change in parts.iterrows()]]
    certain = (
        f"the interval excludes zero for {', '.join(told.index)}"
        if len(told)
        else "no step's interval excludes zero"
    )
    return (
        f"**{chain}**: from {frame['mean'].iloc[0]:.2f} to {frame['mean'].iloc[-1]:.2f}, a "
        f"difference of {signed(_gap(frame))} {unit}, of which {shares}; {certain}."
    )


def beside_the_paper(trials: pd.DataFrame) -> str:
    """Say whether the paper's DeepSpeed runs are what seeds of ours would give, or else what is.

    A printed number is one run, so it is compared with where one further seed would lie.
    """
    return "\n".join(
        f"- **{name}**: {text}" for name in chains(trials) if (text := _beside(trials, name))
    )


def _beside(trials: pd.DataFrame, chain: str) -> str | None:
    last = trials[trials["chain"] == chain]
    last = last[last["step"] == last["step"].iloc[-1]]
    printed = _published(last, "best_accuracy")
    if printed is None:
        return None
    ours = intervals.of_next(last["best_accuracy"].dropna())
    text = f"the paper's DeepSpeed run reached {printed:.2f} %, ours {ours.value:.2f} % on average"
    if ours.n < 2:
        return f"{text}, of {ours.n} seeds, which do not say where another one would lie."
    text += f"; one more seed would lie between {ours.low:.2f} and {ours.high:.2f} (95 %)"
    if not ours.excludes(printed):
        return f"{text}, and there the paper's number lies: this training may well be its own."
    return (
        f"{text}, and there the paper's number does not lie: no step of this chain explains it. "
        f"Nearest to it of all that was tried: {_nearest(trials, chain, printed)}."
    )


def _nearest(trials: pd.DataFrame, chain: str, printed: float) -> str:
    """Name the step or candidate whose mean is nearest to a number, by its best or last epoch."""
    epochs = {"best_accuracy": "best", "final_accuracy": "last"}
    axes = [name for name in (chain, chain + CANDIDATES) if name in set(trials["chain"])]
    found = pd.concat(
        steps(trials, axis, column).assign(epoch=epoch)
        for axis in axes
        for column, epoch in epochs.items()
    ).query("n > 0")
    near = found.iloc[(found["mean"] - printed).abs().argsort()[:1]]
    (row,) = near.itertuples()
    return f"“{row.Index}”, {_mean(row)} % by its {row.epoch} epoch (n = {row.n})"


def answer(trials: pd.DataFrame) -> str:
    """Answer the page's question, for accuracy and for time: the largest step, DeepSpeed's own."""
    questions = {"best_accuracy": "Accuracy", "seconds_per_epoch": "Seconds per epoch"}
    return " ".join(f"{name}. {_answer(trials, column)}" for column, name in questions.items())


def _answer(trials: pd.DataFrame, column: str) -> str:
    frames = {chain: steps(trials, chain, column) for chain in chains(trials)}
    known = {chain: frame for chain, frame in frames.items() if _is_complete(frame)}
    sentences = []
    if known:
        own = {chain: frame.iloc[-1] for chain, frame in known.items()}
        changes = "; ".join(f"with {chain} {_limits(one, column)}" for chain, one in own.items())
        sentences = [
            "From normal training to DeepSpeed's, the largest step is "
            f"{_largest_steps(known, column)}.",
            f"DeepSpeed in place of DDP, everything else equal, changes: {changes}; told from zero "
            f"in {sum(map(_is_told, own.values()))} of {len(own)}.",
        ]
    if missing := [chain for chain in frames if chain not in known]:
        sentences.append(f"With {', '.join(missing)} it cannot be told yet: trials are missing.")
    return " ".join(sentences)


def _largest_steps(frames: dict[str, pd.DataFrame], column: str) -> str:
    """Name every step that is its chain's largest, with what it carries of that chain's gap."""
    found: dict[str, list[str]] = {}
    for chain, frame in frames.items():
        changes = frame.iloc[1:]
        largest = changes.loc[changes["value"].abs().idxmax()]
        doubt = "" if _is_told(largest) else ", not told from zero"
        share = f"{signed(largest['value'])} of {signed(_gap(frame))} {UNITS[column]}{doubt}"
        found.setdefault(str(largest.name), []).append(f"with {chain} ({share})")
    return "; ".join(f"“{step}” {', '.join(where)}" for step, where in found.items())


def _gap(frame: pd.DataFrame) -> float:
    """Return how far a chain's last step is from its first."""
    return frame["mean"].iloc[-1] - frame["mean"].iloc[0]


def _is_complete(frame: pd.DataFrame) -> bool:
    return bool(frame["n"].iloc[[0, -1]].min() > 0 and frame["pairs"].min() > 0)


def _limits(change: pd.Series, column: str) -> str:
    value = f"{signed(change['value'])} {UNITS[column]}"
    if change["pairs"] < 2:
        return f"{value}, measured once"
    return f"{value} (95 %: {signed(change['low'])} to {signed(change['high'])})"


def _is_told(change: pd.Series) -> bool:
    return bool(change["low"] > 0 or change["high"] < 0)
