"""All trials of several studies in a table; a click on a row shows that trial's curves."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML
from itables import JavascriptFunction, options, to_html_datatable
from itables.javascript import generate_init_offline_itables_html
from plotly.offline import get_plotlyjs

from dsstudy.analysis.load import load_epochs, load_results
from dsstudy.errors import last_line
from dsstudy.records.study_folder import find_study, study_name
from dsstudy.report.figure_style import CSS_COLORS
from dsstudy.report.origin import SYNTHETIC, hardware_text, warning_box
from dsstudy.report.wording import versions_text
from dsstudy.spec.trial import PLACES, Trial

SHOWN_COLUMNS = {
    "study": "study", "model": "model", "setting": "setting", "engine": "engine", "seed": "seed",
    "best_accuracy": "best accuracy (%)", "final_accuracy": "final accuracy (%)",
    "seconds_per_epoch": "s / epoch", "timing": "timing", "processes": "processes",
    "precision": "precision", "epochs": "epochs", "images": "images",
    "train_images": "training images", "hardware": "hardware", "status": "status",
    "commit": "commit",
}  # fmt: skip
"""The columns shown at first, and their titles."""

HIDDEN_COLUMNS = (
    "name",
    "test_images",
    "wall_seconds",
    "device",
    "versions",
    "finished_at",
    "error",
)
"""Columns that are searched but shown only if chosen in a menu, as are all other parameters."""

DECIMALS = {"best_accuracy": 2, "final_accuracy": 2, "seconds_per_epoch": 2, "wall_seconds": 0}
"""Decimals of measured values; parameters are not rounded."""

CURVES = {"train_loss": 4, "test_loss": 4, "test_accuracy": 2, "learning_rate": 8}
"""The curves over the epochs, and how many decimals the page keeps."""

FEW = 30
"""A column with at most this many different texts is filtered by ticking them in a list."""


def load_table_rows(studies: Iterable[str | Path]) -> pd.DataFrame:
    """Load the trials of several studies, a row per trial.

    Parameters
    ----------
    studies
        Folders, each as for `dsstudy.load_results`.

    Returns
    -------
    pandas.DataFrame
        The columns of `SHOWN_COLUMNS` and `HIDDEN_COLUMNS`, and every parameter that is part of a
        trial's identity. Image counts are those that were used. A missing number is NaN, a
        missing text is empty.

    Raises
    ------
    InputError
        A folder holds no records.
    """
    frame = pd.concat([_study_rows(find_study(study)) for study in studies], ignore_index=True)
    parameters = [name for name in Trial.model_fields if name not in PLACES]
    columns = dict.fromkeys([*SHOWN_COLUMNS, *HIDDEN_COLUMNS, *parameters])
    return frame.reindex(columns=list(columns)).apply(_plain_column)


def _study_rows(folder: Path) -> pd.DataFrame:
    results = load_results(folder)
    rows = results.reindex(columns=["environment", "error", "timing", "seconds_per_epoch"])
    frame = results.assign(
        study=study_name(folder),
        error=[last_line(error) if isinstance(error, str) else "" for error in rows["error"]],
        **pd.DataFrame(list(map(_environment_columns, rows["environment"])), results.index),
    )
    if "timed_seconds_per_epoch" in results:  # by dsstudy time, which takes precedence
        timed = results["timed_seconds_per_epoch"]
        frame["seconds_per_epoch"] = timed.fillna(rows["seconds_per_epoch"])
        frame["timing"] = rows["timing"].mask(timed.notna(), "alone, repeated")
    frame["images"] = frame["images"].mask(frame["images"] == "", frame["dataset"])
    return frame


def _environment_columns(environment: Any) -> dict[str, Any]:
    """Return the columns from a record's environment, which a failed trial may lack."""
    known = environment if isinstance(environment, dict) else {}
    data, hardware = known.get("dataset") or {}, known.get("hardware")
    return {
        "images": data.get("name", ""),
        "train_images": data.get("train_images"),
        "test_images": data.get("test_images"),
        "hardware": hardware_text(hardware) if hardware else "",
        "device": known.get("device", ""),
        "versions": versions_text(known.get("software", {})),
        "commit": known.get("commit", "")[:10],
    }


def _plain_column(column: pd.Series) -> pd.Series:
    """Convert a column to numbers if all its values are, and otherwise to texts."""
    if column.dtype != bool:
        numbers = pd.to_numeric(column, errors="coerce")
        if numbers.notna().any() and numbers.notna().equals(column.notna()):
            return numbers
    return column.astype(object).where(column.notna(), "").astype(str)


