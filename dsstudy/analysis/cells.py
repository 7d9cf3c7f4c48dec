"""The paper's 42 cells: a study's values in them, and DeepSpeed against normal training.

In every function, `trials` is a frame from `load_trials` or `dsstudy.load_results`, and `column` is
``best_accuracy`` (percent) or ``seconds_per_epoch``.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.analysis.intervals import Interval, mean_interval, ratio_interval
from dsstudy.analysis.load import load_results
from dsstudy.errors import InputError
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.records.study_folder import read_study_json
from dsstudy.spec.trial import ARCHITECTURES, PLACES, Trial

VERDICT_WORDS = {
    "best_accuracy": ("DeepSpeed higher", "normal higher", "zero", "one seed"),
    "seconds_per_epoch": ("normal faster", "DeepSpeed faster", "one", "one measurement"),
}
"""By column: the verdicts above and below the middle, the middle, and the words for n = 1."""


def load_trials(path: str | Path) -> pd.DataFrame:
    """Load a study's trials, including planned ones without a record.

    Parameters
    ----------
    path
        As for `dsstudy.load_results`.

    Returns
    -------
    pandas.DataFrame
        The rows of `dsstudy.load_results`, and for each further trial in ``study.json`` a row with
        ``name``, ``architecture``, ``engine``, ``setting``, ``seed`` and the status ``missing``.
    """
    results = load_results(path)
    cells = read_study_json(Path(path)).get("cells", [])
    planned = pd.DataFrame(cells, columns=["name", *CELL, "seed"])
    missing = planned[~planned["name"].isin(results["name"])].assign(status="missing")
    return pd.concat([results, missing], ignore_index=True) if len(missing) else results


def study_architectures(trials: pd.DataFrame) -> list[str]:
    """Return the paper's architectures in a study, in the paper's order."""
    return [name for name in ARCHITECTURES if name in set(trials["architecture"])]


def in_paper(rows: pd.DataFrame) -> pd.Series:
    """Say which rows, of trials or of epochs, are in one of the paper's cells."""
    cells = pd.MultiIndex.from_frame(rows[CELL]).isin(printed.CELLS)
    return pd.Series(cells, index=rows.index)


