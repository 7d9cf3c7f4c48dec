"""The one line that gives an error's reason."""

import pytest

from dsstudy.errors import LONGEST_REASON, last_line, reason_line


class UnspeakableError(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one"), "ValueError: one"),
        # What a hint in the last line would be taken for before.
        (RuntimeError("the reason\n\n In addition, a hint\n"),
         "RuntimeError: the reason In addition, a hint"),
        (RuntimeError("no\nException raised from f at a.cpp:1 (most recent call first):\nframe"),
         "RuntimeError: no"),
        (ValueError("\x1b[31mred\x1b[0m\r\nand \x07 größer"), "ValueError: red and \\x07 größer"),
        (ValueError("a \udc80 surrogate"), "ValueError: a \\udc80 surrogate"),
        (AssertionError(), "AssertionError"),
        (UnspeakableError(), "UnspeakableError"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)  # fmt: skip
def test_a_reason_is_one_line(error, line):
    assert reason_line(error) == line
    assert last_line(f"details\n{reason_line(error)}") == line


def test_a_long_reason_is_cut_at_its_end():
    line = reason_line(ValueError("long " * 1000))
    assert line.startswith("ValueError: long long")
    assert line.endswith("...")
    assert len(line) < LONGEST_REASON + 20


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_no_text_has_no_last_line(text):
    assert last_line(text) == ""
