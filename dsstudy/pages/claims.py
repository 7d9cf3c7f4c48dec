"""The table and the sentences on the paper's claims."""

import html
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.claims.claims import judge_studies as judge_studies  # for the notebook
from dsstudy.analysis.claims.verdicts import FAILS, HOLDS, OPEN
from dsstudy.report.origin import marked_title
from dsstudy.report.table_style import note_below, style_table

_VERDICT_MARKS = {HOLDS: "✓", FAILS: "✗", OPEN: "?"}


def claims_table(judged: pd.DataFrame) -> Styler:
    """Show the paper's claims with their verdicts.

    Parameters
    ----------
    judged
        As from `judge_studies`.
    """
    shown = pd.DataFrame(
        {
            "the paper says": [
                f"“{html.escape(c.quote)}”{note_below('Section ' + c.section)}"
                for c in judged.itertuples()
            ],
            "tested as": judged["test"].map(html.escape),
            "on its own tables": _verdict_cells(judged, "paper"),
            "on our records": _verdict_cells(judged, "study"),
        }
    )
    caption = "Every claim of sections 3.2, 3.3 and 4, judged twice by the same computation."
    return style_table(shown, caption, "claims", wrap="11em").hide(axis=0)


def _verdict_cells(judged: pd.DataFrame, whose: str) -> list[str]:
    decided_by = judged["decided_by"] if whose == "study" else [None] * len(judged)
    return [
        f"<b>{_VERDICT_MARKS[verdict]} {verdict}</b>{_study_note(study)}"
        f"{note_below(html.escape(reason))}"
        for verdict, reason, study in zip(
            judged[whose], judged[f"{whose}_reason"], decided_by, strict=True
        )
    ]


def _study_note(study: str | Path | None) -> str:
    return note_below(f"by “{html.escape(marked_title(Path(study)))}”") if study else ""


def claims_text(judged: pd.DataFrame) -> str:
    """Count the verdicts, on the paper's own tables and on our records."""
    hold, fail, unclear = ((judged["paper"] == v).sum() for v in (HOLDS, FAILS, OPEN))
    decided = judged[judged["study"] != OPEN]
    both = decided[decided["paper"] != OPEN]
    agree = (both["paper"] == both["study"]).sum()
    return (
        f"**{fail} of the paper's {len(judged)} claims fail on its own tables**; {hold} hold "
        f"there, and {unclear} cannot be decided by them. The records of this book decide "
        f"{len(decided)}, and agree with the tables on {agree} of {len(both)}. Why not more? A "
        "training that has only begun says nothing about the paper's accuracies, and processes "
        "that share a processor say nothing about a second GPU."
    )