def outside_paper(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, of trials or of epochs, that are in none of the paper's cells."""
    return rows[~in_paper(rows)]


def load_labelled(path: str | Path) -> pd.DataFrame:
    """Load the trials of a study whose matrix has labels.

    Returns
    -------
    pandas.DataFrame
        The rows of `load_trials` that have labels, in the study's order, with ``axis`` and
        ``label``: one row per label of a trial.

    Raises
    ------
    InputError
        The study has no labels.
    """
    labels = read_study_json(Path(path)).get("labels")
    if not labels:
        raise InputError(
            f"study={path} has no labels: set study to one whose matrix has axes of labels, each "
            "with parameters, as parameters/bridge.yaml has"
        )
    rows = [(name, *one) for name, some in labels.items() for one in some.items()]
    known = pd.DataFrame(rows, columns=["name", "axis", "label"])
    return known.merge(load_trials(path), on="name", how="left")


def values_with_states(trials: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the measured values in the paper's cells, and which of them count.

    Returns
    -------
    pandas.DataFrame
        One row per trial, or for seconds per round of a trial timed alone; then other completed
        trials of its cell are left out. Columns: ``architecture``, ``engine``, ``setting``,
        ``seed``, ``round`` (0: the training itself), ``value`` and ``state``: ``completed`` if the
        value counts, ``shared`` for a time that other programs may have stretched, or why there is
        no value.

    Raises
    ------
    InputError
        Two trials of one cell differ in more than their seed, so that their mean makes no sense.
    """
    inside = trials[in_paper(trials)]
    for cell, some in inside[inside["status"] != "missing"].groupby(CELL):
        _check_alike(cell, some)
    return measured_values(inside, column)


def measured_values(trials: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the measured values of any trials, as `values_with_states` does."""
    frame = trials.reindex(columns=[*CELL, "seed", column, "status", "timing", "timed_rounds"])
    frame = frame.rename(columns={column: "value", "status": "state"}).assign(round=0)
    if column == "seconds_per_epoch":
        frame = frame.loc[drop_untimed(trials).index]
        alone = frame["timed_rounds"].notna()
        shared = (frame["state"] == "completed") & ~is_timed_alone(frame)
        frame["state"] = frame["state"].mask(shared, "shared")
        frame["value"] = frame["timed_rounds"].where(alone, frame["value"])
        frame["round"] = alone.astype(int)  # a training's own time is in no pair
        frame = frame.explode("value")
    frame["round"] += frame.groupby(level=0).cumcount()
    return frame[[*CELL, "seed", "round", "value", "state"]].astype({"value": float})


def is_timed_alone(trials: pd.DataFrame) -> pd.Series:
    """Say which trials' seconds were measured with nothing else on the machine."""
    exclusive = trials["timing"] == "exclusive"
    return exclusive | trials["timed_rounds"].notna() if "timed_rounds" in trials else exclusive


def drop_untimed(trials: pd.DataFrame) -> pd.DataFrame:
    """Drop completed trials that were not timed in rounds if others of their cell were.

    Rounds alternate between the engines on one machine; a training may have had another machine.
    """
    if "timed_rounds" not in trials:
        return trials
    completed = trials["status"] == "completed"
    alone = trials["timed_rounds"].notna() & completed
    timed = alone.groupby([trials[name] for name in CELL], dropna=False).transform("any")
    return trials[alone | ~timed | ~completed]


def _check_alike(cell: Any, trials: pd.DataFrame) -> None:
    identity = [name for name in Trial.model_fields if name not in (*PLACES, "seed")]
    differing = [name for name in identity if trials[name].astype(str).nunique() > 1]
    if differing:
        raise InputError(
            f"the study holds several trials for {printed.cell_label(*cell)}, which differ in "
            f"{', '.join(differing)} and not in the seed alone: give a study in which each of the "
            "paper's 42 trials is one set of parameters"
        )


def paper_cells(trials: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the paper's cells with our value and the printed one.

    Returns
    -------
    pandas.DataFrame
        Six rows per architecture of the study: ``architecture``, ``engine``, ``setting``,
        ``published``; ``value`` and ``deviation``, mean and standard deviation over the ``n``
        values that count; ``state`` (``completed``, ``shared``, or why there is no value:
        ``missing``, ``failed``, ``unfinished``, ``diverged``); ``note`` on trials that do not
        count.
    """
    published = printed.printed_values(column).rename(columns={"value": "published"})
    published = published[published["architecture"].isin(study_architectures(trials))]
    values = values_with_states(trials, column)
    measured, none = dict(list(values.groupby(CELL))), values.head(0)
    cells = published[CELL].itertuples(index=False, name=None)
    ours = [cell_summary(measured.get(cell, none)) for cell in cells]
    return pd.concat([published.reset_index(drop=True), pd.DataFrame(ours)], axis=1)


def cell_summary(measured: pd.DataFrame) -> dict[str, Any]:
    """Summarise the values of one cell, as `measured_values` returns them."""
    states = measured.loc[measured["round"] < 2, "state"].value_counts()  # one row per trial
    counting = next((state for state in ("completed", "shared") if state in states), None)
    values = measured.loc[measured["state"] == counting, "value"].astype(float)
    rest = [f"{n} of {states.sum()} {state}" for state, n in states.items() if state != counting]
    return {
        "value": values.mean(),
        "deviation": values.std(),
        "n": len(values),
        "state": counting or ", ".join(states.index) or "missing",
        "note": ", ".join(rest) if counting else "",
    }


def best_cells(trials: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the most accurate cell of each architecture, if it is distinguishable from the others.

    If cells have one seed each, the highest number is the best, as in the paper's table. If a cell
    has several, the 95 % interval of the paired difference must exclude zero.
    """
    found = []
    for _, some in counted_values(trials, "best_accuracy").groupby(level="architecture"):
        seeds = {cell: values.droplevel(CELL) for cell, values in some.groupby(level=CELL)}
        top = max(values.mean() for values in seeds.values())
        leaders = [cell for cell, values in seeds.items() if values.mean() == top]
        behind = [values for cell, values in seeds.items() if cell not in leaders]
        found += [cell for cell in leaders if all(_is_higher(seeds[cell], one) for one in behind)]
    return found


def _is_higher(first: pd.Series, second: pd.Series) -> bool:
    single = len(first) == len(second) == 1
    return single or mean_interval((first - second).dropna()).excludes(0)


def compare_engines(trials: pd.DataFrame, column: str) -> pd.DataFrame:
    """Compare DeepSpeed with normal training in the same setting, seed by seed.

    The same seed gives both engines the same initial weights and order of images, so differences
    are paired. Times are paired by round.

    Returns
    -------
    pandas.DataFrame
        By ``architecture`` and ``setting``: ``value``, over ``n`` pairs the mean of DeepSpeed minus
        normal (accuracies, in points), or the geometric mean of DeepSpeed over normal (seconds);
        ``low`` and ``high``, its 95 % interval; ``verdict`` in words; ``published``, the same from
        the paper's numbers.
    """
    published = _between_engines(printed.printed_by_cell(column), column)
    keys = pd.MultiIndex.from_product(
        [study_architectures(trials), printed.SETTINGS], names=["architecture", "setting"]
    )
    mean = mean_interval if column.endswith("accuracy") else ratio_interval
    frame, found = _interval_frame(keys, paired_values(trials, column), published, mean)
    return frame.assign(verdict=[_verdict_text(one, column) for one in found])


def _interval_frame(
    keys: pd.MultiIndex,
    ours: dict[Any, pd.Series],
    published: dict[Any, pd.Series],
    mean: Callable[[pd.Series], Interval],
) -> tuple[pd.DataFrame, list[Interval]]:
    """Return the mean of our pairs by key, beside the printed one, and as intervals."""
    found = [mean(ours.get(key, pd.Series(dtype=float))) for key in keys]
    theirs = [published[key].iloc[0] for key in keys]
    return pd.DataFrame(map(vars, found), keys).assign(published=theirs), found


def paired_values(trials: pd.DataFrame, column: str) -> dict[Any, pd.Series]:
    """Return the values that `compare_engines` averages, by (architecture, setting)."""
    return _between_engines(counted_values(trials, column), column)


def _between_engines(values: pd.Series, column: str) -> dict[Any, pd.Series]:
    sides = values.unstack("engine").reindex(columns=list(printed.PAPER_ENGINES)).dropna()
    deepspeed, normal = (sides[engine] for engine in printed.PAPER_ENGINES)
    apart = deepspeed - normal if column.endswith("accuracy") else deepspeed / normal
    return dict(list(apart.groupby(level=["architecture", "setting"])))


def adam_over_sgd(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare an epoch's seconds with Adam and with SGD, both with a scheduler, per engine.

    Returns
    -------
    pandas.DataFrame
        By ``architecture`` and ``engine``: ``value``, the geometric mean of Adam's seconds over
        SGD's in ``n`` pairs of equal seed and round; ``low`` and ``high``, its 95 % interval;
        ``published``, the same from the paper's Table 2.
    """
    ours = _adam_over_sgd(counted_values(trials, "seconds_per_epoch"))
    published = _adam_over_sgd(printed.printed_by_cell("seconds_per_epoch"))
    keys = pd.MultiIndex.from_product(
        [study_architectures(trials), printed.PAPER_ENGINES], names=["architecture", "engine"]
    )
    return _interval_frame(keys, ours, published, ratio_interval)[0]


def _adam_over_sgd(seconds: pd.Series) -> dict[Any, pd.Series]:
    sides = seconds.unstack("setting").reindex(columns=["SGD+S", "Adam+S"]).dropna()
    ratios = sides["Adam+S"] / sides["SGD+S"]
    return dict(list(ratios.groupby(level=["architecture", "engine"])))


def counted_values(trials: pd.DataFrame, column: str) -> pd.Series:
    """Return the values that count, by architecture, engine, setting, seed and round."""
    frame = values_with_states(trials, column)
    return frame[frame["state"] == "completed"].set_index([*CELL, "seed", "round"])["value"]


def _verdict_text(found: Interval, column: str) -> str:
    above, below, middle, single = VERDICT_WORDS[column]
    if found.n == 0:
        return "no pair"
    if found.n == 1:
        return f"{single}: no interval"
    if found.low == found.high == 0 and column == "best_accuracy":
        return "the same in every pair"
    if not found.excludes(0 if column == "best_accuracy" else 1):
        return f"undecided: the interval includes {middle}"
    return above if found.value > (0 if column == "best_accuracy" else 1) else below


def verdict_counts_text(verdicts: Iterable[str]) -> str:
    """Count verdicts in words, the most frequent first."""
    counts = pd.Series(list(verdicts), dtype=str).value_counts()
    return ", ".join(f"“{verdict}” {n}" for verdict, n in counts.items())
