"""Frames built row by row in little more memory than the frame itself."""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

ARRAY_TYPES = {float: "d", int: "q"}
"""Types of numbers that an `array` can hold, in a quarter of a list's memory."""


class Columns:
    """Rows stored by column: a mapping per row would take several times the memory."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any] | array] = {}
        self._length = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; values that are missing in it, or in earlier rows, are NaN."""
        for name, value in row.items():
            try:
                self._columns[name].append(value)
            except (KeyError, TypeError, OverflowError):
                self._put(name, value)
        self._length += 1
        if len(row) < len(self._columns):
            for name in self._columns.keys() - row.keys():
                self._put(name, np.nan)

    def _put(self, name: str, value: Any) -> None:
        """Add a value to a new column, or to one with another type of number."""
        if name not in self._columns:
            first = self._length == 0 and type(value) in ARRAY_TYPES
            column = array(ARRAY_TYPES[type(value)]) if first else [np.nan] * self._length
            self._columns[name] = column
        try:
            self._columns[name].append(value)
        except (TypeError, OverflowError):
            self._columns[name] = [*self._columns[name], value]

    def frame(self) -> pd.DataFrame:
        """Return the rows as a frame, and forget them."""
        return pd.DataFrame({name: self._take(name) for name in list(self._columns)})

    def _take(self, name: str) -> pd.Series:
        column = self._columns.pop(name)
        return pd.Series(column if isinstance(column, list) else np.asarray(column))


def columns_beside(left: pd.DataFrame, counts: list[int], right: pd.DataFrame) -> pd.DataFrame:
    """Repeat each of a frame's rows by its count, and put another frame's columns beside them.

    If both have a column, the right one's values take precedence.
    """
    frame = left.take(np.repeat(np.arange(len(left)), counts)).reset_index(drop=True)
    for name, column in right.items():
        frame[name] = column.fillna(frame[name]) if name in frame else column
    return frame
