"""The parameters, operations, layers and tensors of each network, counted on the models."""

import csv
import functools
from importlib import resources
from typing import NamedTuple

COUNTED_CLASSES = 10
"""The width of the output layer when the networks were counted."""


class Counts(NamedTuple):
    """The size of one network.

    Attributes
    ----------
    parameters : int
        The number of parameters; a training step has a gradient for each.
    flops : int
        Floating-point operations per image, forward and backward, two per multiply-add: those of
        convolutions, matrix products and attention.
    layers : int
        Layers with parameters of their own: convolutions, linear and normalising layers ...
    tensors : int
        Parameter tensors, such as a layer's weights and its biases: an optimizer that updates them
        one after the other starts its operations anew for each.
    """

    parameters: int
    flops: int
    layers: int
    tensors: int


@functools.cache
def model_counts() -> dict[tuple[str, int], Counts]:
    """Return the counts by model and image size, for every model of the project's study files.

    ``tests/renew_counts.py`` makes them with `dsstudy.training.models.count_model`.
    """
    text = resources.files("dsstudy.spec").joinpath("model_counts.csv").read_text()
    return {
        (row["model"], int(row["image_size"])): Counts(*(int(row[name]) for name in Counts._fields))
        for row in csv.DictReader(text.splitlines())
    }


def short_model(model: str) -> str:
    """Shorten a library's model name to what distinguishes it in its family: ``vit_tiny``."""
    return model.rpartition("/")[2].partition("_patch")[0]
