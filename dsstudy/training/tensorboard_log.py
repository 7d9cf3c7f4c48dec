"""A trial's log for TensorBoard: ``tensorboard --logdir runs/`` shows it beside the others.

The log repeats the record. It is written at the end of each epoch: to read the loss at every step
would make a GPU wait, and the mean over the ranks is not known earlier.
"""

import math
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from dsstudy.records.record import EVENTS, Record


class EventLog:
    """The event file in a trial's folder, written by rank 0.

    It starts with all recorded epochs and replaces the file of an earlier attempt, so that no step
    appears twice; a running TensorBoard forgets the earlier file.
    """

    def __init__(self, record: Record, steps_per_epoch: int):
        for earlier in record.folder.glob(EVENTS):
            earlier.unlink()
        self._writer = SummaryWriter(str(record.folder), purge_step=0)
        epochs = record.epochs()
        steps = record.steps() if epochs else {}
        for number, epoch in enumerate(epochs):
            some = slice(number * steps_per_epoch, (number + 1) * steps_per_epoch)
            self.add_epoch(epoch, steps["loss"][some], steps["learning_rate"][some])

    def add_epoch(self, epoch: dict[str, Any], loss: np.ndarray, learning_rate: np.ndarray) -> None:
        """Log an epoch: ``step/*`` over training steps, ``epoch/*`` over epochs.

        Parameters
        ----------
        epoch
            As in ``epochs.jsonl``; None, for a number that is not finite, is logged as NaN.
        loss, learning_rate
            Shape (steps of the epoch,).
        """
        first, began = (epoch["epoch"] - 1) * len(loss), epoch["started_at"]
        times = began + np.linspace(0, epoch["train_seconds"], len(loss) + 1)[1:]
        for name, values in {"loss": loss, "learning_rate": learning_rate}.items():
            for step, (value, time) in enumerate(zip(values, times, strict=True), start=first + 1):
                self._writer.add_scalar(f"step/{name}", float(value), step, walltime=time)
        for name, value in epoch.items():
            if name not in ("epoch", "started_at"):
                number = math.nan if value is None else value
                self._writer.add_scalar(f"epoch/{name}", number, epoch["epoch"], walltime=times[-1])
        self._writer.flush()
