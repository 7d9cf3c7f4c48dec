"""Capacity: one family of models of growing size, trained in several ways.

A way of training is a label of the axis ``line`` in the study's matrix: an engine, perhaps with a
ZeRO stage and a size of buckets. It has one trial per size. Memory comes from the trials, times
only from ``dsstudy time``: a trial of few steps spends most of its time on the first.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsstudy.analysis.cells import load_labelled, measured_values
from dsstudy.analysis.intervals import ratio_interval
from dsstudy.analysis.load import load_epochs
from dsstudy.spec.engines import DEEPSPEED, ENGINES, NORMAL
from dsstudy.spec.model_counts import model_counts
from dsstudy.spec.trial import DEFAULT_BUCKET

BASE_WAY = NORMAL
"""The way whose times are the base of all ratios."""

MIB = 2**20


def load_capacity(path: str | Path) -> pd.DataFrame:
    """Load a study of several ways and sizes; `path` is as for `dsstudy.load_results`.

    Returns
    -------
    pandas.DataFrame
        The columns of `load_trials`, in the study's order; ``line``, the way; ``parameters`` of the
        model; and from the first epoch, in bytes per rank, ``peak``, the highest memory of the
        process (resident on a CPU, allocated on a GPU), and ``held``, the memory of tensors at the
        end of a backward pass. NaN if a trial has none.
    """
    trials = load_labelled(path).query("axis == 'line'").drop(columns="axis")
    trials = trials.rename(columns={"label": "line"})
    memory = load_epochs(path).reindex(columns=["name", "peak_memory_mb", "held_memory_mb"])
    memory = memory.drop_duplicates("name").set_index("name")
    ranks = trials.reindex(columns=["processes"])["processes"]
    for column, source in (("peak", "peak_memory_mb"), ("held", "held_memory_mb")):
        trials[column] = trials["name"].map(memory[source]).astype(float) * MIB / ranks
    counts = model_counts()
    keys = trials.reindex(columns=["model", "image_size"]).itertuples(index=False, name=None)
    sizes = [counts[key].parameters if key in counts else np.nan for key in keys]
    return trials.assign(parameters=sizes).reset_index(drop=True)


def ways(trials: pd.DataFrame) -> list[str]:
    """Return the ways in the study's order."""
    return list(trials["line"].unique())


def model_sizes(trials: pd.DataFrame) -> pd.Series:
    """Return the parameters of every model with a trial, by model, ascending."""
    known = trials.dropna(subset="parameters").drop_duplicates("model")
    return known.set_index("model")["parameters"].sort_values()


def memory_by_size(trials: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``peak`` or ``held`` in bytes per rank: a row per way, a column per model."""
    completed = trials[trials["status"] == "completed"]
    frame = completed.pivot(index="line", columns="model", values=column)
    return frame.reindex(index=ways(trials), columns=list(model_sizes(trials).index))


def held_per_parameter(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the held memory in bytes per parameter: a row per way, a column per model."""
    return memory_by_size(trials, "held") / model_sizes(trials)


def memory_growth(trials: pd.DataFrame) -> pd.DataFrame:
    """Fit how a rank's peak grows with the model, by least squares.

    Returns
    -------
    pandas.DataFrame
        By way: ``bytes`` per further parameter, the slope; ``rest`` in bytes (libraries, shared
        buffers), the intercept; ``n``, the number of sizes. NaN with fewer than two sizes.
    """
    rows, sizes = {}, model_sizes(trials)
    for line, peaks in memory_by_size(trials, "peak").iterrows():
        known = peaks.dropna()
        fit = np.polyfit(sizes[known.index], known, 1) if len(known) > 1 else (np.nan, np.nan)
        rows[line] = (*fit, len(known))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["bytes", "rest", "n"])


def less_from(found: pd.DataFrame, line: str, other: str) -> float:
    """Return the number of parameters from which one way's fitted peak is below another's.

    It is 0 if the peak is below for every size, and infinite if it grows at least as fast. `found`
    is from `memory_growth`.
    """
    slower = found.loc[other, "bytes"] - found.loc[line, "bytes"]
    more = found.loc[line, "rest"] - found.loc[other, "rest"]
    return max(0.0, more / slower) if slower > 0 else np.inf


