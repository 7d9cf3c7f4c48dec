"""A user's mistakes, told in one sentence, and how that sentence quotes what was given."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST_QUOTE = 100
"""How many characters of a value a sentence quotes."""


class InputError(ValueError):
    """A user's mistake, told in one sentence: parameter, value, what is allowed, what to do."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for its own rendering: a notebook shows the sentence alone.
        return [f"{type(self).__name__}: {self}"]


def one_line(text: object) -> str:
    """Return a text as it is, or with escapes where it would break a line or a terminal."""
    text = str(text)
    return text if text.isprintable() and text == text.strip() != "" else ascii(text)


def quoted(value: Any) -> str:
    """Return any value as a sentence can quote it: one line, and not much of it."""
    if value is None:
        return "no value"
    if isinstance(value, list | tuple | set | dict):  # may hold itself, or be endless when written
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 3 * LONGEST_QUOTE:
        # Python may refuse to write it.
        return "a number too long to show"
    text = one_line(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


@contextlib.contextmanager
def naming_file(file: str | Path) -> Iterator[None]:
    """Turn what a damaged file makes its reader raise into one sentence that names the file.

    Parameters
    ----------
    file
        What is read inside the ``with`` statement.

    Raises
    ------
    InputError
        Anything was raised inside.
    """
    try:
        yield
    except Exception as error:  # json, zipfile and numpy raise nearly anything
        raise unreadable_file(file, error) from None


def unreadable_file(file: str | Path, error: Exception, where: str = "") -> InputError:
    """Return the sentence on a file that cannot be read, or whose content is not allowed."""
    if isinstance(error, InputError):
        return InputError(f"{one_line(file)}: {where}{error}")
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(
        f"{one_line(file)} cannot be read ({where}{quoted(reason)}): restore it from a copy, or "
        "remove it and run again what it recorded"
    )


def last_line(text: object) -> str:
    """Return the last line of an error's words, which mostly holds its reason; or nothing."""
    lines = str(text).strip().splitlines()
    return one_line(lines[-1].strip()) if lines else ""
