"""The sentences of the page on the cost model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dsstudy.analysis.cost_model.model import (
    FORMS,
    FULL,
    LINE,
    LINKS,
    RATIO,
    SHARE,
    SHARED_ARITHMETIC,
    arithmetic_rate,
    break_even_batch,
    explained_share,
    fit_cost,
    fit_groups,
    fitted_bandwidth,
    largest_share,
    left_out_errors,
    step_parts,
)
from dsstudy.analysis.cost_model.pairs import SETTING, pairs_of_setting
from dsstudy.pages.cost_model.data import (
    Studies,
    convolutional,
    study_fits,
)
from dsstudy.paper import printed
from dsstudy.report.wording import bullets_text, percent_text, span
from dsstudy.spec.engines import DEEPSPEED, ENGINES


def line_text(pairs: pd.DataFrame) -> str:
    """Say how well the line through the convolutional networks fits and predicts."""
    known = [some for _, _, some in fit_groups(convolutional(pairs))]
    errors = [
        [left_out_errors(some, terms, relative=False) for some in known] for terms in (LINE, RATIO)
    ]
    line, factor = (
        f"{span((100 * mean_error(one) for one in some), '.0f')} % (the worst: {worst_text(some)})"
        for some in errors
    )
    slopes = [fit_cost(some, LINE, relative=False)["factor"] for some in known]
    return (
        f"The line explains {span((100 * explained_share(some, LINE) for some in known), '.1f')} % "
        "of the variance, but it predicts badly: its mean error for a network left out of the fit "
        f"is {line}. A single factor has a mean error of {factor}. Six points are too few for "
        "three coefficients. Their values are not plausible either: two GPUs in half precision "
        f"would need about {SHARE:.2f} of the time, but the factor is {span(slopes, '.2f')}."
    )


def outlier_text(pairs: pd.DataFrame) -> str:
    """Say how far off each form predicts the ViT, and how exact the paper's seconds are."""
    far = {
        name: span(
            (100 * left_out_errors(some, terms)["vit"] for _, _, some in fit_groups(pairs)), ".0f"
        )
        for name, terms in FORMS.items()
    }
    listed = "; ".join(f"{span} % with “{name}”" for name, span in far.items())
    plain, scheduled = (
        some.set_index("architecture")[["normal_seconds", "seconds"]].stack()
        for some in (pairs[pairs["setting"] == setting] for setting in ("SGD", "SGD+S"))
    )
    apart = (scheduled / plain - 1).abs().sort_values()
    return (
        "Predicted from the six convolutional networks, the ViT's seconds with DeepSpeed are too "
        f"long by {listed} (over the settings). SGD and SGD+S show how exact the printed seconds "
        "are, because they differ only in the learning rate: their seconds differ by "
        f"{percent_text(apart.median(), '.1')} (median), and by {percent_text(apart.iloc[-1])} for "
        f"the {printed.NAMES[apart.index[-1][0]]}."  # type: ignore[index]
    )


def step_parts_text(pairs: pd.DataFrame) -> str:
    """Say how the fit divides the steps, and what Table 2 cannot show."""
    some = pairs_of_setting(pairs)
    found = fit_cost(some, SHARED_ARITHMETIC)
    known = step_parts(some, found, SHARE)
    order = (known["arithmetic"] / some["normal_seconds"]).sort_values()
    least, most = (
        f"{printed.NAMES[order.index[n]]} ({percent_text(order.iloc[n])})" for n in (0, -1)
    )
    limits = {
        setting: largest_share(one, fit_cost(one, SHARED_ARITHMETIC))
        for _, setting, one in fit_groups(pairs)
    }
    reach = ", ".join(f"{limit:.2f} ({setting})" for setting, limit in limits.items())
    return (
        f"In the fit ({SETTING}), the rest of a step takes {found['factor']:.2f} times as long, "
        f"one GPU does {arithmetic_rate(found, SHARE) / 1e12:.0f} TFLOP/s of arithmetic, and "
        f"gradients are sent at {fitted_bandwidth(some, found) / 1e9:.1f} GB/s. Arithmetic "
        f"takes the smallest share of normal training's step for {least}, the largest for {most}. "
        "Table 2 cannot separate what half precision saves of it from what the second GPU saves, "
        "because both changed together: the fit is the same if any share of its time from 0 to "
        f"{reach} is left, and the second GPU alone would leave "
        f"{1 / printed.PROCESSES[DEEPSPEED]:.2f}."
    )


