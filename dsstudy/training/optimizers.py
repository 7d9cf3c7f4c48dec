"""Optimizers and learning rate schedulers."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import lr_scheduler

from dsstudy.spec.trial import Trial


def build_optimizer(
    trial: Trial, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """Build PyTorch's SGD, Adam or AdamW with the trial's settings, otherwise with its defaults.

    DeepSpeed builds its own optimizer from the same settings, in its loop's `deepspeed_config`.
    """
    common: dict[str, Any] = {"lr": trial.learning_rate, "weight_decay": trial.weight_decay}
    if trial.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=trial.momentum, **common)
    adam = torch.optim.AdamW if trial.decoupled_weight_decay else torch.optim.Adam
    return adam(parameters, betas=(trial.beta1, trial.beta2), **common)


def build_scheduler(trial: Trial, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    """Build the scheduler, stepped after each training step; "none" keeps the rate constant."""
    if trial.scheduler == "cyclic":
        return cyclic_factory(trial)(optimizer)
    course = warmup_factor(trial.warmup_steps) if trial.scheduler == "warmup" else lambda step: 1.0
    return lr_scheduler.LambdaLR(optimizer, course)


def warmup_factor(warmup_steps: int) -> Callable[[int], float]:
    """Return DeepSpeed's ``WarmupLR`` from 0 as a factor of the learning rate.

    The rate rises with the logarithm of the step, and is full after `warmup_steps` steps.

    Returns
    -------
    callable
        Maps the number of steps taken so far to a factor from 0 to 1; the first two give 0.

    References
    ----------
    ``deepspeed.runtime.lr_schedules.WarmupLR``, with its default ``warmup_type="log"``, since its
    pull request 6597 (October 2024). Before, as in the paper's year, the first step ran at the full
    rate.
    """
    steps = max(2, warmup_steps)  # as in DeepSpeed: the logarithm of 1 is 0
    return lambda taken: 0.0 if taken == 0 else min(1.0, math.log(taken) / math.log(steps))


def cyclic_factory(trial: Trial) -> Callable[[torch.optim.Optimizer], lr_scheduler.CyclicLR]:
    """Return a function that makes PyTorch's ``CyclicLR``: a triangle from 0 to the rate.

    `deepspeed.initialize` takes such a function too. If momentum is cycled, it falls while the rate
    rises, between PyTorch's default bounds 0.9 and 0.8; with Adam this applies to ``beta1``.
    """
    return lambda optimizer: lr_scheduler.CyclicLR(
        optimizer,
        base_lr=0.0,
        max_lr=trial.learning_rate,
        step_size_up=trial.cycle_steps,
        cycle_momentum=trial.cycle_momentum,
    )
