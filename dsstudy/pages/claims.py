"""The table and the sentence on the paper's claims."""

import html

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.claims.claims import judge_study as judge_study  # for the notebook
from dsstudy.analysis.claims.verdicts import FAILS, HOLDS, OPEN
from dsstudy.report.table_style import note_below, style_table

_VERDICT_MARKS = {HOLDS: "✓", FAILS: "✗", OPEN: "?"}


def claims_table(judged: pd.DataFrame) -> Styler:
    """Show the paper's claims with their verdicts.

    Parameters
    ----------
    judged
        As from `judge_study`.
    """
    shown = pd.DataFrame(
        {
            "the paper says": [
                f"“{html.escape(c.quote)}”{note_below('Section ' + c.section)}"
                for c in judged.itertuples()
            ],
            "tested as": judged["test"].map(html.escape),
            "on its own tables": _verdict_cells(judged, "paper"),
            "on this study": _verdict_cells(judged, "study"),
        }
    )
    caption = "Every claim of sections 3.2, 3.3 and 4, judged twice by the same computation."
    return style_table(shown, caption, "claims", wrap="11em").hide(axis=0)


def _verdict_cells(judged: pd.DataFrame, whose: str) -> list[str]:
    return [
        f"<b>{_VERDICT_MARKS[verdict]} {verdict}</b>{note_below(html.escape(reason))}"
        for verdict, reason in zip(judged[whose], judged[f"{whose}_reason"], strict=True)
    ]


def claims_text(judged: pd.DataFrame) -> str:
    """Count the verdicts on the paper's own tables and on the study."""

    def count(whose: str) -> str:
        hold, fail, unclear = ((judged[whose] == v).sum() for v in (HOLDS, FAILS, OPEN))
        return f"{hold} hold, {fail} do not and {unclear} are undecided"

    decided = judged[(judged[["paper", "study"]] != OPEN).all(axis=1)]
    agree = (decided["paper"] == decided["study"]).sum()
    return (
        f"Of {len(judged)} claims, {count('paper')} on the paper's own tables; {count('study')} "
        f"on this study. Of the {len(decided)} decided on both, {agree} have the same verdict."
    )
