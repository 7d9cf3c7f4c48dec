"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 300
"""Seconds to wait for what need not be quick: a machine may stall for a minute."""

Found = TypeVar("Found")


def wait_until(what: Callable[[], Found], seconds: float = PATIENCE) -> Found:
    """Wait until something is true, and return it; fail if it is not true in time."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.05)
    return found
