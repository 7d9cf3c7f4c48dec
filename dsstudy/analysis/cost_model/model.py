"""The cost model: predicts a training step on several ranks from the same step on one device.

On one device a step takes ``normal`` seconds: ``flops / rate`` for the arithmetic, and a rest
(starting kernels, making batches, normalising, updating). On n ranks it takes ::

    seconds = factor * rest + share * flops / rate + bytes sent / bandwidth + constant

- Each rank starts as many kernels as the one device does, so the ranks do not share out the rest.
  It takes ``factor`` times as long.
- A rank's arithmetic takes ``share`` of the time: 1/n in the same precision.
- Each rank sends its gradients, whose size is proportional to ``parameters``. Nothing overlaps.
- ``constant`` is the same for all networks.

The rest cannot be measured alone. But it is ``normal - flops / rate``, so the seconds are linear in
numbers that are measured or counted ::

    seconds = factor * normal - saved * flops + gradient * parameters + constant

with ``saved = (factor - share) / rate`` and ``gradient = bytes sent per parameter / bandwidth``.
The four coefficients are fitted; none is negative.

References
----------
A ring all-reduce sends 2 (n - 1) / n of the data from each rank: Patarasuk and Yuan, Bandwidth
Optimal All-Reduce Algorithms for Clusters of Workstations (2009). Non-negative least squares:
Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from dsstudy.paper import printed

TERMS = {"factor": "normal_seconds", "saved": "flops", "gradient": "parameters", "constant": "one"}
"""The coefficients, and the column that each multiplies; ``saved`` is subtracted."""

RATIO = ("factor",)
LINE = ("factor", "gradient", "constant")
SHARED_ARITHMETIC = ("factor", "saved", "gradient")
FULL = tuple(TERMS)

FORMS = {
    "factor": RATIO,
    "factor + gradients + constant": LINE,
    "factor − arithmetic + gradients": SHARED_ARITHMETIC,
    "all four terms": FULL,
}
"""The models that are compared, by their terms."""

FEWEST = len(TERMS) + 1
"""A fit needs this many steps when any one architecture is left out: more than it has terms."""

PEAKS = {"fp32": 35.6e12, "fp16": 71e12}
"""Peak floating-point operations per second of an RTX 3090; fp16 with fp32 sums. Source: NVIDIA
Ampere GA102 GPU Architecture, 2020."""

SHARE = 1 / 4
"""The share of the arithmetic's time for each of the paper's two ranks: half of the images, at
twice the speed, as the `PEAKS` say."""

LINKS = {"PCIe 4.0 x16": 32e9, "NVLink": 56.25e9}
"""Peak bytes per second between two RTX 3090, in one direction. Source: the same."""

FITTED_LINK = 5.6e9
"""Bytes per second between the paper's two cards by the fit of `SHARED_ARITHMETIC` to its Table 2
(SGD), to two figures: far below the peaks. A test fits it again."""

GRADIENT_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}
"""Bytes that a rank sends per parameter, by precision."""


def fit_groups(pairs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield engine, setting and their pairs by architecture, if there are enough for a fit."""
    for engine in pairs["engine"].unique():
        for setting in printed.SETTINGS:
            some = pairs[(pairs["engine"] == engine) & (pairs["setting"] == setting)]
            if fewest_left(some) >= FEWEST:
                yield engine, setting, some.set_index("architecture")


def fewest_left(pairs: pd.DataFrame) -> int:
    """Return the smallest number of pairs that is left without one of the architectures."""
    return int(len(pairs) - pairs["architecture"].value_counts().max()) if len(pairs) else 0


def fit_cost(pairs: pd.DataFrame, terms: Sequence[str], relative: bool = True) -> pd.Series:
    """Fit the coefficients to one engine's steps in one setting.

    Parameters
    ----------
    pairs
        From `fit_groups`.
    terms
        The `TERMS` to fit; the others are zero.
    relative
        Whether to minimise relative errors instead of absolute ones, which would ignore the
        smallest of steps that differ by a factor of twenty.

    Returns
    -------
    pandas.Series
        All `TERMS`, none negative: ``factor``; ``saved``, seconds per floating-point operation;
        ``gradient``, seconds per parameter; ``constant``, seconds.
    """
    target = pairs["seconds"].to_numpy()
    weights = 1 / target if relative else np.ones(len(target))
    columns = _design_matrix(pairs, terms) * weights[:, None]
    scale = abs(columns).max(axis=0)  # they differ by twelve orders of magnitude
    found = pd.Series(nnls(columns / scale, target * weights)[0] / scale, list(terms))
    return found.reindex(list(TERMS), fill_value=0.0)


