"""A user's mistakes, each reported in one sentence, and how such a sentence quotes a value."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST_QUOTE = 100
"""How many characters of a value a sentence quotes."""

LONGEST_REASON = 400
"""How many characters of an exception's message are kept in its one-line reason."""

_NO_REASON = re.compile(r"\s*Exception raised from .*\(most recent call first\):.*", re.DOTALL)
"""The C++ frames that torch adds to a message."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class InputError(ValueError):
    """A user's mistake in one sentence: the parameter, its value, what is allowed, what to do."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception how to render itself: a notebook shows the sentence alone.
        return [f"{type(self).__name__}: {self}"]


def one_line(text: object) -> str:
    """Return a text unchanged, or escaped where it would break a line or a terminal."""
    text = str(text)
    return text if text.isprintable() and text == text.strip() != "" else ascii(text)


def quoted(value: Any) -> str:
    """Return any value as a sentence can quote it: on one line, and short."""
    if value is None:
        return "no value"
    if isinstance(value, list | tuple | set | dict):  # it may contain itself
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 3 * LONGEST_QUOTE:
        return "a number too long to show"  # Python may refuse to print it
    text = one_line(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


@contextlib.contextmanager
def naming_file(file: str | Path) -> Iterator[None]:
    """Turn whatever is raised inside the ``with`` statement into an `InputError` about a file."""
    try:
        yield
    except Exception as error:  # json, zipfile and numpy can raise almost anything
        raise unreadable_file(file, error) from None


def unreadable_file(file: str | Path, error: Exception, where: str = "") -> InputError:
    """Return the sentence for a file that cannot be read, or whose content is not allowed."""
    if isinstance(error, InputError):
        return InputError(f"{one_line(file)}: {where}{error}")
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(
        f"{one_line(file)} cannot be read ({where}{quoted(reason)}): restore it from a copy, or "
        "remove it and repeat what it recorded"
    )


def last_line(text: object) -> str:
    """Return the last line of an error's text, in which `reason_line` put its whole reason."""
    lines = [line for line in str(text).splitlines() if line.strip()]
    return _on_one_line(lines[-1]) if lines else ""


def reason_line(error: BaseException) -> str:
    """Return an exception's type and message on one line; only an `InputError` is never cut."""
    if isinstance(error, InputError):
        return f"{type(error).__name__}: {last_line(error)}"
    return reason_of(type(error).__name__, message_of(error))


def message_of(error: BaseException) -> str:
    """Return an exception's message; empty if its class, a foreign one, fails to write it."""
    try:
        return str(error)
    except Exception:
        return ""


def reason_of(kind: str, message: str) -> str:
    """Return the `reason_line` of an exception from its type's name and its message."""
    text = _on_one_line(_NO_REASON.sub("", message))
    if len(text) > LONGEST_REASON:
        text = f"{text[:LONGEST_REASON]}..."
    return f"{kind}: {text}" if text else kind


def _on_one_line(text: str) -> str:
    """Return a text without colours and line breaks; characters that do not print are escaped."""
    words = " ".join(_COLOUR.sub("", text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