def load_curves(studies: Iterable[str | Path], trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Load the curves of trials in a compact form.

    Parameters
    ----------
    studies
        As for `load_table_rows`.
    trials
        As from `load_table_rows` for these studies.

    Returns
    -------
    list of dict
        For each row: ``epochs``, their number, and by name (`CURVES`) the rounded value after each
        epoch, None if missing, or a single value if the curve is constant. A trial without an
        epoch has an empty dict.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for study in studies:
        folder = find_study(study)
        epochs = load_epochs(folder).reindex(columns=["name", "epoch", *CURVES])
        label = study_name(folder)
        for name, some in epochs.groupby("name", sort=False):
            found[label, str(name)] = _rounded_curves(some.set_index("epoch"))
    keys = trials[["study", "name"]].itertuples(index=False, name=None)
    return [found.get(key, {}) for key in keys]


def _rounded_curves(epochs: pd.DataFrame) -> dict[str, Any]:
    whole = epochs.reindex(range(1, int(epochs.index.max()) + 1))
    curves: dict[str, Any] = {"epochs": len(whole)}
    for name, decimals in CURVES.items():
        values = [None if pd.isna(value) else round(value, decimals) for value in whole[name]]
        curves[name] = values[0] if len(set(values)) == 1 else values
    return curves


def synthetic_studies_warning(trials: pd.DataFrame) -> HTML | None:
    """Warn which of the studies were trained on synthetic images, if any."""
    names = trials.loc[trials["dataset"] == "synthetic", "study"].unique()
    return warning_box(f"{', '.join(names)}: {SYNTHETIC}") if len(names) else None


def trials_explorer(studies: Iterable[str | Path], trials: pd.DataFrame) -> HTML:
    """Show trials in a table to sort and filter, with the curves of the selected ones below.

    Parameters
    ----------
    studies, trials
        As for `load_curves`.

    Returns
    -------
    IPython.display.HTML
        It contains all the JavaScript that it needs and works without a network.
    """
    curves = json.dumps(load_curves(studies, trials), separators=(",", ":"), allow_nan=False)
    parts = [
        f"<script>{get_plotlyjs()}</script>",
        Path(__file__).with_name("results.html").read_text(),
        generate_init_offline_itables_html(options.dt_bundle),
        f'<script id="trial-data" type="application/json">'
        f'{{"curves":{curves},"colors":{json.dumps(CSS_COLORS)}}}</script>',
        _trials_table(trials),
    ]
    return HTML("\n".join(parts))


TABLE_OPTIONS: dict[str, Any] = {
    "connected": False,
    "display_logo_when_loading": False,
    "maxBytes": 0,
    "maxColumns": 0,
    "showIndex": False,
    "classes": "display compact",
    "style": "width:100%",
    "scrollX": True,
    "pageLength": 10,
    "text_in_header_can_be_selected": False,  # a click anywhere on it sorts
    "select": {"style": "os", "keys": True, "info": False, "toggleable": False},
    "buttons": ["pageLength", {"extend": "colvis", "text": "columns"}, "csvHtml5"],
    "layout": {"topStart": "buttons", "topEnd": "search"},
    # This runs at every draw, including the first, because itables 2.9 drops initComplete.
    "drawCallback": JavascriptFunction("function () { showTrialCurves(this.api()); }"),
}
"""Options for itables and DataTables that apply to the whole table."""


def _trials_table(trials: pd.DataFrame) -> str:
    titled = trials.rename(columns=SHOWN_COLUMNS)
    columns = list(_column_options(trials))
    return to_html_datatable(titled, table_id="trials", columnDefs=columns, **TABLE_OPTIONS)


def _column_options(trials: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Yield DataTables' options for each column: whether it is shown, how it is filtered."""
    for index, (name, column) in enumerate(trials.items()):
        is_text = not pd.api.types.is_numeric_dtype(column)
        ticked = is_text and column.nunique() <= FEW
        yield {
            "targets": index,
            "visible": name in SHOWN_COLUMNS,
            "searchable": name != "versions",  # every trial has a version of every engine
            "columnControl": [["searchList" if ticked else "search"]],
        }
        if not is_text:
            yield {"targets": index, "render": _number_renderer(DECIMALS.get(str(name)))}


def _number_renderer(decimals: int | None) -> JavascriptFunction:
    """Return a renderer that rounds a number for display only, not for sorting or filtering."""
    shown = "value" if decimals is None else f"value.toFixed({decimals})"
    return JavascriptFunction(
        "function (value, type) { if (value === null || Number.isNaN(value)) "
        f"return type === 'display' ? '' : null; return type === 'display' ? {shown} : value; }}"
    )
