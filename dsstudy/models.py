"""The networks: the paper's seven, and any other of timm's or torchvision's."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from dsstudy.counts import CLASSES, Counts
from dsstudy.trial import InputError, Trial

if TYPE_CHECKING:
    import pandas

# torchvision and timm are imported where they are used: each costs a rank seconds to load.


class LeNet(nn.Module):
    """The network of the DeepSpeed CIFAR-10 example, after LeCun et al. (1998).

    Two 5x5 convolutions of 6 and 16 channels, each with ReLU and 2x2 max-pooling, then linear
    layers of 120, 84 and `classes`: 62,006 parameters for 10 classes of 32x32 images.

    Parameters
    ----------
    classes
        Width of the output layer.
    image_size
        Side of the input images in pixels, at least 16.
    """

    def __init__(self, classes: int = 10, image_size: int = 32):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2  # after each 5x5 convolution and pooling
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
    """Build a trial's network with the initial weights that its seed gives.

    Parameters
    ----------
    trial
        Its `model`, `image_size` and `seed` count.
    classes
        Width of the output layer.

    Returns
    -------
    torch.nn.Module
        On the current default device, fp32, not pretrained; takes images of shape
        (B, 3, image_size, image_size).

    Raises
    ------
    InputError
        timm or torchvision knows no such model, or it cannot take images of that size.
    """
    torch.manual_seed(trial.seed)
    try:
        if trial.model == "lenet":
            return LeNet(classes, trial.image_size)
        if trial.model == "vit":
            return _timm("vit_base_patch16_224", trial, classes)
        library, _, name = trial.model.rpartition("/")
        return (
            _timm(name, trial, classes) if library == "timm" else _torchvision(name, trial, classes)
        )
    except (AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _cannot_take(trial, error) from None


def check_model(trial: Trial, classes: int = 10) -> None:
    """See whether a trial's model can be had and takes its image size, at no cost in memory.

    Raises
    ------
    InputError
        It cannot, in one sentence.
    """
    with torch.device("meta"):
        model = build_model(trial, classes)
        images = torch.empty(2, 3, trial.image_size, trial.image_size)
        try:
            scores = model(images)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise _cannot_take(trial, error) from None
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, classes):
        raise InputError(
            f"model={trial.model} does not classify images: set model to a classifier of timm's or "
            "torchvision's"
        )


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count(trial: Trial, classes: int = CLASSES) -> Counts:
    """Count a trial's model: its parameters, and the arithmetic of a training step an image."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):  # shapes without memory
        model = build_model(trial, classes)
        images = torch.empty(2, 3, trial.image_size, trial.image_size)  # normalised over a batch
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return Counts(parameter_count(model), counter.get_total_flops() // len(images))


def model_summary(trial: Trial, classes: int = 10, depth: int = 2) -> "pandas.DataFrame":
    """Summarise a trial's model layer by layer, as torchinfo measures it.

    Parameters
    ----------
    trial
        Whose model, at whose `image_size`.
    classes
        Width of the output layer.
    depth
        How many levels of nested layers to show.

    Returns
    -------
    pandas.DataFrame
        A row a layer and one for the whole: its kind, output shape for one image, number of
        trainable parameters, multiply-adds for one image.
    """
    import pandas as pd
    import torchinfo

    with torch.device("meta"):  # shapes without memory
        model = build_model(trial, classes)
    size = (1, 3, trial.image_size, trial.image_size)
    statistics = torchinfo.summary(model, input_size=size, device="meta", verbose=0)
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
    """Sum over the layer's leaves: torchinfo counts multiply-adds there only."""
    inner = [child for child in layer.children if child.is_leaf_layer]
    return layer.macs if layer.is_leaf_layer else sum(child.macs for child in inner)


def _timm(name: str, trial: Trial, classes: int) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise _unknown(trial, "timm", "python -c 'import timm; print(timm.list_models())'")
    config = timm.get_pretrained_cfg(name)
    size: dict[str, Any] = {}
    if config is not None and config.fixed_input_size:
        size["img_size"] = trial.image_size
    return timm.create_model(name, num_classes=classes, **size)


def _torchvision(name: str, trial: Trial, classes: int) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise _unknown(
            trial,
            "torchvision",
            "python -c 'from torchvision import models; print(models.list_models(module=models))'",
        )
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = trial.image_size
    if name.startswith("maxvit"):
        options["input_size"] = (trial.image_size, trial.image_size)
    if name in ("googlenet", "inception_v3"):
        # Without the auxiliary heads, whose losses no other model has.
        options |= {"aux_logits": False, "init_weights": True}
    return models.get_model(name, weights=None, num_classes=classes, **options)


def _unknown(trial: Trial, library: str, command: str) -> InputError:
    return InputError(
        f"model={trial.model} is not among the models of the installed {library}: choose one of "
        f"those that {command} lists"
    )


def _cannot_take(trial: Trial, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return InputError(
        f"image_size={trial.image_size} is not possible for model={trial.model}: {reason}; set "
        "image_size to one that the architecture takes"
    )
