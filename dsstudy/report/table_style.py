"""What the notebooks show: tables with the paper's numbers beside ours."""

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.paper import printed
from dsstudy.report.wording import interval_text, signed
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import ARCHITECTURES

COLUMN_TITLES = {name: engine.column for name, engine in ENGINES.items()}
"""An engine at the head of its columns, as the paper's tables have it."""


def ratio_cell(row: Any) -> str:
    """Write a ratio, and below it its interval where it has one; a dash where there is none."""
    if not row.n:
        return "–"
    return f"{row.value:.2f}" + (
        note_below(interval_text(row, "{:.2f}".format)) if row.n > 1 else ""
    )


def value_cell(row: Any, digits: str) -> str:
    """Write a cell's value, mean ± deviation over several, or the word for its want."""
    if not row.n:
        return f"<em>{row.state}</em>"
    spread = _pieces(f"± {row.deviation:{digits}},", f"n = {row.n}") if row.n > 1 else ""
    shared = " <em>shared</em>" if row.state == "shared" else ""
    notes = "".join(note_below(note) for note in (spread, row.note) if note)
    return f"{row.value:{digits}}{shared}{notes}"


def difference_cell(row: Any) -> str:
    """Write a difference, and below it its interval where it has one."""
    return signed(row.value) + (note_below(interval_text(row, signed)) if row.n > 1 else "")


def wrapping_cell(text: str) -> str:
    """Let a cell's words break into lines where the table would be too wide."""
    space = "display: inline-block; min-width: 6em; white-space: normal"
    return f'<span style="{space}">{text}</span>'


def _pieces(*texts: str) -> str:
    """Let a line break between texts, and only there."""
    kept = " ".join(f'<span style="white-space: nowrap">{text}</span>' for text in texts)
    return f'<span style="white-space: normal">{kept}</span>'


def note_below(text: str) -> str:
    """Write a note below a cell's number."""
    return f'<br><small style="font-weight: normal; font-size: 0.9em; opacity: 0.8">{text}</small>'


def cell_grid(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Lay cells out as the paper does: architectures down, engines and settings across."""
    wide = frame.pivot(index="architecture", columns=["engine", "setting"], values=column)
    rows = [name for name in ARCHITECTURES if name in wide.index]
    wide = wide.loc[rows, [(e, s) for e in printed.PAPER_ENGINES for s in printed.SETTINGS]]
    wide = wide.rename_axis(index=None, columns=[None, None])
    return wide.rename(index=printed.NAMES, columns=COLUMN_TITLES)


def named_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame by architecture and setting with the paper's names."""
    names = [(printed.NAMES[architecture], setting) for architecture, setting in frame.index]
    return frame.set_axis(pd.MultiIndex.from_tuples(names))


def make_bold(styler: Styler, where: pd.DataFrame) -> Styler:
    """Make some of a table's cells bold."""
    return styler.apply(lambda _: where.map(lambda yes: "font-weight: bold" * yes), axis=None)


def style_table(
    texts: pd.DataFrame, caption: str, name: str, wrap: str = "", align: str = "left"
) -> Styler:
    """Style a table of texts; `wrap` is the least width of cells that may break lines."""
    # A table that is too wide for the screen scrolls by itself, and leaves the page alone; its
    # caption, a block, keeps to the screen's width.
    scroll = "display: block; overflow-x: auto; max-width: 100%; font-size: 0.875em"
    top = "display: block; text-align: left; font-size: 1em; padding-bottom: 0.5em"
    space = "white-space: nowrap"
    if wrap:
        space = f"white-space: normal; overflow-wrap: anywhere; min-width: {wrap}"
    cell = f"text-align: {align}; vertical-align: top; padding: 0.2em 0.4em; {space}"
    return (
        texts.style.set_caption(caption)
        .set_uuid(name)
        .set_table_attributes(f'style="{scroll}"')
        .set_table_styles(
            [
                {"selector": "caption", "props": top},
                {
                    "selector": "th.row_heading",
                    "props": "text-align: left; vertical-align: top; padding: 0.2em 0.4em 0.2em 0",
                },
                {
                    "selector": "th.col_heading",
                    "props": f"text-align: {align}; padding: 0.2em 0.4em",
                },
                {"selector": "td", "props": cell},
            ]
        )
    )
