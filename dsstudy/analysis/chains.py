"""Chains of trials that lead from one training to another, one factor at a time.

A chain is an axis of the study's matrix; its labels are its steps, in order. The axis ``<chain>
candidates`` holds further trials, each compared with the chain's first step.
"""

from pathlib import Path

import pandas as pd

from dsstudy.analysis.cells import load_labelled, measured_values
from dsstudy.analysis.intervals import mean_interval
from dsstudy.errors import InputError

CANDIDATES = " candidates"


def load_chains(path: str | Path) -> pd.DataFrame:
    """Load a study of chains: `load_labelled`, with axes as ``chain`` and labels as ``step``."""
    return load_labelled(path).rename(columns={"axis": "chain", "label": "step"})


def chain_names(trials: pd.DataFrame) -> list[str]:
    """Return the names of the chains, without candidates."""
    return [name for name in trials["chain"].unique() if not name.endswith(CANDIDATES)]


def chain_steps(trials: pd.DataFrame, chain: str, column: str) -> pd.DataFrame:
    """Return what each step of a chain measures, and how it changes the step before.

    The same seed gives every step the same initial weights and, unless the step changes it, the
    same order of images. So changes are paired by seed (times: by round).

    Parameters
    ----------
    trials
        From `load_chains`.
    chain
        One of `chain_names`, or its candidates, which are compared with the chain's first step.
    column
        ``best_accuracy`` or ``final_accuracy`` (percent), or ``seconds_per_epoch``.

    Returns
    -------
    pandas.DataFrame
        By ``step``: ``engine``; ``mean`` and ``deviation`` over the ``n`` values that count;
        ``value``, the mean change over ``pairs`` pairs, with ``low`` and ``high``, its 95 %
        interval.
    """
    start = chain.removesuffix(CANDIDATES)
    first = _step_values(trials, start, column)
    if not first:
        known = ", ".join(chain_names(trials))
        raise InputError(f"the study has no chain {start}: its chains are {known}")
    _, before = next(iter(first.values()))
    rows = {}
    for step, (engine, values) in _step_values(trials, chain, column).items():
        change = mean_interval((values - before).dropna())
        measured = {"mean": values.mean(), "deviation": values.std(), "n": len(values)}
        changed = {"value": change.value, "low": change.low, "high": change.high}
        rows[step] = {"engine": engine, **measured, **changed, "pairs": change.n}
        if not chain.endswith(CANDIDATES):
            before = values
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("step")


def _step_values(trials: pd.DataFrame, chain: str, column: str) -> dict[str, tuple[str, pd.Series]]:
    """Return every step's engine, and its values that count, by seed and round."""
    found = {}
    for step, some in trials[trials["chain"] == chain].groupby("step", sort=False):
        measured = measured_values(some, column)
        counting = measured[measured["state"] == "completed"].set_index(["seed", "round"])
        found[str(step)] = str(some["engine"].iloc[0]), counting["value"]
    return found


def chain_gap(frame: pd.DataFrame) -> float:
    """Return the difference between a chain's last step and its first."""
    return frame["mean"].iloc[-1] - frame["mean"].iloc[0]


def is_complete_chain(frame: pd.DataFrame) -> bool:
    """Say whether both ends of a chain and all its changes were measured."""
    return bool(frame["n"].iloc[[0, -1]].min() > 0 and frame["pairs"].min() > 0)


def is_distinguishable(change: pd.Series) -> bool:
    """Say whether a change's interval excludes zero."""
    return bool(change["low"] > 0 or change["high"] < 0)
