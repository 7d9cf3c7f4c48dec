"""A user's mistakes, told in one sentence, and how that sentence quotes what was given."""

from typing import Any

LONGEST = 100
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


def shown(value: Any) -> str:
    """Return any value as a sentence can quote it: one line, and not much of it."""
    if value is None:
        return "no value"
    if isinstance(value, list | tuple | set | dict):  # may hold itself, or be endless when written
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 3 * LONGEST:  # Python may refuse to write it
        return "a number too long to show"
    text = one_line(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
