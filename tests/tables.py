"""Tables as the notebooks show them, taken apart: texts, and which cells are bold."""

import re

LENET = ("lenet", "normal", "SGD")


def bold_cells(html: str) -> set[tuple[int, int]]:
    """Return rows and columns of the cells that the table's own style makes bold."""
    rules = re.findall(r"([^{}]+)\{\s*font-weight: bold", html)
    return {(int(r), int(c)) for rule in rules for r, c in re.findall(r"row(\d+)_col(\d+)", rule)}


def texts(html: str) -> list[str]:
    """Return the texts of a table's data cells, tags left out."""
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, flags=re.DOTALL)
    return [re.sub(r"<[^>]+>", " ", cell).strip() for cell in cells]
