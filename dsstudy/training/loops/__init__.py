"""The training loops: one module per engine, to be read side by side.

A loop is a function ``train(trial, model, session)``. It receives the trial's parameters, the model
with its initial weights, still on the CPU, and this rank's `Session`. It calls the session thus::

    session.resume(state)                        load the checkpoint, if there is one
    for epoch in session.epochs():               all epochs, or those that remain
        for images, labels in session.batches(epoch):
            session.step(loss, learning_rate)    after the forward pass: record both
            session.measure_held_memory()        after the backward pass, when gradients exist
        session.end_epoch(epoch, model)          evaluate, write the record and a checkpoint

``batches`` yields this rank's share of each global batch, on the training device. It measures the
time and takes the checkpoints within an epoch. The loop does the rest: the process group, mixed
precision, gradient clipping, the update, the scheduler. It also counts the steps that it skips when
fp16 gradients overflow: ``session.skipped_steps`` must be right when ``end_epoch`` is called.

``state`` is a `State` of all that training changes: weights, optimizer, scheduler, loss scaler. All
ranks call its ``save`` and ``load`` together. On a CPU, a resumed training must equal an
uninterrupted one bit for bit.

A further engine needs one row in `dsstudy.spec.engines`, one module here with the engine's name and
a function ``train``, and the words about it in README and book.
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
