"""Where a process's output goes: to a terminal, a notebook or a log."""

import sys


def in_notebook() -> bool:
    """Say whether this process is a notebook's kernel."""
    return "ipykernel" in sys.modules


def writes_a_log() -> bool:
    """Say whether errors and bars go to a file or a pipe, where nothing can be drawn over."""
    return not in_notebook() and not sys.stderr.isatty()
