"""The paper's times and the number of tensors: a figure, a table, sentences."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.tensor_law import (
    SLOWER,
    fit_gaps,
    gap_correlation,
    left_out_gap_errors,
    optimizer_gaps,
)
from dsstudy.paper import printed
from dsstudy.report.figure_style import ENGINE_COLORS, SETTING_MARKERS, set_log_ticks
from dsstudy.report.table_style import style_table
from dsstudy.report.wording import signed
from dsstudy.spec.engines import DEEPSPEED, NORMAL

EXCEPTION = "densenet121"
"""The only CNN that was faster with DeepSpeed, in one of three settings."""

COLUMNS = {"tensors": "by tensors", "factor": "by a factor", "nothing": "unchanged"}
"""The columns of errors in the table, by the form that is tried."""

LABEL_PLACES = {"resnet18": (8, -8), "squeezenet1_0": (-6, -16)}
"""Where a network's name stands beside its point in the figure, in points; others above it."""


def answer_text() -> str:
    """Say how much time a tensor takes with DeepSpeed's SGD, and how well that predicts."""
    gaps = optimizer_gaps(DEEPSPEED)
    errors = left_out_gap_errors(gaps).abs().mean()
    return (
        f"Yes. With DeepSpeed, SGD takes longer than Adam in each of the {len(gaps)} networks, by "
        f"{1e6 * fit_gaps(gaps):.0f} µs for each parameter tensor in each step (correlation "
        f"{gap_correlation(gaps):.3f}). This predicts a network that was left out of the fit with "
        f"an error of {100 * errors['tensors']:.1f} % on average; the same factor for all "
        f"networks, with {100 * errors['factor']:.1f} %; no difference, with "
        f"{100 * errors['nothing']:.1f} %."
    )


def exception_text() -> str:
    """Say what the law means for the one CNN that DeepSpeed made faster."""
    times = printed.printed_by_cell("seconds_per_epoch")[EXCEPTION]
    ratio = {each: times[DEEPSPEED, each] / times[NORMAL, each] for each in printed.SETTINGS}
    tensors = optimizer_gaps(DEEPSPEED)["tensors"][EXCEPTION]
    added = {
        engine: f"{times[engine, slower] - times[engine, base]:.0f} s an epoch longer"
        for engine, (slower, base) in SLOWER.items()
    }
    return (
        f"{printed.NAMES[EXCEPTION]} has {tensors} tensors, more than any other network here. With "
        f"DeepSpeed it takes {ratio['SGD']:.2f} times as long as without it in the setting SGD, "
        f"{ratio['SGD+S']:.2f} times in SGD+S, and {ratio['Adam+S']:.2f} times in Adam+S. What "
        f"changes is the optimizer: with DeepSpeed, SGD takes {added[DEEPSPEED]} than Adam; "
        f"without it, Adam takes {added[NORMAL]} than SGD. So that one CNN was faster with "
        "DeepSpeed shows how two optimizers were implemented, not a gain that grows with the size "
        "of a network. (Normal training follows no such law: with its ViT, Adam is the quicker.)"
    )


def gaps_figure() -> Figure:
    """Draw how much longer DeepSpeed's step takes with SGD, over the number of tensors."""
    figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
    for setting in ("SGD", "SGD+S"):
        gaps = optimizer_gaps(DEEPSPEED, (setting, "Adam+S"))
        look = {"color": ENGINE_COLORS[DEEPSPEED], "marker": SETTING_MARKERS[setting]}
        axes.scatter(gaps["tensors"], 1e3 * gaps["gap"], label=f"{setting} minus Adam+S", **look)
    fitted = optimizer_gaps(DEEPSPEED)
    slope, ends = fit_gaps(fitted), np.array([8, 450])
    label = f"{1e6 * slope:.0f} µs for each tensor (fit to SGD)"
    axes.plot(ends, 1e3 * slope * ends, color="0.3", linewidth=1, label=label)
    for name, row in fitted.iterrows():
        place, at = LABEL_PLACES.get(name, (-6, 8)), (row["tensors"], 1e3 * row["gap"])
        look = {
            "textcoords": "offset points",
            "fontsize": 9,
            "ha": "right" if place[0] < 0 else "left",
        }
        axes.annotate(printed.NAMES[name], at, place, **look)
    axes.set(xscale="log", yscale="log", xlim=ends)
    axes.set(xlabel="parameter tensors of the network (logarithmic)")
    axes.set(ylabel="milliseconds of a step (logarithmic)")
    ticks = [10, 20, 50, 100, 200, 400]
    axes.set_xticks(ticks, map(str, ticks), minor=False)
    axes.set_xticks([], minor=True)
    set_log_ticks(axes, 1e3 * fitted["gap"].to_numpy())
    axes.legend(loc="lower right")
    return figure


def errors_table() -> Styler:
    """Show each network's printed times, and the errors of the forms that left it out."""
    gaps = optimizer_gaps(DEEPSPEED)
    errors = left_out_gap_errors(gaps)
    texts = pd.DataFrame(
        {
            "tensors": gaps["tensors"].astype(str),
            "Adam+S (s)": (printed.STEPS_PER_EPOCH * gaps["base"]).map("{:.2f}".format),
            "SGD (s)": (printed.STEPS_PER_EPOCH * gaps["seconds"]).map("{:.2f}".format),
            **{title: errors[form].map(_error_cell) for form, title in COLUMNS.items()},
        }
    )
    texts.index = pd.Index([printed.NAMES[name] for name in texts.index])
    caption = (
        "DeepSpeed's seconds per epoch as printed. Then the error of the seconds with SGD as "
        "predicted from those with Adam, by what the other six networks say of a tensor, by the "
        "factor that fits them best, and without any change."
    )
    return style_table(texts, caption, "tensors", align="right")


def _error_cell(error: float) -> str:
    return f"{signed(100 * error)} %"
