"""A law in the paper's Table 2: what one optimizer takes longer than another grows with tensors.

An optimizer that updates a network tensor by tensor starts some operations on the GPU for each,
however small it is; one that updates a flat buffer starts them once. So the difference of two
optimizers' times tells how each was implemented, not what it computes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from dsstudy.paper import printed
from dsstudy.spec.engines import DEEPSPEED, NORMAL
from dsstudy.spec.model_counts import model_counts
from dsstudy.spec.trial import Trial

SLOWER = {DEEPSPEED: ("SGD", "Adam+S"), NORMAL: ("Adam+S", "SGD+S")}
"""By engine, the setting that takes longer in Table 2, and the one that it is compared with."""

FORMS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "tensors": lambda gaps: gaps["tensors"],
    "factor": lambda gaps: gaps["base"],
}
"""The models of a gap that are compared: each is one coefficient times this."""


def optimizer_gaps(engine: str, settings: Sequence[str] | None = None) -> pd.DataFrame:
    """Return how much longer a step takes with one optimizer than with another, as printed.

    Parameters
    ----------
    engine
        One of the paper's two.
    settings
        The slower and the other setting; by default those of `SLOWER`.

    Returns
    -------
    pandas.DataFrame
        By architecture: ``seconds`` and ``base``, of a step in the two settings; ``gap``, their
        difference in seconds; ``tensors`` of the network.
    """
    slower, base = settings or SLOWER[engine]
    times = (
        printed.printed_by_cell("seconds_per_epoch").unstack("setting") / printed.STEPS_PER_EPOCH
    )
    own = times.xs(engine, level="engine")
    sizes = [(name, Trial(model=name).image_size) for name in own.index]
    return pd.DataFrame(
        {
            "seconds": own[slower],
            "base": own[base],
            "gap": own[slower] - own[base],
            "tensors": [model_counts()[size].tensors for size in sizes],
        }
    )


def fit_gaps(gaps: pd.DataFrame, form: str = "tensors") -> float:
    """Return the coefficient of a form by least squares: seconds a tensor for ``tensors``."""
    size = FORMS[form](gaps)
    return float((size * gaps["gap"]).sum() / (size**2).sum())


def left_out_gap_errors(gaps: pd.DataFrame) -> pd.DataFrame:
    """Predict each network's seconds from the fit to the others.

    Returns
    -------
    pandas.DataFrame
        By architecture, for each of `FORMS` and for ``nothing`` (the other setting's time as it
        is): predicted / printed - 1.
    """
    predicted = {
        form: [fit_gaps(gaps.drop(name), form) * size(gaps)[name] for name in gaps.index]
        for form, size in FORMS.items()
    }
    frame = pd.DataFrame(predicted, gaps.index).assign(nothing=0.0)
    return frame.add(gaps["base"], axis=0).div(gaps["seconds"], axis=0) - 1


def gap_correlation(gaps: pd.DataFrame) -> float:
    """Return Pearson's correlation of the gaps and the tensors."""
    return float(np.corrcoef(gaps["tensors"], gaps["gap"])[0, 1])
