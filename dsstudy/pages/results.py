"""Every trial of several studies in one table; a click on a row shows that trial's curves."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML
from itables import JavascriptFunction, options, to_html_datatable
from itables.javascript import generate_init_offline_itables_html
from matplotlib.colors import to_hex
from plotly.offline import get_plotlyjs

from dsstudy.analysis.load import load_epochs, load_results
from dsstudy.errors import last_line
from dsstudy.records.study_folder import find_study, study_name
from dsstudy.report.figure_style import ENGINE_COLORS
from dsstudy.report.origin import SYNTHETIC, hardware_text, warning_box
from dsstudy.spec.trial import PLACES, Trial

SHOWN_COLUMNS = {
    "study": "study",
    "model": "model",
    "setting": "setting",
    "engine": "engine",
    "seed": "seed",
    "best_accuracy": "best accuracy (%)",
    "final_accuracy": "final accuracy (%)",
    "seconds_per_epoch": "s / epoch",
    "timing": "timing",
    "processes": "processes",
    "precision": "precision",
    "epochs": "epochs",
    "images": "images",
    "train_images": "training images",
    "hardware": "hardware",
    "status": "status",
    "commit": "commit",
}
"""The columns that the table shows at first, and their titles."""

HIDDEN_COLUMNS = (
    "name",
    "test_images",
    "wall_seconds",
    "device",
    "versions",
    "finished_at",
    "error",
)
"""Columns that a menu adds, beside all other trial parameters; searched all the same."""

DECIMALS = {"best_accuracy": 2, "final_accuracy": 2, "seconds_per_epoch": 2, "wall_seconds": 0}
"""Of what was measured; parameters are shown as they are."""

CURVES = {"train_loss": 4, "test_loss": 4, "test_accuracy": 2, "learning_rate": 8}
"""What is drawn over the epochs, and how many decimals the page keeps of it."""

FEW = 30
"""A column with at most so many different texts is filtered by ticking them in a list."""


def load_table_rows(studies: Iterable[str | Path]) -> pd.DataFrame:
    """Load the trials of several studies for the table, one row each.

    Parameters
    ----------
    studies
        Folders, each as for `dsstudy.load_results`.

    Returns
    -------
    pandas.DataFrame
        The columns of `SHOWN_COLUMNS` and `HIDDEN_COLUMNS`, and every trial parameter that is part of its
        identity; the numbers of images are those that were used. A number that is missing is
        NaN, a text that is missing is empty.

    Raises
    ------
    InputError
        One of them holds no records.
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
        **pd.DataFrame(
            [_environment_columns(place) for place in rows["environment"]], index=results.index
        ),
    )
    if "timed_seconds_per_epoch" in results:  # by dsstudy time: it wins over the trial's own
        timed = results["timed_seconds_per_epoch"]
        frame["seconds_per_epoch"] = timed.fillna(rows["seconds_per_epoch"])
        frame["timing"] = rows["timing"].mask(timed.notna(), "alone, repeated")
    frame["images"] = frame["images"].mask(frame["images"] == "", frame["dataset"])
    return frame


def _environment_columns(environment: Any) -> dict[str, Any]:
    """Return what a record's environment adds to its row; a trial that failed may have none."""
    known = environment if isinstance(environment, dict) else {}
    data, hardware = known.get("dataset") or {}, known.get("hardware")
    return {
        "images": data.get("name", ""),
        "train_images": data.get("train_images"),
        "test_images": data.get("test_images"),
        "hardware": hardware_text(hardware) if hardware else "",
        "device": known.get("device", ""),
        "versions": ", ".join(f"{k} {v}" for k, v in known.get("software", {}).items()),
        "commit": known.get("commit", "")[:10],
    }


def _plain_column(column: pd.Series) -> pd.Series:
    """Return a column of numbers alone, or of texts alone."""
    if column.dtype != bool:
        numbers = pd.to_numeric(column, errors="coerce")
        if numbers.notna().any() and numbers.notna().equals(column.notna()):
            return numbers
    return column.astype(object).where(column.notna(), "").astype(str)


def load_curves(studies: Iterable[str | Path], trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Load the curves of trials, in few bytes.

    Parameters
    ----------
    studies
        As for `load_table_rows`.
    trials
        What `load_table_rows` returned for them.

    Returns
    -------
    list of dict
        For every row: ``epochs``, how many, and by name (`CURVES`) the value after each of them,
        rounded, None where there is none; a value alone stands for a curve that never changes. Of
        a trial without an epoch: nothing.
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
    """Warn in plain words which of the studies were trained on synthetic images; if any was."""
    drawn = trials.loc[trials["dataset"] == "synthetic", "study"].unique()
    if not len(drawn):
        return None
    return warning_box(f"{', '.join(drawn)}: {SYNTHETIC}")


def trials_explorer(studies: Iterable[str | Path], trials: pd.DataFrame) -> HTML:
    """Show trials in a table to sort and to filter, and below it the curves of those chosen.

    Parameters
    ----------
    studies, trials
        As for `load_curves`.

    Returns
    -------
    IPython.display.HTML
        With all the JavaScript that it needs, so that it works without a network.
    """
    curves = json.dumps(load_curves(studies, trials), separators=(",", ":"), allow_nan=False)
    colors = json.dumps({engine: to_hex(color) for engine, color in ENGINE_COLORS.items()})
    parts = [
        f"<script>{get_plotlyjs()}</script>",
        Path(__file__).with_name("results.html").read_text(),
        generate_init_offline_itables_html(options.dt_bundle),
        f'<script id="trial-data" type="application/json">'
        f'{{"curves":{curves},"colors":{colors}}}</script>',
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
    # Called at every draw, the first included: itables 2.9 drops initComplete.
    "drawCallback": JavascriptFunction("function () { showTrialCurves(this.api()); }"),
}
"""What itables and DataTables are told of the table as a whole."""


def _trials_table(trials: pd.DataFrame) -> str:
    titled = trials.rename(columns=SHOWN_COLUMNS)
    columns = list(_column_options(trials))
    return to_html_datatable(titled, table_id="trials", columnDefs=columns, **TABLE_OPTIONS)


def _column_options(trials: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Yield what DataTables is to know of each column: whether it is shown, how it is filtered."""
    for index, (name, column) in enumerate(trials.items()):
        is_text = not pd.api.types.is_numeric_dtype(column)
        ticked = is_text and column.nunique() <= FEW
        yield {
            "targets": index,
            "visible": name in SHOWN_COLUMNS,
            "columnControl": [["searchList" if ticked else "search"]],
        }
        if not is_text:
            yield {"targets": index, "render": _number_renderer(DECIMALS.get(str(name)))}


def _number_renderer(decimals: int | None) -> JavascriptFunction:
    """Return how DataTables is to show a number; sorting and filtering go by the number itself."""
    shown = "value" if decimals is None else f"value.toFixed({decimals})"
    return JavascriptFunction(
        "function (value, type) { if (value === null || Number.isNaN(value)) "
        f"return type === 'display' ? '' : null; return type === 'display' ? {shown} : value; }}"
    )
