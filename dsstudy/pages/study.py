"""A study's trials without a number, and why they have none."""

import html
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.cells import load_trials
from dsstudy.errors import last_line
from dsstudy.report.table_style import style_table


def unfinished_reasons(path: str | Path) -> dict[str, str]:
    """Return why each of the study's trials without a number has none, by trial name."""
    trials = load_trials(path)
    rest = trials[trials["status"] != "completed"].to_dict("records")
    return {trial["name"]: _reason_text(trial) for trial in rest}


def _reason_text(trial: dict[str, Any]) -> str:
    return {
        "missing": "not run yet, or not published",
        "unfinished": "started, not finished",
        "diverged": "diverged: the loss became infinite",
        "failed": f"failed: {last_line(trial.get('error') or 'no error recorded')}",
    }[trial["status"]]


def unfinished_table(path: str | Path) -> Styler | None:
    """Show the study's trials without a number, and why; None if all have one."""
    found = {name: html.escape(why) for name, why in unfinished_reasons(path).items()}
    if not found:
        return None
    texts = pd.DataFrame({"trial": list(found), "why it has no number": list(found.values())})
    return style_table(texts, "Trials without a number.", "unfinished", wrap="9em").hide(axis=0)
