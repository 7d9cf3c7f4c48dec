"""LeNet at the paper's scale: the paper's numbers beside ours, with their spread."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import compare_engines, counted_values, paired_values, paper_cells
from dsstudy.analysis.intervals import Interval, prediction_interval
from dsstudy.paper.printed import PAPER_ENGINES, SETTINGS, printed_by_cell
from dsstudy.report.accuracy_curve import accuracy_curve, draw_accuracy_curve
from dsstudy.report.figure_style import (
    ENGINE_COLORS,
    PRINTED_STYLE,
    add_legend,
    engine_mark,
    legend_mark,
)
from dsstudy.report.table_style import (
    difference_cell,
    mean_cell,
    named_rows,
    style_table,
    wrapping_cell,
)
from dsstudy.report.wording import bullets_text, count_text, interval_text, signed
from dsstudy.spec.engines import ENGINES

LENET = "lenet"

INSIDE, ABOVE, BELOW, UNKNOWN = "inside", "above", "below", "undecided"
"""Where a number of the paper lies in relation to our prediction interval."""


def lenet_cells(trials: pd.DataFrame) -> pd.DataFrame:
    """Return LeNet's six cells: the paper's accuracy, ours, and the interval for one further run.

    Parameters
    ----------
    trials
        As from `dsstudy.load_trials`.

    Returns
    -------
    pandas.DataFrame
        By ``setting`` and ``engine``: ``published``; ``value``, ``deviation``, ``n`` and ``state``
        as from `dsstudy.analysis.cells.paper_cells`; ``low`` and ``high``, the 95 % interval for
        one further run; ``where`` the paper's number lies in relation to it.
    """
    frame = paper_cells(trials, "best_accuracy")
    frame = frame[frame["architecture"] == LENET].set_index(["setting", "engine"])
    frame = frame.loc[[(setting, engine) for setting in SETTINGS for engine in PAPER_ENGINES]]
    values = _lenet_values(trials)
    found = [prediction_interval(values.get(key, [])) for key in frame.index]
    frame["low"], frame["high"] = [f.low for f in found], [f.high for f in found]
    frame["where"] = list(map(_position, frame["published"], found))
    return frame.drop(columns=["architecture", "note"])


def lenet_gaps(trials: pd.DataFrame) -> pd.DataFrame:
    """Return DeepSpeed minus normal training: the paper's gap, ours, and whether they agree.

    Returns
    -------
    pandas.DataFrame
        By ``setting``: the columns of `dsstudy.analysis.cells.compare_engines`; ``next_low`` and
        ``next_high``, the 95 % interval for one further pair of runs; ``where`` the paper's gap
        lies in relation to it.
    """
    frame = compare_engines(trials, "best_accuracy").loc[LENET]
    pairs = paired_values(trials, "best_accuracy")
    found = [prediction_interval(pairs.get((LENET, setting), [])) for setting in frame.index]
    where = list(map(_position, frame["published"], found))
    limits = {"next_low": [f.low for f in found], "next_high": [f.high for f in found]}
    return frame.assign(**limits, where=where)


def _lenet_values(trials: pd.DataFrame) -> dict[Any, pd.Series]:
    counted = counted_values(trials, "best_accuracy")
    counted = counted[counted.index.get_level_values("architecture") == LENET]
    return dict(list(counted.groupby(level=["setting", "engine"])))


_POSITION_WORDS = {INSIDE: "within", ABOVE: "above", BELOW: "below", UNKNOWN: ""}


def _position(number: float, found: Interval) -> str:
    if found.n < 2:
        return UNKNOWN
    if not found.excludes(number):
        return INSIDE
    return ABOVE if number > found.value else BELOW


def accuracies_table(trials: pd.DataFrame) -> Styler:
    """Show LeNet's six accuracies: the paper's, ours with their spread, and whether they agree."""
    frame = lenet_cells(trials)
    texts = pd.DataFrame(
        {
            "paper": frame["published"].map("{:.2f}".format),
            "ours": [mean_cell(c.value, c.deviation, c.n, c.state) for c in frame.itertuples()],
            "n": frame["n"].astype(str),
            "ours − paper": (frame["value"] - frame["published"]).map(signed),
            "one more run (95 %)": [interval_text(one) for one in frame.itertuples()],
            "the paper's is": frame["where"],
        }
    )
    caption = (
        "Best test accuracy of LeNet in 25 epochs, in percent: ours as mean ± standard deviation "
        "over n seeds, and the interval in which one more run of ours would lie (Student's t)."
    )
    return style_table(named_rows(texts), caption, "lenet")


def gaps_table(trials: pd.DataFrame) -> Styler:
    """Show the gap between the engines by setting: the paper's, and ours with its interval."""
    frame = lenet_gaps(trials)
    further = frame[["next_low", "next_high"]].set_axis(["low", "high"], axis=1)
    texts = pd.DataFrame(
        {
            "paper": frame["published"].map(signed),
            "ours": [difference_cell(one) for one in frame.itertuples()],
            "n": frame["n"].astype(str),
            "verdict": frame["verdict"].map(wrapping_cell),
            "one more pair (95 %)": [interval_text(one, signed) for one in further.itertuples()],
            "the paper's is": frame["where"],
        }
    ).rename_axis(index=None)
    caption = (
        "DeepSpeed's accuracy minus normal training's, in points, paired by seed: the mean, below "
        "it its 95 % interval, and the interval in which one more pair of runs would lie."
    )
    return style_table(texts, caption, "gaps")


