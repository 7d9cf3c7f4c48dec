"""Tests and notebooks leave the user's own records and caches alone."""

import os
import tempfile

_SCRATCH = tempfile.TemporaryDirectory(prefix="dsstudy-tests-")
os.environ["DSSTUDY_RUNS"] = f"{_SCRATCH.name}/runs"
os.environ["DSSTUDY_CACHE"] = f"{_SCRATCH.name}/cache"
os.environ["DSSTUDY_DATA"] = f"{_SCRATCH.name}/data"
