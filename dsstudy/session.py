"""What every engine's training loop shares: batches, times, evaluation, the record."""

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from dsstudy.data import ImageData, Split, epoch_order, rank_batches
from dsstudy.record import Record
from dsstudy.trial import Trial

PROGRESS_SECONDS = 0.25
"""How often progress is told; reading the loss any oftener would slow a GPU down."""

PIXELS_AT_ONCE = 2**20
"""How many pixels are made into batches in one go: 12 MB in fp32."""


class Session:
    """One rank's view of a training: it deals out batches and keeps the books.

    Parameters
    ----------
    trial
        What is trained.
    data
        The images, on the training device.
    record
        Where rank 0 writes epochs, steps and predictions.
    device
        The training device.
    rank
        This process's number, from 0.
    watch
        Called on rank 0 with the progress, some times a second.

    Attributes
    ----------
    skipped_steps : int
        Steps skipped since the start because fp16 gradients overflowed; the loop keeps it.
    """

    def __init__(
        self,
        trial: Trial,
        data: ImageData,
        record: Record,
        device: torch.device,
        rank: int = 0,
        watch: Callable[[dict[str, Any]], None] = lambda progress: None,
    ):
        self.trial, self.data, self.record = trial, data, record
        self.device, self.rank, self.watch = device, rank, watch
        self.steps_per_epoch = len(data.train) // trial.batch_size
        self.skipped_steps = 0
        self.accuracy: float | None = None
        self._dtype = torch.float32
        if trial.engine == "deepspeed" and trial.precision != "fp32":
            # DeepSpeed keeps the whole model in the lower precision, so its input has to be too.
            self._dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[trial.precision]
        reset_peak_memory(device)

    def epochs(self) -> Iterator[int]:
        """Yield the epochs to train, from 1."""
        yield from range(1, self.trial.epochs + 1)

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield this rank's share of each of an epoch's batches; the clock runs meanwhile.

        Yields
        ------
        tuple of torch.Tensor
            Images of shape (batch_size / processes, 3, image_size, image_size), and labels.
        """
        self._epoch = epoch
        self._losses: list[torch.Tensor] = []
        self._rates: list[float] = []
        self._skipped_before = self.skipped_steps
        order = epoch_order(len(self.data.train), self.trial.seed, epoch).to(self.device)
        synchronize(self.device)
        self._started_at, self._told = time.time(), 0.0
        started = time.perf_counter()
        shares = rank_batches(order, self.trial.batch_size, self.rank, self.trial.processes)
        for some in shares.split(self._steps_at_once(shares.shape[1])):
            images, labels = self.data.train.batch(
                some.flatten(), self.trial.image_size, self._dtype
            )
            yield from zip(*(each.split(shares.shape[1]) for each in (images, labels)), strict=True)
        synchronize(self.device)
        self._train_seconds = time.perf_counter() - started

    def _steps_at_once(self, share: int) -> int:
        """Make some batches at a time: small images would cost more in calls than in work."""
        return max(1, min(32, PIXELS_AT_ONCE // (share * self.trial.image_size**2)))

    def step(self, loss: torch.Tensor, learning_rate: float) -> None:
        """Note one step's loss (this rank's mean) and the learning rate that it is taken with."""
        self._losses.append(loss.detach())
        self._rates.append(learning_rate)
        now = time.perf_counter()
        if self.rank == 0 and now - self._told > PROGRESS_SECONDS:
            self._told = now
            self._tell(loss)

    def end_epoch(self, epoch: int, model: nn.Module, together: bool = False) -> None:
        """Evaluate the model and write the epoch down.

        Parameters
        ----------
        epoch
            The epoch that ends, from 1.
        model
            The model or engine, callable on a batch.
        together
            Every rank evaluates, in step: ZeRO stage 3 spreads each layer over all of them.
            Otherwise rank 0 alone does, on the whole test set.
        """
        losses = self._over_ranks(torch.stack(self._losses).float()) / self.trial.processes
        memory = self._over_ranks(torch.tensor([peak_memory(self.device)], device=self.device))
        if self.rank != 0:
            if together:
                evaluate(model, self.data.test, self.trial, self._dtype)
            return
        self._tell(losses[-1])
        started = time.perf_counter()
        test_loss, predicted = evaluate(model, self.data.test, self.trial, self._dtype)
        eval_seconds = time.perf_counter() - started
        correct = (predicted == self.data.test.labels).sum().item()
        self.accuracy = 100 * correct / len(self.data.test)
        self.record.add_steps(losses.cpu().numpy(), np.array(self._rates))
        self.record.set_predictions(predicted.cpu().numpy())
        self.record.add_epoch(
            {
                "epoch": epoch,
                "train_loss": _finite(losses.mean().item()),
                "test_loss": _finite(test_loss),
                "test_accuracy": self.accuracy,
                "learning_rate": self._rates[-1],
                "train_seconds": self._train_seconds,
                "eval_seconds": eval_seconds,
                "images_per_second": len(losses) * self.trial.batch_size / self._train_seconds,
                "peak_memory_mb": memory.item() / 2**20,
                "skipped_steps": self.skipped_steps - self._skipped_before,
                "started_at": self._started_at,
            }
        )
        self._tell(losses[-1])

    def _over_ranks(self, values: torch.Tensor) -> torch.Tensor:
        if dist.is_initialized():
            dist.all_reduce(values)
        return values

    def _tell(self, loss: torch.Tensor) -> None:
        progress = {
            "pid": os.getpid(),
            "epoch": self._epoch,
            "epochs": self.trial.epochs,
            "step": len(self._losses),
            "steps": self.steps_per_epoch,
            "loss": _finite(loss.item()),
            "accuracy": self.accuracy,
        }
        self.record.set_progress(progress)
        self.watch(progress)


def evaluate(
    model: nn.Module, test: Split, trial: Trial, dtype: torch.dtype = torch.float32
) -> tuple[float, torch.Tensor]:
    """Evaluate a model on a whole split, in ``eval()`` mode.

    Returns
    -------
    loss : float
        Mean cross-entropy.
    predicted : torch.Tensor
        int64, shape (N,): the class with the highest score for each image.
    """
    size = max(16, min(512, 2**22 // trial.image_size**2))  # some 100 MB of images at once
    total, predicted = 0.0, []
    model.eval()
    with torch.no_grad():
        for indices in torch.arange(len(test), device=test.labels.device).split(size):
            images, labels = test.batch(indices, trial.image_size, dtype)
            scores = model(images).float()
            total += F.cross_entropy(scores, labels, reduction="sum").item()
            predicted.append(scores.argmax(1))
    return total / len(test), torch.cat(predicted)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given, so that a clock reads true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure this process's peak memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def peak_memory(device: torch.device) -> int:
    """Return this process's peak memory in bytes: allocated on a GPU, resident on a CPU.

    Outside Linux, where it cannot be reset, the resident peak is that of the process's life.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
