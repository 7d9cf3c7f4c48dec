"""What the training loops of all engines share: batches, times, evaluation, the record."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from dsstudy.errors import InputError
from dsstudy.images.data import ImageData, Split, epoch_order, rank_batches
from dsstudy.records.record import Record
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import Trial
from dsstudy.training.agreement import check_ranks_agree
from dsstudy.training.checkpoint import State, checkpoint_name, write_checkpoint
from dsstudy.training.memory import held_memory, peak_memory, reset_peak_memory
from dsstudy.training.models import error_reason, is_own_model

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

PROGRESS_SECONDS = 0.25
"""How often progress is reported; reading the loss more often would slow down a GPU."""

PIXELS_AT_ONCE = 2**20
"""How many pixels are made into batches at a time: 12 MB in fp32."""


class Session:
    """One rank's view of a training: it provides the batches and keeps the record.

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
        Receives the progress on rank 0, a few times per second.
    start_from
        The checkpoint to resume from; None to start from the beginning.

    Attributes
    ----------
    batch_shape : tuple of int
        The shape of this rank's share of a batch of images.
    skipped_steps : int
        Steps skipped so far because fp16 gradients overflowed; the loop counts them.
    """

    def __init__(
        self,
        trial: Trial,
        data: ImageData,
        record: Record,
        device: torch.device,
        rank: int = 0,
        watch: Callable[[dict[str, Any]], None] = lambda progress: None,
        start_from: Path | None = None,
    ):
        self.trial, self.data, self.record = trial, data, record
        self.device, self.rank, self.watch = device, rank, watch
        self.start_from = start_from
        self.steps_per_epoch = len(data.train) // trial.batch_size
        share = trial.batch_size // trial.processes
        self.batch_shape = (share, 3, trial.image_size, trial.image_size)
        self.skipped_steps = 0
        self.accuracy: float | None = None
        self._held: int | None = None
        self._begin(1)
        self._events = None
        if trial.tensorboard and rank == 0:
            from dsstudy.training.tensorboard_log import EventLog  # slow to import

            self._events = EventLog(record, self.steps_per_epoch)
        _round_factors(trial.precision == "tf32")
        self._dtype = DTYPES[trial.precision if ENGINES[trial.engine].casts_model else "fp32"]
        reset_peak_memory(device)

    def resume(self, state: State) -> None:
        """Load the checkpoint, if there is one, into the given state; later ones save it."""
        self._state = state
        if self.start_from is None:
            return
        self._load(state, self.start_from)
        own = torch.load(self.start_from / f"rank{self.rank}.pt", weights_only=True)
        self._epoch, self.skipped_steps = own["epoch"], own["skipped_steps"]
        self._skipped_before, self._train_seconds = own["skipped_before"], own["train_seconds"]
        self._losses.extend(own["losses"].to(self.device))
        self._rates.extend(own["rates"])
        torch.set_rng_state(own["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(own["random_cuda"], self.device)

    def _load(self, state: State, checkpoint: Path) -> None:
        try:
            state.load(checkpoint)
        except RuntimeError as error:  # the checksums are right, so the network has changed
            if not is_own_model(self.trial):
                raise
            raise InputError(
                f"checkpoint {checkpoint.name} does not fit model={self.trial.model}, whose code "
                f"has changed since it was written ({error_reason(error)}): put the code back, or "
                "set overwrite to true to train from the beginning"
            ) from None

    def epochs(self) -> Iterator[int]:
        """Yield the epochs to train: from 1, or from the checkpoint's epoch."""
        for epoch in range(self._epoch, self.trial.epochs + 1):
            if epoch != self._epoch:
                self._begin(epoch)
            yield epoch

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._losses: list[torch.Tensor] = []
        self._rates: list[float] = []
        self._train_seconds = 0.0
        self._skipped_before = self.skipped_steps

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield this rank's share of each of an epoch's remaining batches, and measure the time.

        When the loop asks for a batch, it has finished the previous step. So checkpoints within an
        epoch are taken here.

        Yields
        ------
        tuple of torch.Tensor
            Images of shape `batch_shape`, and labels.
        """
        drawn = epoch if self.trial.reshuffle else 1
        order = epoch_order(len(self.data.train), self.trial.seed, drawn)
        order = order.to(self.data.train.source.device)
        self._started_at, self._reported = time.time(), 0.0
        shares = rank_batches(order, self.trial.batch_size, self.rank, self.trial.processes)
        left, size = shares[len(self._losses) :], self.trial.image_size
        self._start_clock()
        groups = left.split(self._steps_at_once(shares.shape[1])) if len(left) else ()
        together = self.data.train.batches((some.flatten() for some in groups), size, self._dtype)
        for images, labels in together:
            self._made = images
            split = (each.split(shares.shape[1]) for each in (images, labels))
            for batch in zip(*split, strict=True):
                yield batch
                if self._checkpoint_is_due():
                    self._stop_clock()
                    self._take_checkpoint()
                    self._start_clock()
        self._stop_clock()

    def _start_clock(self) -> None:
        synchronize(self.device)
        self._clock = time.perf_counter()

    def _stop_clock(self) -> None:
        synchronize(self.device)
        self._train_seconds += time.perf_counter() - self._clock

    def _checkpoint_is_due(self) -> bool:
        """Whether to take a checkpoint after this step; `end_epoch` does so after the last one."""
        every, step = self.trial.checkpoint_steps, len(self._losses)
        if every == "none" or step == self.steps_per_epoch:
            return False
        return ((self._epoch - 1) * self.steps_per_epoch + step) % every == 0

    def _take_checkpoint(self) -> None:
        facts: dict[str, Any] = {"trial": self.trial.name, "fingerprint": self.data.fingerprint}
        facts |= {"device": self.device.type, "threads": torch.get_num_threads()}
        name = checkpoint_name(self._epoch, len(self._losses))
        write_checkpoint(self.record.checkpoints, name, facts, self._save, self.rank)

    def _save(self, folder: Path) -> None:
        self._state.save(folder)
        own = {
            "epoch": self._epoch,
            "losses": torch.stack(self._losses).cpu(),
            "rates": self._rates,
            "train_seconds": self._train_seconds,
            "skipped_steps": self.skipped_steps,
            "skipped_before": self._skipped_before,
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            own["random_cuda"] = torch.cuda.get_rng_state(self.device)
        torch.save(own, folder / f"rank{self.rank}.pt")

    def _steps_at_once(self, share: int) -> int:
        """Return how many batches to make at once: small images cost less together."""
        return max(1, min(32, PIXELS_AT_ONCE // (share * self.trial.image_size**2)))

    def step(self, loss: torch.Tensor, learning_rate: float) -> None:
        """Record one step's loss (this rank's mean) and learning rate."""
        self._losses.append(loss.detach())
        self._rates.append(learning_rate)
        self._report_sometimes()

    def measure_held_memory(self) -> None:
        """Measure the held memory once, after the last backward pass of the first epoch.

        Then weights, gradients and optimizer states all exist. Images and losses do not count.
        """
        if self._held is None and len(self._losses) == self.steps_per_epoch:
            self._stop_clock()
            self._held = held_memory(self.device, [self._made, *self._losses])
            self._start_clock()

    def end_epoch(self, epoch: int, model: nn.Module, together: bool = False) -> None:
        """Take a checkpoint, evaluate the model and record the epoch.

        An epoch that an interrupted attempt has already recorded stays unchanged.

        Parameters
        ----------
        epoch
            The epoch that ends, from 1.
        model
            The model or engine, callable on a batch.
        together
            Whether all ranks evaluate (ZeRO stage 3 spreads each layer over them), not only rank 0.
        """
        if epoch == self.trial.epochs and not together:  # in stage 3, ranks have different weights
            check_ranks_agree(model)
        losses = self._sum_over_ranks(torch.stack(self._losses).float()) / self.trial.processes
        memory = [peak_memory(self.device), self._held or 0]
        peak, held = self._sum_over_ranks(torch.tensor(memory, device=self.device)).tolist()
        if epoch < self.trial.epochs or self.trial.keep_checkpoint:
            self._report()
            self._take_checkpoint()
        recorded = self.record.epochs()[epoch - 1 : epoch]
        if recorded:
            self._compare(recorded[0], _finite_or_none(losses.mean().item()))
        elif self.rank == 0:
            started = time.perf_counter()
            test_loss, predicted = self._evaluate(model)
            eval_seconds = time.perf_counter() - started
            correct = (predicted == self.data.test.labels).sum().item()
            self.accuracy = 100 * correct / len(self.data.test)
            line = {
                "epoch": epoch,
                "train_loss": _finite_or_none(losses.mean().item()),
                "test_loss": _finite_or_none(test_loss),
                "test_accuracy": self.accuracy,
                "learning_rate": self._rates[-1],
                "train_seconds": self._train_seconds,
                "eval_seconds": eval_seconds,
                "images_per_second": len(losses) * self.trial.batch_size / self._train_seconds,
                "peak_memory_mb": peak / 2**20,
                "held_memory_mb": held / 2**20,
                "skipped_steps": self.skipped_steps - self._skipped_before,
                "started_at": self._started_at,
            }
            steps = losses.cpu().numpy(), np.array(self._rates)
            self.record.add_steps((epoch - 1) * self.steps_per_epoch, *steps)
            self.record.set_predictions(predicted.cpu().numpy())
            if self._events:
                self._events.add_epoch(line, *steps)
            self.record.add_epoch(
                line
            )  # last: the last epoch's line says that the trial is trained
            self._report()
        elif together:
            self._evaluate(model)

    def _evaluate(self, model: nn.Module) -> tuple[float, torch.Tensor]:
        return evaluate(model, self.data.test, self.trial, self._dtype, self._report_sometimes)

    def _compare(self, recorded: dict[str, Any], loss: float | None) -> None:
        """Report an epoch whose loss differs from the recorded one when it is trained again."""
        self.accuracy = recorded["test_accuracy"]
        if self.rank == 0 and loss != recorded["train_loss"]:
            print(
                f"epoch {recorded['epoch']} had to be trained again to resume from it, and its "
                f"loss is now {loss}, not {recorded['train_loss']} as recorded, which stays: "
                "versions, data or hardware have changed, or a GPU added up in another order"
            )

    def _sum_over_ranks(self, values: torch.Tensor) -> torch.Tensor:
        if dist.is_initialized():
            dist.all_reduce(values)
        return values

    def _report_sometimes(self) -> None:
        if self.rank == 0 and time.perf_counter() - self._reported > PROGRESS_SECONDS:
            self._report()

    def _report(self) -> None:
        if self.rank != 0:
            return
        self._reported = time.perf_counter()
        progress = {
            "epoch": self._epoch,
            "epochs": self.trial.epochs,
            "step": len(self._losses),
            "steps": self.steps_per_epoch,
            "loss": _finite_or_none(self._losses[-1].item()),
            "accuracy": self.accuracy,
            "told_at": time.time(),  # evaluation counts as progress too
        }
        self.record.set_progress(progress)
        self.watch(progress)


def evaluate(
    model: nn.Module,
    test: Split,
    trial: Trial,
    dtype: torch.dtype = torch.float32,
    report: Callable[[], None] = lambda: None,
) -> tuple[float, torch.Tensor]:
    """Evaluate a model on a whole split, in the trial's mode; `report` is called after each batch.

    In ``train()`` mode, as in the DeepSpeed example of 2022, dropout is active and batch
    normalisation uses each batch's own statistics. So batches have the trial's size and mixed
    classes: in an image folder's order, each batch would have a single class.

    Returns
    -------
    loss : float
        Mean cross-entropy.
    predicted : torch.Tensor
        int64, shape (N,): the class with the highest score for each image.
    """
    size = max(16, min(512, 2**22 // trial.image_size**2))  # about 100 MB of images at a time
    guard: AbstractContextManager = contextlib.nullcontext()
    batches = torch.arange(len(test)).split(size)
    if trial.evaluation == "train":
        guard = restore_after(model)
        order = epoch_order(len(test), trial.seed, epoch=0)  # training epochs start at 1
        # Spread the remainder: batch normalisation fails for a last batch of one image.
        batches = order.tensor_split(max(1, len(test) // trial.batch_size))
    total, predicted = 0.0, torch.empty_like(test.labels)
    model.train(trial.evaluation == "train")
    with torch.no_grad(), guard:
        made = test.batches(batches, trial.image_size, dtype)
        for indices, (images, labels) in zip(batches, made, strict=True):
            scores = model(images).float()
            total += F.cross_entropy(scores, labels, reduction="sum").item()
            predicted[indices] = scores.argmax(1)
            report()
    return total / len(test), predicted


@contextlib.contextmanager
def restore_after(model: nn.Module) -> Iterator[None]:
    """Restore random state and buffers afterwards: evaluation must not affect training."""
    before = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng():
        yield
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work, so that clocks are right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _finite_or_none(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _round_factors(yes: bool) -> None:
    """Let a GPU round the factors of fp32 products to TF32, or forbid it.

    By itself PyTorch does so in convolutions and not in matrix products, so that its fp32 is
    neither. These are its older switches: the newer one, ``torch.backends.fp32_precision``, makes
    ``torch.backends.cudnn.flags`` raise an error (findings/true_fp32_breaks_cudnn_flags.sh).
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = yes
