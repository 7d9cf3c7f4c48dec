"""How tables and their cells look."""

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.paper import printed
from dsstudy.report.wording import interval_text, signed
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import ARCHITECTURES


def ratio_cell(row: Any) -> str:
    """Write a ratio with its interval, if it has one, below it; a dash if there is no ratio."""
    if not row.n:
        return "–"
    return f"{row.value:.2f}" + (note_below(interval_text(row)) if row.n > 1 else "")


def mean_cell(mean: float, deviation: float, n: int, state: str = "missing") -> str:
    """Write the mean of n values, ± deviation if n > 1; without values, the reason: `state`."""
    if not n:
        return f"<em>{state}</em>"
    return f"{mean:.2f}" + (f" ± {deviation:.2f}" if n > 1 else "")


def value_cell(row: Any, digits: str) -> str:
    """Write a cell of the paper: its value, with deviation and notes below, or why it has none."""
    if not row.n:
        return f"<em>{row.state}</em>"
    spread = _pieces(f"± {row.deviation:{digits}},", f"n = {row.n}") if row.n > 1 else ""
    shared = " <em>shared</em>" if row.state == "shared" else ""
    notes = "".join(note_below(note) for note in (spread, row.note) if note)
    return f"{row.value:{digits}}{shared}{notes}"


def difference_cell(row: Any, mark: str = "") -> str:
    """Write a difference with a mark behind it, and its interval, if it has one, below it."""
    return signed(row.value) + mark + (note_below(interval_text(row, signed)) if row.n > 1 else "")


def wrapping_cell(text: str) -> str:
    """Let a cell's text break into lines if the table would be too wide."""
    space = "display: inline-block; min-width: 6em; white-space: normal"
    return f'<span style="{space}">{text}</span>'


def _pieces(*texts: str) -> str:
    """Allow line breaks between texts, and only there."""
    kept = " ".join(f'<span style="white-space: nowrap">{text}</span>' for text in texts)
    return f'<span style="white-space: normal">{kept}</span>'


def note_below(text: str) -> str:
    """Write a note below a cell's number."""
    return f'<br><small style="font-weight: normal; font-size: 0.9em; opacity: 0.8">{text}</small>'


def cell_grid(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Arrange cells as the paper does: architectures down, engines and settings across."""
    wide = frame.pivot(index="architecture", columns=["engine", "setting"], values=column)
    rows = [name for name in ARCHITECTURES if name in wide.index]
    wide = wide.loc[rows, [(e, s) for e in printed.PAPER_ENGINES for s in printed.SETTINGS]]
    titles = {name: engine.column for name, engine in ENGINES.items()}
    return named_rows(wide).rename_axis(columns=[None, None]).rename(columns=titles)


def named_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Name a frame's rows by the titles of their architectures and engines."""
    return frame.rename(index=printed.NAMES).rename_axis(index=[None] * frame.index.nlevels)


def make_bold(styler: Styler, where: pd.DataFrame) -> Styler:
    """Make the cells of a table bold where `where` is true."""
    return styler.apply(lambda _: where.map(lambda yes: "font-weight: bold" * yes), axis=None)


def style_table(
    texts: pd.DataFrame, caption: str, name: str, wrap: str = "", align: str = "left"
) -> Styler:
    """Style a table of texts; `wrap`, a minimum width, allows line breaks in its cells."""
    # Where a table is wider than the screen, it scrolls and the page does not; its caption, a
    # block, keeps to the screen's width.
    scroll = "display: block; overflow-x: auto; max-width: 100%; font-size: 0.875em"
    top = "display: block; text-align: left; font-size: 1em; padding-bottom: 0.5em"
    wrapping = f"white-space: normal; overflow-wrap: anywhere; min-width: {wrap}"
    space = wrapping if wrap else "white-space: nowrap"
    row = "text-align: left; vertical-align: top; padding: 0.2em 0.4em 0.2em 0"
    column = f"text-align: {align}; padding: 0.2em 0.4em"
    props = {
        "caption": top,
        "th.row_heading": row,
        "th.col_heading": column,
        "td": f"{column}; vertical-align: top; {space}",
    }
    return (
        texts.style.set_caption(caption)
        .set_uuid(name)
        .set_table_attributes(f'style="{scroll}"')
        .set_table_styles([{"selector": at, "props": look} for at, look in props.items()])
    )
