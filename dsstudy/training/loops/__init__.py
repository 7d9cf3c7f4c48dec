"""The training loops: one module per engine, to be read side by side.

A loop is a function ``train(trial, model, session)``. It is given the trial's parameters, the model
with its initial weights, and the `Session`, and calls the session in this order::

    session.resume(state)                  once, when model, optimizer and scheduler exist
    for epoch in session.epochs():
        for images, labels in session.batches(epoch):
            session.step(loss, learning_rate)    after the forward pass, before the update
            session.weigh()                      after the backward pass
        session.end_epoch(epoch, model)

``resume`` loads the checkpoint, if there is one, into the given state, a `State` with ``save`` and
``load``, which all ranks call together; the session saves further checkpoints of it. ``batches``
yields this rank's share of each global batch, and takes the checkpoints within an epoch. ``step``
records the loss, ``weigh`` measures memory, ``end_epoch`` evaluates and writes the record.

The loop does all the rest: the process group, mixed precision, gradient clipping, the update, the
scheduler. It counts the steps that it skips in ``session.skipped_steps``, before ``end_epoch``.

A further engine is a row in `dsstudy.spec.engines`, and a module here with the engine's name.
"""

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module

from torch import nn

from dsstudy.spec.trial import Trial
from dsstudy.training.session import Session

LONGEST_WAIT = timedelta(hours=6)
"""How long ranks wait for one another; rank 0 evaluates alone, which is slow on a CPU."""

Train = Callable[[Trial, nn.Module, Session], None]


def training_loop(engine: str) -> Train:
    """Return an engine's training loop; this imports only the libraries that it needs."""
    return import_module(f"dsstudy.training.loops.{engine}").train
