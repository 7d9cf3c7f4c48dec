"""Capacity: one family of models over growing size, engine by engine and ZeRO stage by stage.

A line is one way of training: a label of the axis ``line`` in the study's matrix. It has a trial of
each size. Memory comes from the trials themselves, times from ``dsstudy time`` alone: a trial of
few steps spends most of its own time on its first.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsstudy.analysis.cells import load_labelled, measured_values
from dsstudy.analysis.intervals import mean_interval
from dsstudy.analysis.load import load_epochs
from dsstudy.spec.engines import DEEPSPEED, ENGINES, NORMAL
from dsstudy.spec.model_counts import model_counts
from dsstudy.spec.trial import DEFAULT_BUCKET

WAY_AXIS = "line"
"""The axis of the study's matrix that names the lines."""

BASE_WAY = NORMAL
"""The line whose times the others' are compared with."""

MIB = 2**20


def load_capacity(path: str | Path) -> pd.DataFrame:
    """Load a study of lines over sizes.

    Parameters
    ----------
    path
        ``runs/<study>`` or ``book/results/<study>``.

    Returns
    -------
    pandas.DataFrame
        What `dsstudy.analysis.cells.load_trials` gives, in the study's order, with ``line``; ``parameters``
        of the model; and in bytes a rank, of the first epoch, ``peak``, the highest memory of the
        process (resident on a CPU, allocated on a GPU), and ``held``, what tensors took at the end
        of a backward pass. NaN where a trial has none.
    """
    trials = load_labelled(path)
    trials = (
        trials[trials["axis"] == WAY_AXIS].drop(columns="axis").rename(columns={"label": "line"})
    )
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
    """Return the lines in the study's order."""
    return list(trials["line"].unique())


def model_sizes(trials: pd.DataFrame) -> pd.Series:
    """Return the parameters of every model that a trial was begun for, by model, growing."""
    known = trials.dropna(subset="parameters").drop_duplicates("model")
    return known.set_index("model")["parameters"].sort_values()


def memory_by_size(trials: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``peak`` or ``held``, in bytes a rank: a row a line, a column a model."""
    frame = trials[trials["status"] == "completed"].pivot(
        index="line", columns="model", values=column
    )
    return frame.reindex(index=ways(trials), columns=list(model_sizes(trials).index))


def held_per_parameter(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what a rank holds, in bytes a parameter: a row a line, a column a model."""
    return memory_by_size(trials, "held") / model_sizes(trials)


def memory_growth(trials: pd.DataFrame) -> pd.DataFrame:
    """Fit how a rank's peak grows with the model.

    Returns
    -------
    pandas.DataFrame
        By line: ``bytes`` a further parameter and ``rest`` (bytes; libraries, shared buffers),
        the slope and the intercept of a line by least squares; ``n``, how many sizes it rests on.
        NaN with fewer than two.
    """
    rows = {}
    for line, peaks in memory_by_size(trials, "peak").iterrows():
        known = peaks.dropna()
        slope, rest = (
            np.polyfit(model_sizes(trials)[known.index], known, 1)
            if len(known) > 1
            else (np.nan,) * 2
        )
        rows[line] = {"bytes": slope, "rest": rest, "n": len(known)}
    return pd.DataFrame.from_dict(rows, orient="index")


def less_from(found: pd.DataFrame, line: str, other: str) -> float:
    """Return the parameters from which on a line's fitted peak is below another's.

    Parameters
    ----------
    found
        As `memory_growth` returns it.

    Returns
    -------
    float
        0 where it is for every size; infinity where it grows as fast or faster.
    """
    slower = found.loc[other, "bytes"] - found.loc[line, "bytes"]
    more = found.loc[line, "rest"] - found.loc[other, "rest"]
    return max(0.0, more / slower) if slower > 0 else np.inf


def zero_theory(stage: int, ranks: int) -> float:
    """Return the bytes that a rank holds for each parameter, in fp32 with Adam.

    Weights and gradients take 4 bytes each, the two states 8; stage 1 shares out the states, stage
    2 the gradients too, stage 3 the weights too. In the paper weights and gradients are in half
    precision, with a copy of the weights in fp32 among the states.

    Source: Rajbhandari et al. (2020), section 3 and figure 1.
    """
    weights, gradients, states = 4.0, 4.0, 8.0
    states /= ranks if stage >= 1 else 1
    gradients /= ranks if stage >= 2 else 1
    weights /= ranks if stage >= 3 else 1
    return weights + gradients + states


def theory_by_way(trials: pd.DataFrame) -> pd.Series:
    """Return `zero_theory` by line, as far as a trial of the line was begun."""
    known = trials.dropna(subset="parameters").drop_duplicates("line").set_index("line")
    found = {
        line: zero_theory(int(one["zero_stage"]), int(one["processes"]))
        for line, one in known.iterrows()
    }
    return pd.Series(found, dtype=float).reindex(ways(trials))


def time_ratios(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare each line's times with normal training's, round by round.

    Returns
    -------
    pandas.DataFrame
        By ``line`` and ``model``: ``value``, the mean ratio of times measured alone; ``low`` and
        ``high``, its 95 % interval; ``n``; ``state``: ``completed`` where there is a ratio, or
        why there is none; and ``rough``, the ratio of the trials' own times, which does not count.
    """
    rows = {}
    for model in model_sizes(trials).index:
        some = trials[trials["model"] == model].set_index("line")
        for line in (line for line in ways(trials) if line != BASE_WAY):
            rows[line, model] = _time_ratio(some.reindex([line]), some.reindex([BASE_WAY]))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["line", "model"])


def _time_ratio(one: pd.DataFrame, base: pd.DataFrame) -> dict[str, Any]:
    pair = [_alone_rounds(side) for side in (one, base)]
    found = mean_interval((pair[0] / pair[1]).dropna())
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
    """Say in short how a line trains: by its engine, or DeepSpeed's ZeRO stage, ``0`` to ``3``."""
    one = trials[(trials["line"] == line) & trials["parameters"].notna()].iloc[0]
    return str(int(one["zero_stage"])) if ENGINES[one["engine"]].has_zero else str(one["engine"])


def zero_ways(trials: pd.DataFrame, small_buckets: bool) -> list[str]:
    """Return DeepSpeed's lines that have begun, by stage: those of one kind of buckets."""
    begun = trials[trials["engine"].eq(DEEPSPEED) & trials["parameters"].notna()]
    chosen = [
        line for line in begun["line"].unique() if has_small_buckets(trials, line) == small_buckets
    ]
    return sorted(chosen, key=lambda line: way_kind(trials, line))


def has_small_buckets(trials: pd.DataFrame, line: str) -> bool:
    """Say whether a line's buckets are smaller than DeepSpeed's own."""
    buckets = trials.loc[trials["line"] == line, "bucket_size"]
    return bool((buckets < DEFAULT_BUCKET).any())
