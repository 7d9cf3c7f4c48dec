"""The page on the cost model: the studies that it reads, and its tables."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.claims.evidence import CannotTellError
from dsstudy.analysis.cost_model import model, pairs
from dsstudy.pages.cost_model.text import (
    SETTING,
    Studies,
    convolutional,
    fits,
    missed,
    percent,
    rounded,
    shown,
    worst,
)
from dsstudy.paper import printed
from dsstudy.report import origin
from dsstudy.report.table_style import small, style


def studies(folders: Sequence[Path]) -> Studies:
    """Return the steps of each study, or the reason why they do not suffice."""
    return {origin.study_title(folder): _pairs_or_reason(folder) for folder in folders}


def _pairs_or_reason(folder: Path) -> pd.DataFrame | str:
    try:
        return pairs.study_pairs(folder)
    except CannotTellError as reason:
        return str(reason)


def origins(folders: Sequence[Path]) -> Styler | None:
    """Show where the times of each study come from."""
    facts = {origin.study_title(folder): origin.facts(folder) for folder in folders}
    if not facts:
        return None
    texts = pd.DataFrame(facts).loc[["engines", "image size", "times", "profiles", "versions"]]
    return style(texts, "Where our times come from.", "origins", wrap="7em")


def networks(pairs: pd.DataFrame) -> Styler:
    """Show what each network asks for, and what a step took in the paper."""
    some = shown(pairs)
    columns = {
        "million parameters": (some["parameters"] / 1e6, ".2f"),
        "MB of gradients": (some["sent"] * some["parameters"] / 1e6, ".1f"),
        "GFLOP an image": (some["flops"] / some["images"] / 1e9, ".3f"),
        "normal (ms)": (1e3 * some["normal"], ".1f"),
        "DeepSpeed (ms)": (1e3 * some["seconds"], ".1f"),
        "TFLOP/s": (some["flops"] / some["normal"] / 1e12, ".2f"),
    }
    steps = printed.TRAIN_IMAGES // printed.BATCH_SIZE
    texts = {name: numbers.map(f"{{:{d}}}".format) for name, (numbers, d) in columns.items()}
    caption = (
        "What the networks ask for, counted: parameters; the gradients that a rank sends in half "
        "precision; the arithmetic of a training step for each image. Then the seconds of the "
        f"paper's Table 2 ({SETTING}) as milliseconds a step (an epoch has {steps:,}), and "
        "arithmetic over normal time."
    )
    return style(_named(pd.DataFrame(texts)), caption, "networks", align="right", wrap="4em")


def line(pairs: pd.DataFrame) -> Styler:
    """Show the line through the convolutional networks: how well it fits, how well it predicts."""
    rows = {}
    for _, setting, some in model.groups(convolutional(pairs)):
        found = model.fit(some, model.LINE, relative=False)
        rows[setting] = {
            "R²": f"{model.explained(some, model.LINE):.3f}",
            **_coefficients(some, found, ("factor", "gradient", "constant")),
            "left out: the line": percent(missed(model.held_out(some, model.LINE, relative=False))),
            "left out: a factor": percent(
                missed(model.held_out(some, model.RATIO, relative=False))
            ),
        }
    caption = (
        "DeepSpeed's seconds as a line in normal seconds and parameters, by plain least squares "
        "over the six convolutional networks. The last two columns are the mean error, without "
        "sign, of each network predicted from the other five: by such a line, and by one factor."
    )
    return style(pd.DataFrame(rows).T, caption, "line", align="right", wrap="5em")


def _coefficients(some: pd.DataFrame, found: pd.Series, terms: Sequence[str]) -> dict[str, str]:
    """Write coefficients in units that say something."""
    texts = {
        "factor": ("times normal", f"{found['factor']:.2f}"),
        "saved": ("saved (ms a GFLOP)", f"{1e12 * found['saved']:.2f}"),
        "gradient": ("bandwidth (GB/s)", f"{model.bandwidth(some, found) / 1e9:.3g}"),
        "constant": ("constant (ms a step)", f"{1e3 * found['constant']:.1f}"),
    }
    return dict(texts[term] for term in terms)


def errors_by_network(pairs: pd.DataFrame) -> Styler:
    """Show each network's error when it is predicted from the others, a column a form."""
    columns = {}
    for name, terms in model.FORMS.items():
        errors = model.held_out(shown(pairs), terms)
        columns[name] = {printed.NAMES[a]: percent(error, "+") for a, error in errors.items()}
        for _, setting, some in model.groups(pairs):
            columns[name][f"mean, {setting}"] = percent(missed(model.held_out(some, terms)))
    caption = (
        f"Each network's seconds with DeepSpeed ({SETTING}) predicted from the other six: "
        "predicted minus printed, in percent of printed. Then the mean error without sign, by "
        "setting."
    )
    return style(pd.DataFrame(columns), caption, "errors", align="right")


def errors_by_study(found: Studies) -> Styler | None:
    """Show how far the four forms miss networks left out of a fit to our records."""
    rows = {
        fit: {name: _error(model.held_out(some, terms)) for name, terms in model.FORMS.items()}
        for fit, some in fits(found)
    }
    caption = (
        "The four forms on our records: the mean error, without sign, of networks each predicted "
        "from the others of its study, engine and setting; below it the worst."
    )
    return _by_fit(rows, caption, "study_errors")


def coefficients_by_study(found: Studies) -> Styler | None:
    """Show the coefficients of all four terms, fitted to our records."""
    rows = {
        fit: {
            "networks": str(some.index.nunique()),
            "steps": str(len(some)),
            **_coefficients(some, model.fit(some, model.FULL), list(model.TERMS)),
        }
        for fit, some in fits(found)
    }
    return _by_fit(rows, "All four terms, fitted to all networks and batch sizes.", "coefficients")


def _by_fit(rows: dict[tuple[str, str], dict[str, str]], caption: str, name: str) -> Styler | None:
    if not rows:
        return None
    texts = pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows))
    return style(texts, caption, name, align="right")


def _error(errors: pd.Series) -> str:
    return percent(missed(errors)) + small(worst([errors]).replace(" ", "<br>", 1))


def links(some: pd.DataFrame, found: pd.Series) -> dict[str, float]:
    """Return the bandwidths at which break-even is shown, in bytes a second."""
    return {"as fitted": model.bandwidth(some, found), **model.LINKS}


def break_even_table(pairs: pd.DataFrame) -> Styler:
    """Show from which batch size two GPUs pay, at three bandwidths."""
    some = shown(pairs)
    found = model.fit(some, model.SHARED)
    fits = [model.fit(some.drop(name), model.SHARED) for name in some.index]
    shares = (0, model.SHARE, 1 / printed.PROCESSES["deepspeed"])
    others = pd.DataFrame([model.break_even(some, fit, one) for fit in fits for one in shares])
    batches = {
        f"{name}, {speed / 1e9:.3g} GB/s": model.break_even(some, found, model.SHARE, speed)
        for name, speed in links(some, found).items()
    }
    texts = pd.DataFrame(batches).map(rounded)
    texts.insert(1, "range", others.min().map(rounded) + " to " + others.max().map(rounded))
    caption = (
        "Images a step, over both GPUs, from which DeepSpeed's two take less time than one "
        f"({SETTING}). Range: of the first column, as each network in turn is left out of the fit, "
        f"and {', '.join(f'{share:.2g}' for share in shares)} of the arithmetic's time is left."
    )
    return style(_named(texts), caption, "break_even", align="right")


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(index=printed.NAMES).rename_axis(index=None)