def _design_matrix(pairs: pd.DataFrame, terms: Sequence[str]) -> np.ndarray:
    known = pairs.assign(one=1.0, flops=-pairs["flops"])
    return known[[TERMS[term] for term in terms]].to_numpy(dtype=float)


def predict_seconds(pairs: pd.DataFrame, coefficients: pd.Series) -> pd.Series:
    """Return the predicted seconds of each step."""
    return pd.Series(_design_matrix(pairs, FULL) @ coefficients[list(FULL)], pairs.index)


def left_out_errors(pairs: pd.DataFrame, terms: Sequence[str], relative: bool = True) -> pd.Series:
    """Predict each architecture from a fit to all others; return the relative errors."""
    fits = {name: fit_cost(pairs.drop(name), terms, relative) for name in pairs.index.unique()}
    errors = [
        predict_seconds(pairs.loc[[name]], found) / pairs.loc[[name], "seconds"] - 1
        for name, found in fits.items()
    ]
    return pd.concat(errors)


def explained_share(pairs: pd.DataFrame, terms: Sequence[str]) -> float:
    """Return R squared of a fit by absolute least squares."""
    seconds = pairs["seconds"]
    errors = seconds - predict_seconds(pairs, fit_cost(pairs, terms, relative=False))
    return float(1 - (errors**2).sum() / ((seconds - seconds.mean()) ** 2).sum())


def fitted_bandwidth(pairs: pd.DataFrame, coefficients: pd.Series) -> float:
    """Return the bytes per second at which a rank sends its gradients in the fitted time."""
    gradient = coefficients["gradient"]
    return float(pairs["sent"].median() / gradient) if gradient else float("inf")


def arithmetic_rate(coefficients: pd.Series, share: float) -> float:
    """Return one device's FLOP per second, given a rank's share of the arithmetic's time.

    It is infinite if the fit shows no saved arithmetic.
    """
    saved, factor = coefficients["saved"], coefficients["factor"]
    return float((factor - share) / saved) if saved and factor > share else float("inf")


def largest_share(pairs: pd.DataFrame, coefficients: pd.Series) -> float:
    """Return the largest share for which no step is shorter than its arithmetic."""
    slowest = (pairs["flops"] / pairs["normal_seconds"]).max()
    return float(coefficients["factor"] - coefficients["saved"] * slowest)


def step_parts(pairs: pd.DataFrame, coefficients: pd.Series, share: float) -> pd.DataFrame:
    """Split each step into the parts of the model.

    Returns
    -------
    pandas.DataFrame
        By architecture, in seconds: ``rest`` and ``arithmetic``, the parts of one device's step;
        and on several ranks ``ranks' rest``, ``ranks' arithmetic`` and ``transfer``, which includes
        the constant.
    """
    arithmetic = pairs["flops"] / arithmetic_rate(coefficients, share)
    arithmetic = arithmetic.clip(upper=pairs["normal_seconds"])
    rest = pairs["normal_seconds"] - arithmetic
    return pd.DataFrame(
        {
            "rest": rest,
            "arithmetic": arithmetic,
            "ranks' rest": coefficients["factor"] * rest,
            "ranks' arithmetic": share * arithmetic,
            "transfer": coefficients["gradient"] * pairs["parameters"] + coefficients["constant"],
        }
    )


def break_even_batch(
    pairs: pd.DataFrame, coefficients: pd.Series, share: float, sending: float | None = None
) -> pd.Series:
    """Return the batch size from which several ranks are faster than one device.

    It assumes that arithmetic grows with the batch, and that the rest and the gradients do not.

    Parameters
    ----------
    pairs
        From `fit_groups`.
    coefficients
        From `fit_cost`.
    share
        A rank's share of the arithmetic's time, below 1.
    sending
        Bytes per second between the ranks, in one direction; by default the fitted bandwidth.

    Returns
    -------
    pandas.Series
        Images per step, over all ranks, by architecture; infinite if nothing is gained.
    """
    known = step_parts(pairs, coefficients, share)
    transfer = known["transfer"]
    if sending is not None:
        transfer = pairs["sent"] * pairs["parameters"] / sending + coefficients["constant"]
    added = (known["ranks' rest"] - known["rest"] + transfer).clip(lower=0)
    return added / ((1 - share) * known["arithmetic"] / pairs["images"])
