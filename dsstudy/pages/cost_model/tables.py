"""The tables of the page on the cost model."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.cost_model.model import (
    FORMS,
    FULL,
    LINE,
    RATIO,
    SHARE,
    SHARED_ARITHMETIC,
    TERMS,
    break_even_batch,
    explained_share,
    fit_cost,
    fit_groups,
    fitted_bandwidth,
    left_out_errors,
)
from dsstudy.analysis.cost_model.pairs import SETTING, pairs_of_setting
from dsstudy.pages.cost_model.data import (
    Studies,
    bandwidths,
    convolutional,
    study_fits,
)
from dsstudy.pages.cost_model.text import batch_text, mean_error, worst_text
from dsstudy.paper import printed
from dsstudy.report.origin import marked_title, origin_facts
from dsstudy.report.table_style import named_rows, note_below, style_table
from dsstudy.report.wording import percent_text
from dsstudy.spec.engines import DEEPSPEED, one_of


def origins_table(folders: Sequence[Path]) -> Styler | None:
    """Show where the times of each study come from."""
    facts = {marked_title(folder): origin_facts(folder) for folder in folders}
    if not facts:
        return None
    texts = pd.DataFrame(facts).loc[["engines", "image size", "times", "profiles", "versions"]]
    return style_table(texts, "Where our times come from.", "origins", wrap="7em")


def networks_table(pairs: pd.DataFrame) -> Styler:
    """Show the size of each network, and what a step took in the paper."""
    some = pairs_of_setting(pairs)
    columns = {
        "million parameters": (some["parameters"] / 1e6, ".2f"),
        "MB of gradients": (some["sent"] * some["parameters"] / 1e6, ".1f"),
        "GFLOP per image": (some["flops"] / some["images"] / 1e9, ".3f"),
        "normal (ms)": (1e3 * some["normal_seconds"], ".1f"),
        "DeepSpeed (ms)": (1e3 * some["seconds"], ".1f"),
        "TFLOP/s": (some["flops"] / some["normal_seconds"] / 1e12, ".2f"),
    }
    steps = printed.STEPS_PER_EPOCH
    texts = {name: numbers.map(f"{{:{d}}}".format) for name, (numbers, d) in columns.items()}
    caption = (
        "Counted on the networks: parameters; the gradients that a rank sends in half precision; "
        "the arithmetic of a training step per image. Then the seconds of the paper's Table 2 "
        f"({SETTING}) as milliseconds per step (an epoch has {steps:,} steps), and arithmetic "
        "divided by normal time."
    )
    named = named_rows(pd.DataFrame(texts))
    return style_table(named, caption, "networks", align="right", wrap="4em")


def line_table(pairs: pd.DataFrame) -> Styler:
    """Show how well a line through the convolutional networks fits and predicts."""
    rows = {}
    for _, setting, some in fit_groups(convolutional(pairs)):
        found = fit_cost(some, LINE, relative=False)
        rows[setting] = {
            "R²": f"{explained_share(some, LINE):.3f}",
            **_coefficients(some, found, ("factor", "gradient", "constant")),
            "left out: the line": _mean_text(left_out_errors(some, LINE, relative=False)),
            "left out: a factor": _mean_text(left_out_errors(some, RATIO, relative=False)),
        }
    caption = (
        "DeepSpeed's seconds as a linear function of normal seconds and parameters, by plain least "
        "squares over the six convolutional networks. The last two columns are the mean absolute "
        "error of each network predicted from the other five: by such a line, and by one factor."
    )
    return style_table(pd.DataFrame(rows).T, caption, "line", align="right", wrap="5em")


def _coefficients(some: pd.DataFrame, found: pd.Series, terms: Sequence[str]) -> dict[str, str]:
    """Write coefficients in readable units."""
    texts = {
        "factor": ("times normal", f"{found['factor']:.2f}"),
        "saved": ("saved (ms per GFLOP)", f"{1e12 * found['saved']:.2f}"),
        "gradient": ("bandwidth (GB/s)", f"{fitted_bandwidth(some, found) / 1e9:.3g}"),
        "constant": ("constant (ms per step)", f"{1e3 * found['constant']:.1f}"),
    }
    return dict(texts[term] for term in terms)


def network_errors_table(pairs: pd.DataFrame) -> Styler:
    """Show each network's error when it is predicted from the others, by form."""
    columns = {}
    for name, terms in FORMS.items():
        errors = left_out_errors(pairs_of_setting(pairs), terms)
        columns[name] = {printed.NAMES[a]: percent_text(error, "+") for a, error in errors.items()}
        for _, setting, some in fit_groups(pairs):
            columns[name][f"mean, {setting}"] = _mean_text(left_out_errors(some, terms))
    caption = (
        f"Each network's seconds with DeepSpeed ({SETTING}) predicted from the other six: "
        "predicted minus printed, in percent of printed. Then the mean absolute error by setting."
    )
    return style_table(pd.DataFrame(columns), caption, "errors", align="right")


def study_errors_table(found: Studies) -> Styler | None:
    """Show how far each form misses networks left out of a fit to our records."""
    rows = {
        fit: {name: _error_cell(left_out_errors(some, terms)) for name, terms in FORMS.items()}
        for fit, some in study_fits(found)
    }
    caption = (
        "The four forms on our records: the mean absolute error of networks, each predicted from "
        "the others of its study, engine and setting; below it the worst error."
    )
    return _by_fit(rows, caption, "study_errors")


def coefficients_table(found: Studies) -> Styler | None:
    """Show the four coefficients, fitted to our records."""
    rows = {
        fit: {
            "networks": str(some.index.nunique()),
            "steps": str(len(some)),
            **_coefficients(some, fit_cost(some, FULL), list(TERMS)),
        }
        for fit, some in study_fits(found)
    }
    return _by_fit(rows, "All four terms, fitted to all networks and batch sizes.", "coefficients")


def _by_fit(rows: dict[tuple[str, str], dict[str, str]], caption: str, name: str) -> Styler | None:
    if not rows:
        return None
    texts = pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows))
    return style_table(texts, caption, name, align="right")


def _error_cell(errors: pd.Series) -> str:
    return _mean_text(errors) + note_below(worst_text([errors]).replace(" ", "<br>", 1))


def _mean_text(errors: pd.Series) -> str:
    return percent_text(mean_error(errors))


def break_even_table(pairs: pd.DataFrame) -> Styler:
    """Show the batch size from which two GPUs pay, at three bandwidths."""
    some = pairs_of_setting(pairs)
    found = fit_cost(some, SHARED_ARITHMETIC)
    fits = [fit_cost(some.drop(name), SHARED_ARITHMETIC) for name in some.index]
    shares = (0, SHARE, 1 / printed.PROCESSES[DEEPSPEED])
    others = pd.DataFrame([break_even_batch(some, fit, one) for fit in fits for one in shares])
    batches = {
        f"{name}, {speed / 1e9:.3g} GB/s": break_even_batch(some, found, SHARE, speed)
        for name, speed in bandwidths(some, found).items()
    }
    texts = pd.DataFrame(batches).map(batch_text)
    texts.insert(1, "range", others.min().map(batch_text) + " to " + others.max().map(batch_text))
    caption = (
        "Images per step, over both GPUs, from which DeepSpeed's two take less time than one "
        f"({SETTING}). Range: the first column if each network in turn is left out of the fit, and "
        f"{one_of(f'{share:.2g}' for share in shares)} of the arithmetic's time is left."
    )
    return style_table(named_rows(texts), caption, "break_even", align="right")
