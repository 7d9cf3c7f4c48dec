"""The page on a study: what of it is missing, and why."""

import html
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import load_trials
from dsstudy.report.table_style import style_table


def unfinished_reasons(path: str | Path) -> dict[str, str]:
    """Return the study's trials that have no number, by name, and why each has none."""
    trials = load_trials(path)
    rest = trials[trials["status"] != "completed"].to_dict("records")
    return {trial["name"]: _reason_text(trial) for trial in rest}


def _reason_text(trial: dict[str, Any]) -> str:
    words = {
        "missing": "not run yet, or not published",
        "unfinished": "begun, not finished",
        "diverged": "diverged: the loss became infinite",
    }
    if trial["status"] != "failed":
        return words[trial["status"]]
    error = str(trial.get("error") or "no word").strip().splitlines()
    return f"failed: {error[-1]}"


def unfinished_table(path: str | Path) -> Styler | None:
    """Show which of the study's trials have no number, and why; nothing if all have one."""
    found = {name: html.escape(why) for name, why in unfinished_reasons(path).items()}
    if not found:
        return None
    texts = pd.DataFrame({"trial": list(found), "why it has no number": list(found.values())})
    return style_table(texts, "Trials without a number.", "unfinished", wrap="9em").hide(axis=0)
