"""Tables as the notebooks and the book show them: cells by the names of their row and column."""

import re

import pandas as pd
from bs4 import BeautifulSoup, Tag

LENET = ("lenet", "normal", "SGD")


def read_table(html: str, table: str = "") -> pd.DataFrame:
    """Return the texts of a table's cells: of the only table, or of the one that is named.

    Where a table has several header rows, or several headings a row, a name is a tuple.
    """
    found = BeautifulSoup(html, "html.parser").select_one(f"table#T_{table}" if table else "table")
    assert found, f"there is no table {table}"
    columns: dict[int, tuple[str, ...]] = {}
    for heading in found.select("thead th.col_heading"):
        (first,) = (int(one[3:]) for one in heading["class"] if re.fullmatch(r"col\d+", one))
        for column in range(first, first + int(heading.get("colspan", 1))):
            columns[column] = (*columns.get(column, ()), text_of(heading))
    rows, cells, headings = [], [], {}
    for row in found.select("tbody tr"):
        for heading in row.select("th"):  # a heading that spans rows is in the first of them
            (level,) = (one for one in heading["class"] if re.fullmatch(r"level\d+", one))
            headings[level] = text_of(heading)
        rows.append(tuple(headings.values()))
        cells.append([text_of(cell) for cell in row.select("td")])
    assert cells, f"the table {table} is empty"
    names = [columns[place] for place in sorted(columns)] or [()] * len(cells[0])
    return pd.DataFrame(cells, index=index_of(rows), columns=index_of(names))


def text_of(tag: Tag) -> str:
    return tag.get_text(" ", strip=True)


def index_of(names: list[tuple[str, ...]]) -> pd.Index:
    if names[0] == ():
        return pd.RangeIndex(len(names))
    return (
        pd.MultiIndex.from_tuples(names) if len(names[0]) > 1 else pd.Index([n for (n,) in names])
    )


def bold_cells(html: str) -> set[tuple]:
    """Return the row and column of each cell that the table's own style makes bold."""
    frame = read_table(html)
    rules = re.findall(r"([^{}]+)\{\s*font-weight: bold", html)
    places = [one for rule in rules for one in re.findall(r"row(\d+)_col(\d+)", rule)]
    return {(frame.index[int(row)], frame.columns[int(column)]) for row, column in places}