def last_epoch_table(epochs: pd.DataFrame, trials: pd.DataFrame) -> Styler:
    """Show how far the accuracy of the last epoch is below that of the best."""
    rows, done = {}, trials.loc[trials["status"] == "completed", "name"]
    chosen = epochs[(epochs["architecture"] == LENET) & epochs["name"].isin(done)]
    for (setting, engine), some in chosen.groupby(["setting", "engine"]):
        by_seed = some.sort_values("epoch").groupby("seed")
        best = some.loc[by_seed["test_accuracy"].idxmax()].set_index("seed")
        last = by_seed["test_accuracy"].last()
        rows[setting, engine] = {
            "best epoch": ", ".join(best["epoch"].astype(str)),
            "best": f"{best['test_accuracy'].mean():.2f}",
            "last epoch": f"{last.mean():.2f}",
            "last − best": signed((last - best["test_accuracy"]).mean()),
            "training loss, last": f"{by_seed['train_loss'].last().mean():.3f}",
            "n": str(len(last)),
        }
    order = [(s, e) for s in SETTINGS for e in PAPER_ENGINES if (s, e) in rows]
    index = pd.MultiIndex.from_tuples(order, names=["setting", "engine"])
    texts = pd.DataFrame([rows[key] for key in order], index)
    caption = (
        "Test accuracy at the best epoch and at the last, in percent, means over n seeds; the best "
        "epoch of each seed."
    )
    return style_table(named_rows(texts), caption, "last")


