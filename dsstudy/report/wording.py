"""How numbers and lists are written in sentences and tables."""

from collections.abc import Iterable
from typing import Any

import pandas as pd


def span(numbers: Iterable[float], digits: str = ",.0f") -> str:
    """Write numbers as their least and their greatest, or as the one that all are."""
    given = sorted(numbers)
    return " to ".join(dict.fromkeys(f"{number:{digits}}" for number in (given[0], given[-1])))


def join_distinct(values: Iterable[Any]) -> str:
    """Join the different values, in the order in which they come."""
    return "; ".join(dict.fromkeys(map(str, values))) or "none"


def signed(number: float) -> str:
    """Write a difference with its sign; a dash where there is none."""
    return "–" if pd.isna(number) else f"{number:+.2f}".replace("-", "−")


def interval_text(row: Any, write: Any) -> str:
    """Write a row's ``low`` and ``high``; a dash where one value gives no interval."""
    return "–" if pd.isna(row.low) else f"{write(row.low)} to {write(row.high)}"


def percent_text(number: float, form: str = "") -> str:
    """Write a share as percent, in a number's format: ``+`` for a sign, ``.1`` for a digit."""
    digits = form if "." in form else f"{form}.0"
    return f"{100 * number:{digits}f} %".replace("-", "−")
