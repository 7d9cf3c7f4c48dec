"""The cost model: what a training step takes on several ranks, from what it takes on one.

On one device a step takes ``normal`` seconds: its arithmetic, ``flops / rate``, and the rest
(starting kernels, making batches, normalising, updating). On n ranks it takes ::

    seconds = factor * rest + share * flops / rate + sent bytes / bandwidth + constant

Each rank starts as many kernels as one device would, so the rest is not shared out, and ``factor``
says how many times as long it takes; ``share`` of the arithmetic's time is left to a rank (1/n in
the same precision); every rank sends its gradients, and nothing overlaps. The rest cannot be seen
alone, but it is ``normal - flops / rate``, so the seconds are linear in what is known ::

    seconds = factor * normal - saved * flops + gradient * parameters + constant

with ``saved = (factor - share) / rate``, and no coefficient below zero.

References
----------
A ring all-reduce sends 2 (n - 1) / n of the data from each rank: Patarasuk and Yuan, Bandwidth
Optimal All-Reduce Algorithms for Clusters of Workstations (2009). Least squares without negative
coefficients: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from dsstudy.paper import printed

TERMS = {"factor": "normal_seconds", "saved": "flops", "gradient": "parameters", "constant": "one"}
"""The coefficients, and the column that each goes with; what is saved is taken off."""

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
"""The models that are compared, by what they are made of."""

FEWEST = len(TERMS) + 1
"""So many steps a fit needs when any one architecture is left out: more than there are terms."""

SHARE = 1 / 4
"""What is left of the arithmetic's time to each of the paper's two ranks: half of the images, at
twice the speed. Source: peak rates of an RTX 3090, 35.6 TFLOP/s in fp32, 71 in fp16 with fp32 sums
(NVIDIA Ampere GA102 GPU Architecture, 2020)."""

LINKS = {"PCIe 4.0 x16": 32e9, "NVLink": 56.25e9}
"""Peak bytes a second between two RTX 3090, in one direction. Source: the same."""

GRADIENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""What a rank sends for each parameter, in the precision of its training."""


