"""The networks: the paper's seven, all of timm's and torchvision's, and the user's own."""

import contextlib
import difflib
import functools
import importlib
import io
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import is_lazy

from dsstudy.errors import InputError, last_line, message_of, quoted
from dsstudy.spec.model_counts import COUNTED_CLASSES, Counts
from dsstudy.spec.trial import Trial

if TYPE_CHECKING:
    import pandas


# torchvision and timm are imported where they are used: each takes a rank seconds to load.


class LeNet(nn.Module):
    """The network of the DeepSpeed CIFAR-10 example, after LeCun et al. (1998).

    Two 5x5 convolutions of 6 and 16 channels, each with ReLU and 2x2 max-pooling, then linear
    layers of 120, 84 and `classes`: 62,006 parameters for 10 classes of 32x32 images. `image_size`
    is the side of the images in pixels, at least 16.
    """

    def __init__(self, classes: int = 10, image_size: int = 32):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2  # after two 5x5 convolutions, each with pooling
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.linear1 = nn.Linear(16 * side * side, 120)
        self.linear2 = nn.Linear(120, 84)
        self.linear3 = nn.Linear(84, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores of shape (B, classes) for images of shape (B, 3, side, side)."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.linear1(x.flatten(1)))
        x = F.relu(self.linear2(x))
        return self.linear3(x)


def build_model(trial: Trial, classes: int) -> nn.Module:
    """Build a trial's network with the initial weights of its seed.

    Parameters
    ----------
    trial
        Only `model`, `image_size` and `seed` matter.
    classes
        Width of the output layer.

    Returns
    -------
    torch.nn.Module
        On the current default device, fp32, not pretrained; it takes images of shape (B, 3,
        image_size, image_size).

    Raises
    ------
    InputError
        timm or torchvision has no such model, or it cannot take images of that size; or the user's
        own ``module:callable`` cannot be imported, or does not return a module.
    """
    torch.manual_seed(trial.seed)
    if is_own_model(trial):
        return _made_real(trial, _build_own(trial, classes))
    try:
        return _build_known(trial, classes)
    except InputError:
        raise
    except Exception as error:  # the libraries may raise anything
        raise impossible_size(trial, error) from None


def _build_known(trial: Trial, classes: int) -> nn.Module:
    if trial.model == "lenet":
        return LeNet(classes, trial.image_size)
    if trial.model == "vit":
        return _build_timm("vit_base_patch16_224", trial, classes)
    library, _, name = trial.model.rpartition("/")
    build = _build_timm if library == "timm" else _build_torchvision
    return build(name, trial, classes)


def impossible_size(trial: Trial, error: Exception) -> InputError:
    """Return the sentence for images that a library's model does not take."""
    return InputError(
        f"image_size={trial.image_size} is not possible for model={trial.model}: "
        f"{error_reason(error)}; set image_size to one that the architecture takes"
    )


def is_own_model(trial: Trial) -> bool:
    """Say whether a trial's model is the user's own ``module:callable``."""
    return ":" in trial.model


def shapes_device(trial: Trial) -> AbstractContextManager:
    """Return the device on which to inspect a trial's model: one without memory if possible.

    The user's own model is built on the CPU, as its code may not support a device without memory.
    """
    on_cpu = is_own_model(trial) or _needs_memory(trial.model, trial.image_size)
    return torch.device("cpu" if on_cpu else "meta")


@functools.cache
def _needs_memory(model: str, image_size: int) -> bool:
    """Whether a library's model computes its layers' sizes by tensors, as torchvision's RegNet."""
    try:
        with torch.device("meta"):
            _build_known(Trial(model=model, image_size=image_size), COUNTED_CLASSES)
    except NotImplementedError:
        return True
    except Exception:  # whoever builds the model says why
        return False
    return False


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_model(trial: Trial, classes: int = COUNTED_CLASSES) -> Counts:
    """Count a model's parameters and layers, and the arithmetic of a training step per image."""
    from torch.utils.flop_counter import FlopCounterMode

    with shapes_device(trial):
        model = build_model(trial, classes)
        # Batch normalisation needs more than one image.
        images = torch.empty(2, 3, trial.image_size, trial.image_size)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    layers = sum(any(True for _ in m.parameters(recurse=False)) for m in model.modules())
    flops, tensors = counter.get_total_flops() // len(images), len(list(model.parameters()))
    return Counts(parameter_count(model), flops, layers, tensors)


def model_summary(trial: Trial, classes: int = 10, depth: int = 2) -> "pandas.DataFrame":
    """Summarise a trial's model with torchinfo, down to some depth of nested layers.

    Returns
    -------
    pandas.DataFrame
        A row per layer, the whole model first: its kind, output shape for one image, number of
        trainable parameters, multiply-adds for one image.
    """
    import pandas as pd
    import torchinfo

    with shapes_device(trial) as device:
        model = build_model(trial, classes)
    size = (1, 3, trial.image_size, trial.image_size)
    statistics = torchinfo.summary(model, input_size=size, device=device, verbose=0)
    layers = [layer for layer in statistics.summary_list if layer.depth <= depth]
    return pd.DataFrame(
        {
            "layer": ["\u2003" * layer.depth + layer.var_name for layer in layers],
            "kind": [layer.class_name for layer in layers],
            "output shape": ["x".join(map(str, layer.output_size[1:])) for layer in layers],
            "parameters": [f"{layer.trainable_params:,}" for layer in layers],
            "multiply-adds": [f"{_multiply_adds(layer):,}" for layer in layers],
        }
    )


def _multiply_adds(layer: Any) -> int:
    """Sum over the layer's leaves, the only ones whose multiply-adds torchinfo counts."""
    inner = [child for child in layer.children if child.is_leaf_layer]
    return layer.macs if layer.is_leaf_layer else sum(child.macs for child in inner)


def _build_timm(name: str, trial: Trial, classes: int) -> nn.Module:
    import timm

    if not timm.is_model(name):
        lists = "import timm; print(timm.list_models())"
        raise _unknown_model(trial, "timm", timm.list_models(), lists)
    config = timm.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    size: dict[str, Any] = {"img_size": trial.image_size} if fixed else {}
    return timm.create_model(name, num_classes=classes, **size)


def _build_torchvision(name: str, trial: Trial, classes: int) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        lists = "from torchvision import models; print(models.list_models(module=models))"
        raise _unknown_model(trial, "torchvision", known, lists)
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = trial.image_size
    if name.startswith("maxvit"):
        options["input_size"] = (trial.image_size, trial.image_size)
    if name in ("googlenet", "inception_v3"):
        # The auxiliary heads have losses of their own, which no other model has.
        options |= {"aux_logits": False, "init_weights": True}
    return models.get_model(name, weights=None, num_classes=classes, **options)


def _build_own(trial: Trial, classes: int) -> nn.Module:
    """Call the user's ``module:callable`` with ``num_classes``."""
    module, _, name = trial.model.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # a console script or a notebook server may lack it
        sys.path.insert(0, here)
    try:
        make = _without_exit(lambda: getattr(importlib.import_module(module), name))
    except Exception as error:
        raise InputError(
            f"model={trial.model} cannot be imported ({error_reason(error)}): set model to "
            f"module:callable, of a module in the current folder, {here}, installed, or on "
            "PYTHONPATH"
        ) from None
    try:
        model = _without_exit(lambda: make(num_classes=classes))
    except Exception as error:
        raise InputError(
            f"model={trial.model} fails when it is called with num_classes={classes} "
            f"({error_reason(error)}): make it a function or a class that takes num_classes and "
            "returns a torch.nn.Module"
        ) from None
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model={trial.model} returns {quoted(type(model).__name__)}, not a torch.nn.Module: "
            "have it return the network"
        )
    return model


