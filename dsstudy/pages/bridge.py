"""The chains from normal training to DeepSpeed's: tables, figures and sentences."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.chains import (
    CANDIDATES,
    all_chain_steps,
    chain_gap,
    chain_names,
    chain_steps,
    engine_changes,
    is_complete_chain,
    is_distinguishable,
    null_deviations,
)
from dsstudy.analysis.chains import load_chains as load_chains  # for the notebook
from dsstudy.analysis.intervals import equality_margin, mean_interval, prediction_interval
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.report.figure_style import (
    ENGINE_COLORS,
    PRINTED_STYLE,
    add_legend,
    legend_mark,
    name_rows,
)
from dsstudy.report.table_style import (
    difference_cell,
    make_bold,
    mean_cell,
    style_table,
    wrapping_cell,
)
from dsstudy.report.wording import bullets_text, count_text, interval_text, signed, span
from dsstudy.spec.engines import ENGINES

_UNITS = {"best_accuracy": "points", "final_accuracy": "points", "seconds_per_epoch": "s"}
"""The unit of a change, by column."""

_TITLES = {
    "best_accuracy": "best test accuracy (%)",
    "final_accuracy": "test accuracy after the last epoch (%)",
    "seconds_per_epoch": "seconds per epoch",
}

_EPOCHS = {"best_accuracy": "best", "final_accuracy": "last"}

_MARGIN = 0.5
"""Points of accuracy that nobody would mind, chosen before looking."""

_INTERVAL_STYLE: dict[str, Any] = {"color": "0.2", "linewidth": 1.5}
_LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def chain_table(trials: pd.DataFrame, chain: str) -> Styler:
    """Show what each step of a chain, or each candidate, reaches and changes.

    By the best epoch, which the paper reports, and by the last.
    """
    texts = pd.DataFrame()
    for column, epoch in _EPOCHS.items():
        frame = chain_steps(trials, chain, column)
        rows = list(frame.itertuples())
        texts[f"{epoch} epoch"] = [mean_cell(row.mean, row.deviation, row.n) for row in rows]
        texts[f"change, {epoch}"] = [_change_cell(row) for row in rows]
    texts["n"] = frame["n"].astype(str).to_numpy()
    texts.index = pd.Index([wrapping_cell(step) for step in frame.index])
    name = chain.removesuffix(CANDIDATES)
    base = "the step above" if name == chain else f"the first step of {name}"
    caption = (
        f"{chain}: test accuracy (%) after the best and after the last epoch, mean ± standard "
        f"deviation over n seeds, and the change from {base}, with its 95 % interval. *: beyond "
        "chance, among all changes of this page."
    )
    return style_table(texts, caption, _identifier(chain))


def _change_cell(row: Any) -> str:
    if not row.pairs:
        return "–"
    if row.is_same:
        return "none: the same numbers"
    return difference_cell(row._replace(n=row.pairs), mark="*" * is_distinguishable(row))


def chain_figure(trials: pd.DataFrame, column: str) -> Figure:
    """Draw every chain as a waterfall, from its first trial to its last.

    A step's bar reaches from the mean of the step before to its own, in the colour of its engine.
    The line over its end is the 95 % interval of the change. Diamonds are the paper's numbers.
    """
    frames = _chain_frames(trials, column)
    heights = [len(frame) + 1 for frame in frames.values()]
    figure, grid = plt.subplots(
        len(frames),
        1,
        figsize=(9, 0.8 + 0.42 * sum(heights)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    above: dict[str, Axes] = {}  # the last panel of each network: its chains share one scale
    for axes, (name, frame) in zip(grid[:, 0], frames.items(), strict=True):
        some = trials[trials["chain"] == name]
        network = some["architecture"].iloc[0]
        if network in above:
            axes.sharex(above[network])
            above[network].tick_params(labelbottom=False)
        above[network] = axes
        _draw_chain(axes, frame, _draw_printed(axes, some, frame, column))
        axes.set_title(name, fontsize=11, loc="left")
    grid[-1, 0].set_xlabel(_TITLES[column])
    used = dict.fromkeys(engine for frame in frames.values() for engine in frame["engine"])
    marks: dict[str, Any] = {
        ENGINES[e].title: plt.Rectangle((0, 0), 1, 1, color=ENGINE_COLORS[e]) for e in used
    }
    others = {"95 % interval of the change": _INTERVAL_STYLE, "the paper": PRINTED_STYLE}
    marks |= {label: legend_mark(**style) for label, style in others.items()}
    add_legend(figure, marks, columns=5)
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
            axes.plot([before + row.low, before + row.high], [y, y], **_INTERVAL_STYLE)
            drawn = [row.mean, before, before + row.high, published.get(y, np.nan)]
            end = np.nanmax(drawn)  # to the right of everything in the row
            axes.text(end, y, f" {signed(row.value)}", va="center", fontsize=10, bbox=_LABEL)
        if row.n:
            before = row.mean
    name_rows(axes, list(frame.index))
    axes.margins(x=0.12)
    axes.use_sticky_edges = False  # otherwise there is no margin at the end of a bar


def _draw_printed(
    axes: Axes, trials: pd.DataFrame, frame: pd.DataFrame, column: str
) -> dict[int, float]:
    """Mark the paper's numbers for the two ends of a chain; return them by row."""
    ends = {y: trials[trials["step"] == frame.index[y]] for y in (0, len(frame) - 1)}
    found = {y: number for y, step in ends.items() if (number := _printed_number(step, column))}
    for y, number in found.items():
        axes.plot(number, y, zorder=4, **PRINTED_STYLE)
    return found


