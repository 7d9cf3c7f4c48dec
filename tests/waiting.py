"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 300
"""Seconds. No test judges how long a thing takes, and a machine may stall for a minute."""

Found = TypeVar("Found")


def wait_until(what: Callable[[], Found]) -> Found:
    """Wait until something is true, and return it; fail where it has not come to be in time."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, f"not so within {PATIENCE} s"
        time.sleep(0.05)
    return found