def zero_theory(stage: int, ranks: int) -> float:
    """Return the bytes per parameter that a rank holds, in fp32 with Adam.

    Weights and gradients take 4 bytes each, the two states 8. Stage 1 shares out the states, stage
    2 also the gradients, stage 3 also the weights. (In the paper, weights and gradients are in half
    precision, with an fp32 copy of the weights among the states.)

    Source: Rajbhandari et al. (2020), section 3 and figure 1.
    """
    weights, gradients, states = 4.0, 4.0, 8.0
    states /= ranks if stage >= 1 else 1
    gradients /= ranks if stage >= 2 else 1
    weights /= ranks if stage >= 3 else 1
    return weights + gradients + states


def theory_by_way(trials: pd.DataFrame) -> pd.Series:
    """Return `zero_theory` of every way that has a trial."""
    known = trials.dropna(subset="parameters").drop_duplicates("line").set_index("line")
    found = {
        line: zero_theory(int(one["zero_stage"]), int(one["processes"]))
        for line, one in known.iterrows()
    }
    return pd.Series(found, dtype=float).reindex(ways(trials))


def time_ratios(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare each way's times with the base's, round by round.

    Returns
    -------
    pandas.DataFrame
        By ``line`` and ``model``: ``value``, the geometric mean of the ratios of times measured
        alone, ``low`` and ``high``, its 95 % interval, and ``n``; ``state``: ``completed``, or why
        there is no ratio; and ``rough``, the ratio of the trials' own times, which does not count.
    """
    rows = {}
    for model in model_sizes(trials).index:
        some = trials[trials["model"] == model].set_index("line")
        for line in (line for line in ways(trials) if line != BASE_WAY):
            rows[line, model] = _time_ratio(some.reindex([line]), some.reindex([BASE_WAY]))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["line", "model"])


def _time_ratio(one: pd.DataFrame, base: pd.DataFrame) -> dict[str, Any]:
    pair = [_alone_rounds(side) for side in (one, base)]
    found = ratio_interval((pair[0] / pair[1]).dropna())
    own = [side.get("seconds_per_epoch", pd.Series([np.nan])).iloc[0] for side in (one, base)]
    return {**vars(found), "state": _ratio_state(one, base, found.n), "rough": own[0] / own[1]}


def _ratio_state(one: pd.DataFrame, base: pd.DataFrame, pairs: int) -> str:
    if pairs:
        return "completed"
    states = [side["status"].fillna("missing").iloc[0] for side in (one, base)]
    return next((state for state in states if state != "completed"), "not timed alone")


def _alone_rounds(side: pd.DataFrame) -> pd.Series:
    """Return a trial's times measured alone, by round."""
    if "timed_rounds" not in side or not isinstance(side["timed_rounds"].iloc[0], list):
        return pd.Series(dtype=float)
    counting = measured_values(side, "seconds_per_epoch").query("state == 'completed'")
    return counting.set_index("round")["value"]


def way_kind(trials: pd.DataFrame, line: str) -> str:
    """Return an engine's name, or the ZeRO stage, ``0`` to ``3``, of an engine that has ZeRO."""
    one = trials[(trials["line"] == line) & trials["parameters"].notna()].iloc[0]
    return str(int(one["zero_stage"])) if ENGINES[one["engine"]].has_zero else str(one["engine"])


def zero_ways(trials: pd.DataFrame, small_buckets: bool) -> list[str]:
    """Return DeepSpeed's ways with trials, by stage: those with small buckets, or those without."""
    known = trials[trials["engine"].eq(DEEPSPEED) & trials["parameters"].notna()]
    chosen = [
        line for line in known["line"].unique() if has_small_buckets(trials, line) == small_buckets
    ]
    return sorted(chosen, key=lambda line: way_kind(trials, line))


def has_small_buckets(trials: pd.DataFrame, line: str) -> bool:
    """Say whether a way's buckets are smaller than DeepSpeed's default."""
    buckets = trials.loc[trials["line"] == line, "bucket_size"]
    return bool((buckets < DEFAULT_BUCKET).any())
