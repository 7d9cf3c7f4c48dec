"""How a trial is trained: one module an engine, each with one loop, to be read side by side."""

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module

from torch import nn

from dsstudy.spec.trial import Trial
from dsstudy.training.session import Session

ENGINES = {
    "normal": "dsstudy.training.loops.normal",
    "ddp": "dsstudy.training.loops.ddp",
    "deepspeed": "dsstudy.training.loops.deepspeed",
}
"""Where each engine's ``train`` lies. A further engine is one more line, and one more module."""

LAUNCHED = ("ddp", "deepspeed")
"""Engines whose ranks a launcher starts; the others train in the notebook's own process."""

LONGEST_WAIT = timedelta(hours=6)
"""How long ranks wait for one another: rank 0 evaluates alone, which takes a CPU its time."""

Train = Callable[[Trial, nn.Module, Session], None]


def training_loop(engine: str) -> Train:
    """Return an engine's training loop, importing only the libraries that it needs."""
    return import_module(ENGINES[engine]).train
