"""What each network asks of a machine, counted on the models: parameters, and arithmetic."""

import csv
import functools
from importlib import resources
from typing import NamedTuple

COUNTED_CLASSES = 10
"""The width of the output layer that the counts are for."""


class Counts(NamedTuple):
    """What one network asks for.

    Attributes
    ----------
    parameters : int
        All of them; a training step has a gradient for each.
    flops : int
        Floating-point operations for one image, forward and backward, two for a multiply-add:
        those of convolutions, matrix products and attention.
    """

    parameters: int
    flops: int


@functools.cache
def model_counts() -> dict[tuple[str, int], Counts]:
    """Return the counts by model and image size, for every one that a study file here names.

    ``tests/renew_counts.py`` counts them, by `dsstudy.training.models.count_model`.
    """
    text = resources.files("dsstudy.spec").joinpath("model_counts.csv").read_text()
    return {
        (row["model"], int(row["image_size"])): Counts(int(row["parameters"]), int(row["flops"]))
        for row in csv.DictReader(text.splitlines())
    }


def short_model(model: str) -> str:
    """Shorten a library's name of a model to what tells it from its family: ``vit_tiny``."""
    return model.rpartition("/")[2].partition("_patch")[0]