def studies_text(found: Studies) -> str:
    """Say what each study's records show, or why they show nothing."""
    if not found:
        return "This book has no study yet, so the model is not fitted to our records."
    return bullets_text(
        f"**{name}**: {pairs if isinstance(pairs, str) else _study_text(pairs)}"
        for name, pairs in found.items()
    )


def _study_text(pairs: pd.DataFrame) -> str:
    known = [some for _, _, some in fit_groups(pairs)]
    left_out = {
        name: [left_out_errors(some, terms) for some in known] for name, terms in FORMS.items()
    }
    errors = ", ".join(
        f"{percent_text(float(np.mean([mean_error(some) for some in found])))} with “{name}”"
        for name, found in left_out.items()
    )
    saved = sum(fit_cost(some, FULL)["saved"] > 0 for some in known)
    negative = "".join(
        f"With “{name}” {count} of {sum(map(len, known))} predicted times are negative, which is "
        "impossible. "
        for name, found in left_out.items()
        if (count := sum((some <= -1).sum() for some in found))
    )
    return (
        f"for a network left out, the mean error over {len(known)} fits is {errors}. {negative}"
        f"{saved} of {len(known)} fits show arithmetic saved by further ranks. Several ranks were "
        f"faster than one process {_faster_text(known)}."
    )


def _faster_text(fits: Sequence[pd.DataFrame]) -> str:
    """Count, by engine, the pairs in which several ranks took less time than one."""
    pairs = pd.concat(list(fits))
    faster = (pairs["seconds"] < pairs["normal_seconds"]).groupby(pairs["engine"])
    return ", ".join(
        f"in {some.sum()} of {len(some)} pairs with {ENGINES[str(engine)].title}"
        for engine, some in faster
    )


def answer_text(pairs: pd.DataFrame, found: Studies) -> str:
    """Say where a second device begins to pay, as far as Table 2 and our records show."""
    some = pairs_of_setting(pairs)
    known = fit_cost(some, SHARED_ARITHMETIC)
    slow = break_even_batch(some, known, SHARE).sort_values()
    fast = break_even_batch(some, known, SHARE, LINKS["NVLink"])[slow.index]
    right = (
        (slow <= printed.BATCH_SIZE) == (some["seconds"] < some["normal_seconds"])[slow.index]
    ).sum()
    listed = ", ".join(f"{printed.NAMES[name]} {batch_text(batch)}" for name, batch in slow.items())
    gains = (slow / fast).sort_values()
    most, least = (
        f"{printed.NAMES[name]} (from {batch_text(slow[name])} to {batch_text(fast[name])})"
        for name in (gains.index[-1], gains.index[0])
    )
    sentence = (
        f"By the fit to Table 2 ({SETTING}), at {fitted_bandwidth(some, known) / 1e9:.1f} GB/s "
        f"DeepSpeed's two GPUs pay from this many images per step on: {listed}. For the paper's "
        f"{printed.BATCH_SIZE}, the map names the faster side for {right} of the {len(some)} "
        f"networks that it was fitted to. At {LINKS['NVLink'] / 1e9:.0f} GB/s fewer images would "
        f"be enough; this changes most for {most}, least for {least}."
    )
    measured = [some for _, some in study_fits(found)]
    if not measured:
        return f"{sentence} No study here can test this yet."
    return (
        f"{sentence} In our studies with enough data for a fit, several ranks were faster "
        f"than one process {_faster_text(measured)}."
    )


def mean_error(errors: pd.Series) -> float:
    """Return the mean absolute error."""
    return float(errors.abs().mean())


def worst_text(errors: Sequence[pd.Series]) -> str:
    """Name the largest error in several sets."""
    every = pd.concat(list(errors))
    place = int(np.argmax(every.abs()))
    return f"{printed.NAMES[every.index[place]]} {percent_text(every.iloc[place], '+')}"


def batch_text(batch: float) -> str:
    """Write a batch size to two figures; a fit to seven points gives no more."""
    return "never" if np.isinf(batch) else f"{max(1.0, float(f'{batch:.2g}')):,.0f}"