def accuracies_figure(trials: pd.DataFrame) -> Figure:
    """Draw each seed's best accuracy, the interval for one more run, and the paper's number."""
    frame, values = lenet_cells(trials), _lenet_values(trials)
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    for index, (setting, engine) in enumerate(frame.index):
        y, one = index + index // len(PAPER_ENGINES), frame.loc[(setting, engine)]
        seeds = values.get((setting, engine), pd.Series(dtype=float))
        color = ENGINE_COLORS[engine]
        axes.plot([one["low"], one["high"]], [y, y], color=color, linewidth=7, alpha=0.25)
        axes.plot(seeds, [y] * len(seeds), ENGINES[engine].marker, color=color, alpha=0.8)
        axes.plot(one["published"], y, **PRINTED_STYLE)
        if not len(seeds):
            axes.text(one["published"], y, f"   {one['state']}", va="center", fontsize=10)
    ticks = [index + index // len(PAPER_ENGINES) for index in range(len(frame))]
    labels = [f"{setting}, {ENGINES[engine].title}" for setting, engine in frame.index]
    axes.set(yticks=ticks, yticklabels=labels, xlabel="best test accuracy of LeNet (%)")
    axes.invert_yaxis()
    marks = {f"{ENGINES[engine].title}, each seed": engine_mark(engine) for engine in PAPER_ENGINES}
    marks["one more run, 95 %"] = legend_mark(color="0.5", linewidth=7, alpha=0.4)
    marks["the paper"] = legend_mark(**PRINTED_STYLE)
    add_legend(figure, marks, columns=4)
    return figure


def learning_curves_figure(epochs: pd.DataFrame) -> Figure:
    """Draw LeNet's test accuracy over the epochs in a panel per setting, with the paper's best."""
    printed = printed_by_cell("best_accuracy")
    figure, row_of_axes = plt.subplots(
        1, len(SETTINGS), figsize=(10, 3.8), sharex=True, sharey=True, layout="constrained"
    )
    for axes, setting in zip(row_of_axes, SETTINGS, strict=True):
        for engine in PAPER_ENGINES:
            draw_accuracy_curve(axes, accuracy_curve(epochs, LENET, engine, setting), engine)
            best = printed[LENET, engine, setting]
            axes.axhline(best, color=ENGINE_COLORS[engine], linestyle=":", linewidth=1.5)
        axes.set_title(setting, fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    row_of_axes[0].set_ylabel("test accuracy (%)")
    figure.supxlabel("epoch", fontsize=12)
    handles, labels = row_of_axes[0].get_legend_handles_labels()
    dotted = legend_mark(color="0.4", linestyle=":", linewidth=1.5)
    marks = dict(zip(labels, handles, strict=True)) | {"the paper's best": dotted}
    add_legend(figure, marks, columns=3)
    return figure


def lenet_text(trials: pd.DataFrame) -> str:
    """List what agrees with the paper and what does not."""
    return bullets_text([*_accuracy_sentences(trials), *_gap_sentences(trials)])


def _accuracy_sentences(trials: pd.DataFrame) -> list[str]:
    frame = lenet_cells(trials)
    sentences = []
    for where, word in _POSITION_WORDS.items():
        some = frame[frame["where"] == where]
        if len(some):
            text = f"{word} the 95 % interval of one more run of ours".capitalize()
            if where == UNKNOWN:
                text = "Undecided, as fewer than two seeds are complete"
            named = ", ".join(map(_accuracy_text, some.reset_index().itertuples()))
            count = f"{len(some)} of the paper's {len(frame)} accuracies"
            sentences.append(f"{text}: {count}, {named}.")
    return sentences


def _accuracy_text(cell: Any) -> str:
    ours = f"ours {cell.value:.2f}" if cell.n else cell.state
    return f"{ENGINES[cell.engine].title} {cell.setting} ({cell.published:.2f}; {ours})"


def _points_text(gap: float) -> str:
    return f"{abs(gap):.2f} points {'below' if gap < 0 else 'above'}"


def _gap_sentences(trials: pd.DataFrame) -> list[str]:
    sentences = []
    for setting, one in lenet_gaps(trials).iterrows():
        theirs = _points_text(one["published"])
        theirs = f"{setting}: in the paper DeepSpeed is {theirs} normal training"
        if not one["n"]:
            sentences.append(f"{theirs}; here no pair of runs is complete yet.")
            continue
        ours = f"here {_points_text(one['value'])}"
        limits = f" (95 %: {interval_text(one, signed)})" if one["n"] > 1 else ""
        pairs = count_text(one["n"], "pair")
        sentence = f"{theirs}; {ours}{limits} over {pairs}: {one['verdict']}."
        if word := _POSITION_WORDS[one["where"]]:
            sentence += f" The paper's gap is {word} the 95 % interval of one more pair of ours."
        sentences.append(sentence)
    return sentences