def _without_exit(function: Callable[[], Any]) -> Any:
    """Call a user's function; one that ends the process, as argparse does, raises instead."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return function()
    except SystemExit as error:
        words = last_line(printed.getvalue()) or f"exit code {error.code}"
        raise RuntimeError(
            f"it ends the process, as a parser of command lines does: {words}"
        ) from None


def _made_real(trial: Trial, model: nn.Module) -> nn.Module:
    """Give a model's lazy parameters their shapes and first values, the same on every rank."""
    if not any(is_lazy(one) for one in (*model.parameters(), *model.buffers())):
        return model
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, 3, trial.image_size, trial.image_size))
    except Exception as error:
        raise InputError(
            f"model={trial.model} fails for 2 images, float32 of shape (2, 3, {trial.image_size}, "
            f"{trial.image_size}), from which its lazy layers take their shapes: "
            f"{error_reason(error)}; correct its forward, or set image_size to one that it takes"
        ) from None
    return model.train()


def _unknown_model(trial: Trial, library: str, known: list[str], lists: str) -> InputError:
    near = difflib.get_close_matches(trial.model.partition("/")[2], known, n=1)
    meant = f"did you mean {library}/{near[0]}? Or " if near else ""
    return InputError(
        f"model={trial.model} is not among the models of the installed {library}: {meant}choose "
        f"one of those that .venv/bin/python -c '{lists}' lists"
    )


def error_reason(error: BaseException) -> str:
    """Return an error's message on one line, or its type if it has none."""
    return quoted(" ".join(message_of(error).split()).rstrip(".") or type(error).__name__)
