"""How a trial is trained: one module an engine, each with one loop, to be read side by side."""

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module

from torch import nn

from dsstudy.spec.trial import Trial
from dsstudy.training.session import Session

LONGEST_WAIT = timedelta(hours=6)
"""How long ranks wait for one another: rank 0 evaluates alone, which takes a CPU its time."""

Train = Callable[[Trial, nn.Module, Session], None]


def training_loop(engine: str) -> Train:
    """Return an engine's training loop, importing only the libraries that it needs."""
    return import_module(f"dsstudy.training.loops.{engine}").train
