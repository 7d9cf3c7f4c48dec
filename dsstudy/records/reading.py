"""Reading and checking JSON that another machine may have written."""

import errno
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import from_json

from dsstudy.errors import unreadable_file
from dsstudy.records.schema import KINDS, Kind

LINES_AT_ONCE = 500
"""How many lines are parsed together: enough for speed, few enough for memory."""


def read_object(file: str | Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None if there is no file.

    Raises
    ------
    InputError
        The file cannot be read, is cut off, or lacks fields that files of its name have.
    """
    file = str(file)
    try:
        # For many small files, a Path and a buffer would take as long as the reading.
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123
            return parse_object(stream.read(), _kind(file))
    except Exception as error:
        if _absent(error):
            return None
        raise unreadable_file(file, error) from None


def read_lines(file: str | Path, *needed: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file with one JSON object per line; none if there is no file.

    Parameters
    ----------
    file
        The file; its name determines the fields of its rows.
    needed
        Further text fields that every row must have.

    Raises
    ------
    InputError
        A line cannot be read, as in `read_object`.
    """
    return (row for row, _ in rows_and_lines(file, *needed))


def rows_and_lines(file: str | Path, *needed: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the rows of `read_lines`, each with its text."""
    file, number = str(file), 0
    kind = _kind(file)
    try:
        with open(file, "rb") as stream:  # noqa: PTH123
            while lines := [line.strip() for line in itertools.islice(stream, LINES_AT_ONCE)]:
                rows = parse_all(lines, kind)
                for index, line in enumerate(lines):
                    number += 1
                    row = rows[index] if rows else parse_object(line, kind)
                    _check_texts(row, needed)
                    yield row, line
    except Exception as error:
        if not _absent(error):
            raise unreadable_file(file, error, f"line {number}: " if number else "") from None


def _absent(error: Exception) -> bool:
    none = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    return isinstance(error, OSError) and error.errno in none


def _kind(file: str) -> Kind | None:
    return KINDS.get(file.rpartition("/")[2])


def parse_object(text: bytes, kind: Kind | None) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises
    ------
    ValueError
        The text is not a JSON object, or not of the given kind.
    """
    values = _parse(text)
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    try:
        if kind is not None:
            kind.check(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return values


def parse_all(lines: list[bytes], kind: Kind | None) -> list[dict[str, Any]] | None:
    """Return the JSON objects in some lines, or None if any of them is wrong.

    Parsing them together takes half the time of calling `parse_object` on each.
    """
    if kind is None or not all(line.startswith(b"{") for line in lines):
        return None
    try:
        rows = from_json(b"[" + b",".join(lines) + b"]", allow_inf_nan=False)
        kind.check_all(rows)
    except ValueError:
        return None
    return rows if len(rows) == len(lines) else None


def _check_texts(row: dict[str, Any], needed: tuple[str, ...]) -> None:
    for name in needed:
        if not isinstance(row.get(name), str):
            raise ValueError(f"{name}: Input should be a valid string")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a finite number, which is written as null")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _parse(text: bytes) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)  # several times as fast as the json module
    except ValueError:
        # The standard library gives better messages. It also accepts lone surrogates, with which
        # Python represents file names that are not valid text; a record's error may contain one.
        return _DECODER.decode(text.decode())
