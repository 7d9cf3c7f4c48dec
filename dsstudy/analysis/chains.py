"""Chains of trials that lead from one training to another, one factor at a time.

A chain is an axis of the study's matrix; its labels are its steps, in order. The axis ``<chain>
candidates`` holds further trials, each compared with the chain's first step.
"""

import itertools
import math
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.analysis.cells import load_labelled, measured_values
from dsstudy.analysis.intervals import LEVEL, chance_of, holm, mean_interval, pooled_deviation
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
    same order of images. So changes are paired by seed (times: by round). As three seeds tell
    little about how much one change scatters, the changes of a chain share one deviation.

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
        interval; ``is_same``, whether no pair differs at all; ``chance``, the probability of such a
        change if there is none, adjusted by Holm's method for all changes of the study.
    """
    if chain not in set(trials["chain"]):
        known = ", ".join(chain_names(trials))
        raise InputError(f"the study has no chain {chain}: its chains are {known}")
    return all_chain_steps(trials, column)[chain]


def all_chain_steps(trials: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Return `chain_steps` of every chain and of all candidates, by name."""
    values = _step_values(trials, column)
    frames = {name: _chain_frame(values, name) for name in values}
    chances = holm(pd.concat({name: frame["chance"] for name, frame in frames.items()}))
    return {name: frame.assign(chance=chances[name]) for name, frame in frames.items()}


_StepValues = dict[str, dict[str, tuple[str, pd.Series]]]
"""By chain and step: the engine, and the values that count, by seed and round."""


def _chain_frame(values: _StepValues, chain: str) -> pd.DataFrame:
    changes = _chain_changes(values, chain)
    shared = pooled_deviation(changes.values())
    rows = {}
    for step, (engine, measured) in values[chain].items():
        change = changes.get(step, pd.Series(dtype=float))  # none at the first step of a chain
        found = mean_interval(change, shared)
        rows[step] = {
            "engine": engine,
            "mean": measured.mean(),
            "deviation": measured.std(),
            "n": len(measured),
            "value": found.value if step in changes else 0.0,
            "low": found.low,
            "high": found.high,
            "pairs": found.n,
            "is_same": found.n > 0 and bool(change.eq(0).all()),
            "chance": chance_of(found, shared) if shared and found.n > 1 else math.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("step")


def _chain_changes(values: _StepValues, chain: str) -> dict[str, pd.Series]:
    """Return the change at each step of a chain after its first, by seed and round.

    Candidates are compared with the first step of their chain.
    """
    own = {step: measured for step, (_, measured) in values[chain].items()}
    if chain.endswith(CANDIDATES):
        _, base = next(iter(values[chain.removesuffix(CANDIDATES)].values()))
        return {step: (measured - base).dropna() for step, measured in own.items()}
    return {step: (own[step] - own[before]).dropna() for before, step in itertools.pairwise(own)}


def _step_values(trials: pd.DataFrame, column: str) -> _StepValues:
    found: _StepValues = {}
    for (chain, step), some in trials.groupby(["chain", "step"], sort=False):
        measured = measured_values(some, column)
        counting = measured[measured["state"] == "completed"].set_index(["seed", "round"])
        place = found.setdefault(str(chain), {})
        place[str(step)] = str(some["engine"].iloc[0]), counting["value"]
    return found


def chain_gap(frame: pd.DataFrame) -> float:
    """Return the difference between a chain's last step and its first."""
    return frame["mean"].iloc[-1] - frame["mean"].iloc[0]


def is_complete_chain(frame: pd.DataFrame) -> bool:
    """Say whether both ends of a chain and all its changes were measured."""
    return bool(frame["n"].iloc[[0, -1]].min() > 0 and frame["pairs"].iloc[1:].min() > 0)


def is_distinguishable(change: Any) -> bool:
    """Say whether chance alone would hardly give a change, among as many as the study makes."""
    return bool(change.chance < 1 - LEVEL)


def engine_changes(trials: pd.DataFrame, column: str) -> dict[str, pd.Series]:
    """Return the change from DDP to DeepSpeed, the last step of every chain, by network.

    This is the comparison that the study was made for; all others explore.

    Returns
    -------
    dict of str to pandas.Series
        By architecture: the paired differences of all its chains.
    """
    values = _step_values(trials, column)
    found: dict[str, list[pd.Series]] = {}
    for chain in chain_names(trials):
        *_, last = _chain_changes(values, chain).values()
        network = trials.loc[trials["chain"] == chain, "architecture"].iloc[0]
        found.setdefault(network, []).append(last)
    return {network: pd.concat(changes) for network, changes in found.items()}


def null_deviations(trials: pd.DataFrame, column: str) -> list[float]:
    """Return how much the changes scatter that should be none: the noise floor.

    LeNet normalises over no batch. So where only the engine or the number of processes changes, it
    does the same arithmetic in another order; what remains is rounding, grown over the epochs.

    Returns
    -------
    list of float
        The standard deviation over the seeds of each such change.
    """
    values = _step_values(trials, column)
    lenet = set(trials.loc[trials["architecture"] == "lenet", "chain"])
    found = []
    for chain in (name for name in chain_names(trials) if name in lenet):
        engines = {step: engine for step, (engine, _) in values[chain].items()}
        changes = _chain_changes(values, chain)
        found += [
            float(changes[step].std())
            for before, step in itertools.pairwise(engines)
            if engines[before] != engines[step] and len(changes[step]) > 1
        ]
    return found
