"""Checks of a model before it is trained: it must classify images in each mode in which it runs."""

import functools

import torch
from torch import nn

from dsstudy.errors import InputError
from dsstudy.spec.engines import ENGINES, one_of
from dsstudy.spec.trial import Trial
from dsstudy.training.models import (
    build_model,
    error_reason,
    impossible_size,
    is_own_model,
    shapes_device,
)


def check_model(trial: Trial, classes: int = 10) -> None:
    """Check that a trial's model exists and returns scores of classes for images of its size.

    It is tried in the modes in which it will run: ``train()`` for the training, with one image if
    that is all that a rank has, and ``eval()`` unless the trial is evaluated in ``train()`` mode.

    Raises
    ------
    InputError
        It does not; the sentence says why.
    """
    if is_own_model(trial):  # its file may change meanwhile
        _check(trial, classes)
    else:
        _check_known(Trial(**trial.model_dump(include=_LOOKED_AT)), classes)


_LOOKED_AT = {"model", "image_size", "batch_size", "processes", "engine", "evaluation"}
"""The parameters that the check looks at: a study's trials often differ in others alone."""


def _check(trial: Trial, classes: int) -> None:
    with shapes_device(trial):
        model = build_model(trial, classes)
        _check_parameters(trial, model)
        _check_scores(trial, model, classes, training=True)
        if trial.batch_size == trial.processes:
            _check_single_image(trial, model)
        if trial.evaluation == "eval":
            _check_scores(trial, model, classes, training=False)


_check_known = functools.cache(_check)


def _check_parameters(trial: Trial, model: nn.Module) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            f"model={trial.model} has no trainable parameter: leave requires_grad of some of them "
            "true, or set model to another one"
        )
    scalars = [name for name, parameter in model.named_parameters() if parameter.dim() == 0]
    if scalars and not ENGINES[trial.engine].takes_scalars:
        others = one_of(name for name, engine in ENGINES.items() if engine.takes_scalars)
        raise InputError(
            f"model={trial.model} has parameters that are single numbers ({', '.join(scalars[:3])})"
            f", which engine={trial.engine} cannot share among ranks: give them the shape (1,), or "
            f"set engine to {others}"
        )


def _check_scores(trial: Trial, model: nn.Module, classes: int, training: bool) -> None:
    model.train(training)
    mode = "train()" if training else "eval()"
    try:
        scores = model(_images(trial, 2))
    except Exception as error:  # libraries and users may raise anything
        raise _fails(trial, mode, error) from None
    right = isinstance(scores, torch.Tensor) and scores.shape == (2, classes)
    if not right or not scores.is_floating_point():
        instead = "set model to a classifier of timm's or torchvision's"
        if is_own_model(trial):
            instead = "have its forward return scores of shape (images, num_classes), in every mode"
        raise InputError(
            f"model={trial.model} does not classify images: in {mode} mode it returns "
            f"{_kind(scores)} for 2 images of {classes} classes, not numbers of shape "
            f"(2, {classes}); {instead}"
        )
    if training and not scores.requires_grad:
        raise InputError(
            f"model={trial.model} cannot learn: no trainable parameter takes part in its scores; "
            "have its forward compute them from its parameters, without detach or no_grad"
        )
    if training and not ENGINES[trial.engine].takes_unused:
        _check_all_take_part(trial, model, scores)


def _check_all_take_part(trial: Trial, model: nn.Module, scores: torch.Tensor) -> None:
    try:
        scores.sum().backward()
    except Exception:  # not every operation has a backward pass on a device without memory
        return
    trained = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    unused = [name for name, parameter in trained if parameter.grad is None]
    if unused:
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        others = one_of(name for name, engine in ENGINES.items() if engine.takes_unused)
        own = "remove them, set their requires_grad to False, or " if is_own_model(trial) else ""
        raise InputError(
            f"model={trial.model} has parameters that take no part in its scores "
            f"({', '.join(unused[:3])}{more}), which engine={trial.engine} does not allow: "
            f"{own}set engine to {others}"
        )


def _check_single_image(trial: Trial, model: nn.Module) -> None:
    model.train()
    try:
        model(_images(trial, 1))
    except Exception as error:
        raise InputError(
            f"batch_size={trial.batch_size} leaves one image per rank with processes="
            f"{trial.processes}, with which model={trial.model} cannot train "
            f"({error_reason(error)}): set batch_size to at least {2 * trial.processes}"
        ) from None


def _images(trial: Trial, number: int) -> torch.Tensor:
    return torch.zeros(number, 3, trial.image_size, trial.image_size)


def _kind(scores: object) -> str:
    if not isinstance(scores, torch.Tensor):
        return f"a {type(scores).__name__}"
    kind = "" if scores.is_floating_point() else f"{scores.dtype} "
    return f"{kind}{tuple(scores.shape)}"


def _fails(trial: Trial, mode: str, error: Exception) -> InputError:
    side = trial.image_size
    if not is_own_model(trial):
        return impossible_size(trial, error)
    return InputError(
        f"model={trial.model} fails in {mode} mode for 2 images, float32 of shape (2, 3, {side}, "
        f"{side}): {type(error).__name__}: {error_reason(error)}; correct its forward, or set "
        "image_size to one that it takes"
    )
