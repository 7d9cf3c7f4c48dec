"""Engine ``ddp``: PyTorch's DistributedDataParallel, one process (rank) per GPU."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dsstudy.spec.trial import Trial
from dsstudy.training.checkpoint import TorchState
from dsstudy.training.loops import LONGEST_WAIT
from dsstudy.training.optimizers import build_optimizer, build_scheduler
from dsstudy.training.session import DTYPES, Session


def train(trial: Trial, model: nn.Module, session: Session) -> None:
    """Train a model as engine ``normal`` does, with gradients averaged over the ranks."""
    backend = "nccl" if session.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    model.to(session.device)
    # Before each step every rank copies rank 0's running statistics of batch normalisation.
    parallel = DistributedDataParallel(model)
    optimizer = build_optimizer(trial, model.parameters())
    scheduler = build_scheduler(trial, optimizer)
    kind, dtype = session.device.type, DTYPES[trial.precision]
    autocast = torch.autocast(kind, dtype, enabled=dtype != torch.float32)
    scaler = torch.amp.GradScaler(kind, enabled=dtype == torch.float16)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    session.resume(DdpState(parallel, session.batch_shape, **parts))

    for epoch in session.epochs():
        parallel.train()
        for images, labels in session.batches(epoch):
            with autocast, _naming_unused(model):
                loss = F.cross_entropy(parallel(images), labels)
            session.step(loss, learning_rate=optimizer.param_groups[0]["lr"])

            optimizer.zero_grad()
            scaler.scale(loss).backward()  # now all ranks hold the same gradients
            session.measure_held_memory()
            if trial.gradient_clipping != "none":
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), trial.gradient_clipping)
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= scale:
                scheduler.step()
            else:  # fp16 gradients overflowed: the step was skipped
                session.skipped_steps += 1

        with autocast:
            session.end_epoch(epoch, model)


@contextlib.contextmanager
def _naming_unused(model: nn.Module) -> Iterator[None]:
    """Name the parameters that took no part in the last loss; DDP only numbers them."""
    try:
        yield
    except RuntimeError as error:
        numbers = re.search(r"did not receive grad for rank \d+: ([\d ]+)", str(error))
        if not numbers:
            raise
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        unused = [trained[int(number)] for number in numbers[1].split()]
        more = f" and {len(unused) - 8} more" if len(unused) > 8 else ""
        raise RuntimeError(
            "parameters of the model take no part in the loss, which DDP does not allow: "
            f"{', '.join(unused[:8])}{more}. Remove them or set their requires_grad to False"
        ) from error


class DdpState(TorchState):
    """The state of PyTorch's objects; loading also restores how DDP packs gradients."""

    def __init__(
        self, parallel: DistributedDataParallel, batch_shape: tuple[int, ...], **parts: Any
    ):
        super().__init__(**parts)
        self.parallel, self.batch_shape = parallel, batch_shape

    def load(self, folder: Path) -> None:
        """Take DDP past its first step, in which it packs gradients differently.

        The packing determines the order in which three or more ranks add up, and so the rounding. A
        resumed training needs the packing that it had before; otherwise its last bits would differ
        from an uninterrupted one. Loading undoes all other effects of this step.

        Source: ``Reducer::rebuild_buckets`` in PyTorch's ``torch/csrc/distributed/c10d``.
        """
        self.parallel(torch.zeros(self.batch_shape, device=self.parallel.device)).sum().backward()
        super().load(folder)
