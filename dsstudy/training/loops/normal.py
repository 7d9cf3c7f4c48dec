"""Engine ``normal``: plain PyTorch, one process."""

import torch
import torch.nn.functional as F
from torch import nn

from dsstudy.spec.trial import Trial
from dsstudy.training.checkpoint import TorchState
from dsstudy.training.optimizers import build_optimizer, build_scheduler
from dsstudy.training.session import DTYPES, Session


def train(trial: Trial, model: nn.Module, session: Session) -> None:
    """Train a model with PyTorch's own optimizer, scheduler and mixed precision."""
    model.to(session.device)
    optimizer = build_optimizer(trial, model.parameters())
    scheduler = build_scheduler(trial, optimizer)
    kind, dtype = session.device.type, DTYPES[trial.precision]
    autocast = torch.autocast(kind, dtype, enabled=dtype != torch.float32)
    scaler = torch.amp.GradScaler(kind, enabled=dtype == torch.float16)
    state = TorchState(model=model, optimizer=optimizer, scheduler=scheduler, scaler=scaler)
    session.resume(state)

    for epoch in session.epochs():
        model.train()
        for images, labels in session.batches(epoch):
            with autocast:
                loss = F.cross_entropy(model(images), labels)
            session.step(loss, learning_rate=optimizer.param_groups[0]["lr"])

            optimizer.zero_grad()
            scaler.scale(loss).backward()
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
