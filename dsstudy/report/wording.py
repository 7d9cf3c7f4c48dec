"""How numbers and lists are written in sentences and tables."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd


def span(values: Iterable[Any], digits: str = ",.0f") -> str:
    """Write values as "least to greatest", or as one value where all are written alike."""
    given = sorted(values)
    return " to ".join(dict.fromkeys(f"{value:{digits}}" for value in (given[0], given[-1])))


def join_distinct(values: Iterable[Any]) -> str:
    """Join the distinct values in their order; "none" if there are none."""
    return "; ".join(dict.fromkeys(map(str, values))) or "none"


def bullets_text(sentences: Iterable[str]) -> str:
    """Write sentences as a list in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def count_text(number: int, noun: str, plural: str = "s") -> str:
    """Write a number with its noun: 1 process, 2 processes."""
    return f"{number} {noun}{plural * (number != 1)}"


def versions_text(versions: Mapping[str, str]) -> str:
    """List packages with their versions."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def signed(number: float) -> str:
    """Write a difference with its sign; a dash if it is missing."""
    return "–" if pd.isna(number) else f"{number:+.2f}".replace("-", "−")


def interval_text(row: Any, write: Callable[[float], str] = "{:.2f}".format) -> str:
    """Write a row's ``low`` and ``high``; a dash if it has no interval."""
    return "–" if pd.isna(row.low) else f"{write(row.low)} to {write(row.high)}"


def percent_text(number: float, form: str = "") -> str:
    """Write a fraction in percent; `form` adds ``+`` for a sign or ``.1`` for a decimal."""
    digits = form if "." in form else f"{form}.0"
    return f"{100 * number:{digits}f} %".replace("-", "−")
