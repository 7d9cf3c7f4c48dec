"""Tests and notebooks leave the user's own records and caches alone."""

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

_SCRATCH = tempfile.TemporaryDirectory(prefix="dsstudy-tests-")
os.environ["DSSTUDY_RUNS"] = f"{_SCRATCH.name}/runs"
os.environ["DSSTUDY_CACHE"] = f"{_SCRATCH.name}/cache"
os.environ["DSSTUDY_DATA"] = f"{_SCRATCH.name}/data"

# Tests run two at a time, more ranks than cores: one that waits must not keep a core busy.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

# A shell's background jobs ignore Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a run of the demo study left on a two-core machine: the study that the notebooks show.
DEMO = Path(__file__).parent / "tests" / "records" / "demo"
shutil.copytree(DEMO, Path(os.environ["DSSTUDY_RUNS"]) / "demo")

_WARM = contextlib.ExitStack()


def pytest_sessionstart(session):
    """Fork the tests' kernels and ranks from warm processes, as a study does."""
    if not hasattr(session.config, "workerinput") and session.config.getoption("numprocesses", 0):
        return  # the workers run the tests
    from dsstudy.launching.warm_kernels import warm_kernels
    from dsstudy.launching.warm_python import warm_python

    _WARM.enter_context(warm_kernels())
    _WARM.enter_context(warm_python())


def pytest_sessionfinish():
    """End the warm processes."""
    _WARM.close()