def fit_groups(pairs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield engine, setting and their pairs, by architecture, where these suffice for a fit.

    `dsstudy.analysis.cost_model.pairs` says what a pair is.
    """
    for engine in pairs["engine"].unique():
        for setting in printed.SETTINGS:
            some = pairs[(pairs["engine"] == engine) & (pairs["setting"] == setting)]
            if fewest_left(some) >= FEWEST:
                yield engine, setting, some.set_index("architecture")


def fewest_left(pairs: pd.DataFrame) -> int:
    """Return how many pairs there are at least, whichever architecture is left out."""
    return int(len(pairs) - pairs["architecture"].value_counts().max()) if len(pairs) else 0


def fit_cost(pairs: pd.DataFrame, terms: Sequence[str], relative: bool = True) -> pd.Series:
    """Fit the cost model's coefficients to one engine's steps in one setting.

    Parameters
    ----------
    pairs
        As `fit_groups` yields them.
    terms
        Those of `TERMS` to fit; the others are zero.
    relative
        Whether to make relative errors least (of seconds that span a factor of twenty, the
        smallest would not count otherwise), or the seconds' own.

    Returns
    -------
    pandas.Series
        Each of `TERMS`, none negative: ``factor``; ``saved``, seconds a floating-point operation;
        ``gradient``, seconds a parameter; ``constant``, seconds.
    """
    target = pairs["seconds"].to_numpy()
    weights = 1 / target if relative else np.ones(len(target))
    columns = _design_matrix(pairs, terms) * weights[:, None]
    scale = abs(columns).max(axis=0)  # they differ by some twelve orders of magnitude
    found = pd.Series(nnls(columns / scale, target * weights)[0] / scale, list(terms))
    return found.reindex(list(TERMS), fill_value=0.0)


def _design_matrix(pairs: pd.DataFrame, terms: Sequence[str]) -> np.ndarray:
    known = pairs.assign(one=1.0, flops=-pairs["flops"])
    return known[[TERMS[term] for term in terms]].to_numpy(dtype=float)


def predict_seconds(pairs: pd.DataFrame, coefficients: pd.Series) -> pd.Series:
    """Return what the model takes each step to last, in seconds."""
    return pd.Series(_design_matrix(pairs, FULL) @ coefficients[list(FULL)], pairs.index)


def left_out_errors(pairs: pd.DataFrame, terms: Sequence[str], relative: bool = True) -> pd.Series:
    """Predict each architecture from a fit to all others: the relative error, 0 for none."""
    fits = {name: fit_cost(pairs.drop(name), terms, relative) for name in pairs.index.unique()}
    errors = [
        predict_seconds(pairs.loc[[name]], found) / pairs.loc[[name], "seconds"] - 1
        for name, found in fits.items()
    ]
    return pd.concat(errors)


def explained_share(pairs: pd.DataFrame, terms: Sequence[str]) -> float:
    """Return R squared, the explained share of the seconds' variance, of plain least squares."""
    predicted = predict_seconds(pairs, fit_cost(pairs, terms, relative=False))
    return float(1 - ((pairs["seconds"] - predicted) ** 2).sum() / _squares(pairs["seconds"]))


def _squares(values: pd.Series) -> float:
    return float(((values - values.mean()) ** 2).sum())


def fitted_bandwidth(pairs: pd.DataFrame, coefficients: pd.Series) -> float:
    """Return the bytes a second at which a rank would send its gradients in the fitted time."""
    gradient = coefficients["gradient"]
    return float(pairs["sent"].median() / gradient) if gradient else float("inf")


def arithmetic_rate(coefficients: pd.Series, share: float) -> float:
    """Return one device's arithmetic in FLOP a second, if a rank is left a share of its time.

    It is infinite where the fit sees no arithmetic saved.
    """
    saved, factor = coefficients["saved"], coefficients["factor"]
    return float((factor - share) / saved) if saved and factor > share else float("inf")


def largest_share(pairs: pd.DataFrame, coefficients: pd.Series) -> float:
    """Return the largest share for which no step is shorter than its arithmetic."""
    slowest = (pairs["flops"] / pairs["normal_seconds"]).max()
    return float(coefficients["factor"] - coefficients["saved"] * slowest)


def step_parts(pairs: pd.DataFrame, coefficients: pd.Series, share: float) -> pd.DataFrame:
    """Split each step into what the model takes it to be made of.

    Returns
    -------
    pandas.DataFrame
        By architecture, in seconds: of one device ``rest`` and ``arithmetic``, which make up its
        step; and what these come to on several ranks, ``ranks' rest`` and ``ranks' arithmetic``,
        beside ``transfer``, which holds the constant too.
    """
    arithmetic = (pairs["flops"] / arithmetic_rate(coefficients, share)).clip(
        upper=pairs["normal_seconds"]
    )
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
    """Return from which batch size on several ranks take less time than one device.

    Arithmetic grows with the batch; the rest and the gradients are taken to stay as they are.

    Parameters
    ----------
    pairs
        As `fit_groups` yields them.
    coefficients
        As `fit_cost` returns them.
    share
        What a rank is left of the arithmetic's time, below 1.
    sending
        Bytes a second between the ranks, in one direction; by default, as fitted.

    Returns
    -------
    pandas.Series
        Images a step, over all ranks, by architecture; infinite where nothing is gained.
    """
    known = step_parts(pairs, coefficients, share)
    transfer = known["transfer"]
    if sending is not None:
        transfer = pairs["sent"] * pairs["parameters"] / sending + coefficients["constant"]
    added = (known["ranks' rest"] - known["rest"] + transfer).clip(lower=0)
    return added / ((1 - share) * known["arithmetic"] / pairs["images"])