def _printed_number(step: pd.DataFrame, column: str) -> float | None:
    """Return the paper's number for a step's trials, if they have as many epochs as its own."""
    if column == "final_accuracy" or set(step["epochs"].dropna()) != {printed.EPOCHS}:
        return None
    return printed.printed_by_cell(column).get(tuple(step[CELL].iloc[0]))


def chains_text(trials: pd.DataFrame, column: str) -> str:
    """Say how much each step contributes to the gap of its chain."""
    frames = _chain_frames(trials, column)
    return bullets_text(_chain_text(name, frame, column) for name, frame in frames.items())


def _chain_frames(trials: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Return the steps of the chains, without candidates."""
    found = all_chain_steps(trials, column)
    return {name: found[name] for name in chain_names(trials)}


def _chain_text(chain: str, frame: pd.DataFrame, column: str) -> str:
    if not is_complete_chain(frame):
        missing = ", ".join(frame.index[frame["n"] == 0])
        return f"**{chain}** is incomplete; missing: {missing}."
    changes = frame.iloc[1:]
    listed = ", ".join(f"“{step}” {signed(row['value'])}" for step, row in changes.iterrows())
    certain = [f"“{step}”" for step, row in changes.iterrows() if is_distinguishable(row)]
    beyond = ", ".join(certain) or "none"
    return (
        f"**{chain}** goes from {frame['mean'].iloc[0]:.2f} to {frame['mean'].iloc[-1]:.2f}, by "
        f"{signed(chain_gap(frame))} {_UNITS[column]}: {listed}. Beyond chance: {beyond}."
    )


def suspects_table(trials: pd.DataFrame, chain: str) -> Styler:
    """Show which trainings could have given the paper's number, by the best or last epoch.

    A printed number is one run, so it is compared with the interval for one further seed.
    """
    last = _last_step(trials, chain)
    others = trials[trials["chain"] == chain + CANDIDATES]
    number = _printed_number(last, "best_accuracy") or math.nan
    steps = pd.concat([last, others]).groupby("step", sort=False)
    texts, bold = {}, {}
    for column, epoch in _EPOCHS.items():
        found = {step: prediction_interval(some[column].dropna()) for step, some in steps}
        texts[f"{epoch} epoch"] = [f"{one.value:.2f}" for one in found.values()]
        texts[f"one more seed, {epoch}"] = [interval_text(one) for one in found.values()]
        bold[f"one more seed, {epoch}"] = [one.low <= number <= one.high for one in found.values()]
    texts["n"] = [str(one.n) for one in found.values()]
    rows = [wrapping_cell(str(step)) for step in found]
    caption = (
        f"What could have given the paper's {number:.2f} %: the mean test accuracy (%) of n seeds, "
        "and where one more seed would lie (95 %). Bold: the paper's number lies there."
    )
    shown = pd.DataFrame(texts, rows)
    marked = pd.DataFrame(bold, rows).reindex(columns=shown.columns, fill_value=False)
    return make_bold(style_table(shown, caption, _identifier(f"{chain}_suspects")), marked)


def _last_step(trials: pd.DataFrame, chain: str) -> pd.DataFrame:
    """Return the trials of a chain's last step."""
    some = trials[trials["chain"] == chain]
    return some[some["step"] == some["step"].iloc[-1]]


def _identifier(text: str) -> str:
    """Make the name of a table out of words."""
    return "".join(c if c.isalnum() else "_" for c in text)


def beside_paper_text(trials: pd.DataFrame) -> str:
    """Say whether the paper's DeepSpeed runs agree with ours, or else what comes nearest.

    A printed number is one run, so it is compared with the interval for one further seed.
    """
    texts = {name: _chain_beside_paper(trials, name) for name in chain_names(trials)}
    return bullets_text(f"**{name}**: {text}" for name, text in texts.items() if text)


def _chain_beside_paper(trials: pd.DataFrame, chain: str) -> str | None:
    last = _last_step(trials, chain)
    number = _printed_number(last, "best_accuracy")
    if number is None:
        return None
    ours = prediction_interval(last["best_accuracy"].dropna())
    text = f"the paper's DeepSpeed run reached {number:.2f} %, ours {ours.value:.2f} % on average"
    if ours.n < 2:
        return f"{text} (n = {ours.n}, too few seeds to predict another one)."
    text += f". One more seed of ours would lie between {ours.low:.2f} and {ours.high:.2f} (95 %)"
    if not ours.excludes(number):
        return f"{text}. The paper's number is inside, so its training may well be the same."
    return (
        f"{text}. The paper's number is outside, so no step of this chain explains it. "
        f"{_explanation_text(trials, chain, number)}"
    )


def _explanation_text(trials: pd.DataFrame, chain: str, number: float) -> str:
    """Name the candidates whose best and last epochs enclose a number, or else the nearest."""
    best, last = (
        pd.concat(
            frame
            for name, frame in all_chain_steps(trials, column).items()
            if name.removesuffix(CANDIDATES) == chain
        ).query("n > 0")
        for column in _EPOCHS
    )
    enclosing = best[(best["mean"] >= number) & (last["mean"] <= number)]
    if not enclosing.empty:
        names = " and ".join(
            f"“{step}” ({last.loc[step, 'mean']:.2f} % and {row['mean']:.2f} %, n = {row['n']})"
            for step, row in enclosing.iterrows()
        )
        return (
            f"Of all that was tried, it lies between the last and the best epoch of {names} only."
        )
    epochs = [frame.assign(epoch=epoch) for frame, epoch in ((best, "best"), (last, "last"))]
    found = pd.concat(epochs)
    near = found.iloc[(found["mean"] - number).abs().argsort()[:1]]
    (row,) = near.itertuples()
    mean = mean_cell(row.mean, row.deviation, row.n)
    return (
        f"Nearest to it of all that was tried: “{row.Index}” with {mean} % in its {row.epoch} "
        f"epoch (n = {row.n})."
    )


def answer_text(trials: pd.DataFrame) -> str:
    """Answer the page's question: what costs the accuracy, and whether DeepSpeed itself does."""
    frames = _chain_frames(trials, "best_accuracy")
    known = {chain: frame for chain, frame in frames.items() if is_complete_chain(frame)}
    sentences = []
    if known:
        sentences = [
            _largest_steps_text(known),
            equality_text(trials[trials["chain"].isin(known)]),
        ]
    if missing := [chain for chain in frames if chain not in known]:
        sentences.append(f"Undecided with {', '.join(missing)}: trials are missing.")
    return " ".join(sentences)


def _largest_steps_text(frames: dict[str, pd.DataFrame]) -> str:
    """Name the largest step of most chains, and its share of each chain's gap."""
    largest = {chain: str(_largest_step(frame).name) for chain, frame in frames.items()}
    most = max(largest.values(), key=list(largest.values()).count)
    shares = [_share_text(chain, frames[chain]) for chain, step in largest.items() if step == most]
    others = [
        f"with {chain} it is “{step}” ({_share_text(chain, frames[chain])})"
        for chain, step in largest.items()
        if step != most
    ]
    return (
        f"**The largest step is “{most}”, in {len(shares)} of {len(frames)} chains**: "
        f"{'; '.join([*shares, *others])}."
    )


def _largest_step(frame: pd.DataFrame) -> pd.Series:
    return frame.loc[frame["value"].iloc[1:].abs().idxmax()]


def _share_text(chain: str, frame: pd.DataFrame) -> str:
    largest = _largest_step(frame)
    doubt = "" if is_distinguishable(largest) else ", within chance"
    return f"{signed(largest['value'])} of {signed(chain_gap(frame))} points with {chain}{doubt}"


def equality_text(trials: pd.DataFrame) -> str:
    """Say for each network whether DeepSpeed in place of DDP leaves the accuracy as it is."""
    changes = engine_changes(trials, "best_accuracy")
    texts = [_equal_text(printed.NAMES[name], change) for name, change in changes.items()]
    return f"DeepSpeed in place of DDP, with everything else equal: {'; '.join(texts)}."


def _equal_text(network: str, changes: pd.Series) -> str:
    found, margin = mean_interval(changes, level=0.9), equality_margin(changes)
    value = f"{network} {signed(found.value)} points"
    if found.n < 2:
        return f"{value}, measured once, which decides nothing"
    pairs = f"{value} over {found.n} pairs (90 %: {interval_text(found, signed)})"
    if margin < _MARGIN:
        return f"{pairs}, so the two are equal within {_MARGIN} points"
    if mean_interval(changes).excludes(0):
        return f"{pairs}, which is a difference"
    return f"{pairs}, which shows neither a difference nor equality within {_MARGIN} points"


def noise_text(trials: pd.DataFrame) -> str:
    """Say how much two trainings of the same arithmetic differ: the noise floor."""
    spans = {epoch: null_deviations(trials, column) for column, epoch in _EPOCHS.items()}
    if not all(spans.values()):
        return "The noise floor cannot be told: no step has the same arithmetic in several seeds."
    best, last = (span(found, ".2f") for found in spans.values())
    steps = count_text(len(spans["best"]), "step")
    return (
        f"{steps} of LeNet changed only who computes, not what is computed. Accuracies still "
        f"differ: over the seeds the changes deviate by {best} points by the best epoch, and by "
        f"{last} by the last. A smaller difference means nothing."
    )


def tests_text(trials: pd.DataFrame) -> str:
    """Say how many changes are tested, and how."""
    frames = all_chain_steps(trials, "best_accuracy").values()
    tests = sum(int(frame["chance"].notna().sum()) for frame in frames)
    return (
        f"This page tests {tests} changes. Among so many, one or two intervals of 95 % exclude "
        "zero by chance alone. So “beyond chance” is said only where Holm's method still finds "
        "less than 5 %, with one deviation for all changes of a chain. The step from DDP to "
        "DeepSpeed is what the study was made for; all others explore."
    )
