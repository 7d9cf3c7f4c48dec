"""Chains of trials that lead from one training to another, one factor a step.

A chain is an axis of the study's matrix whose labels are its steps, in their order. An axis called
``<chain> candidates`` holds further trials, each compared with the chain's first step.
"""

from pathlib import Path

import pandas as pd

from dsstudy.analysis.cells import load_labelled, measured_values
from dsstudy.analysis.intervals import mean_interval
from dsstudy.errors import InputError

CANDIDATES = " candidates"


def load_chains(path: str | Path) -> pd.DataFrame:
    """Load a study of chains.

    Returns
    -------
    pandas.DataFrame
        What `dsstudy.analysis.cells.load_labelled` gives, its axes as ``chain``, its labels as ``step``.
    """
    return load_labelled(path).rename(columns={"axis": "chain", "label": "step"})


def chain_names(trials: pd.DataFrame) -> list[str]:
    """Return the names of the chains, without those of their candidates."""
    return [name for name in trials["chain"].unique() if not name.endswith(CANDIDATES)]


def chain_steps(trials: pd.DataFrame, chain: str, column: str) -> pd.DataFrame:
    """Follow a chain: what each step measures, and what it adds to the one before.

    The same seed gives every step the same initial weights and, where the step does not change it,
    the same order of images: so a step's change is taken seed by seed (times: round by round).

    Parameters
    ----------
    trials
        As `load_chains` returns them.
    chain
        One of `chain_names`, or its candidates, each of which is compared with the chain's first step.
    column
        ``best_accuracy`` or ``final_accuracy`` (percent), or ``seconds_per_epoch``.

    Returns
    -------
    pandas.DataFrame
        By ``step``: ``engine``; ``mean`` and ``deviation`` over the ``n`` values that count;
        ``value``, the mean change, with ``low`` and ``high``, its 95 % interval, and ``pairs``.
    """
    first = _step_values(trials, chain.removesuffix(CANDIDATES), column)
    if not first:
        name, known = chain.removesuffix(CANDIDATES), ", ".join(chain_names(trials))
        raise InputError(f"the study has no chain {name}: its chains are {known}")
    before = next(iter(first.values()))
    rows = {}
    for step, (engine, values) in _step_values(trials, chain, column).items():
        change = mean_interval((values - before[1]).dropna())
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


def _step_values(trials: pd.DataFrame, chain: str, column: str) -> dict[str, tuple[str, pd.Series]]:
    """Return every step's engine, and its values that count, by seed and round."""
    found = {}
    for step, some in trials[trials["chain"] == chain].groupby("step", sort=False):
        measured = measured_values(some, column)
        counting = measured[measured["state"] == "completed"].set_index(["seed", "round"])
        found[str(step)] = str(some["engine"].iloc[0]), counting["value"]
    return found


def chain_gap(frame: pd.DataFrame) -> float:
    """Return how far a chain's last step is from its first."""
    return frame["mean"].iloc[-1] - frame["mean"].iloc[0]


def is_complete_chain(frame: pd.DataFrame) -> bool:
    """Say whether both ends of a chain and each of its changes were measured."""
    return bool(frame["n"].iloc[[0, -1]].min() > 0 and frame["pairs"].min() > 0)


def is_distinguishable(change: pd.Series) -> bool:
    """Say whether a change's interval excludes zero."""
    return bool(change["low"] > 0 or change["high"] < 0)
