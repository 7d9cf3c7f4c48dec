"""The paper: its printed tables as data, its settings, and the names it uses.

Gongbo Liang and Izzat Alsmadi, "Benchmark Assessment for DeepSpeed Optimization Library",
arXiv:2202.12831, 28 February 2022.
"""

import csv
from importlib import resources
from typing import TYPE_CHECKING

from dsstudy.spec.engines import DEEPSPEED, ENGINES, NORMAL
from dsstudy.spec.model_counts import model_counts, short_model
from dsstudy.spec.trial import ARCHITECTURES, Trial

if TYPE_CHECKING:
    import pandas

EPOCHS = 25
"""The epochs of every trial. Source: section 3.1."""

BATCH_SIZE = 16
"""Images per step, over all GPUs. Source: section 3.1."""

PROCESSES = {"deepspeed": 2, "normal": 1}
"""Processes by engine, one per GPU. Source: section 3.1."""

PRECISION = {"deepspeed": "fp16", "normal": "fp32"}
"""Precision by engine. Source: section 3.1."""

TRAIN_IMAGES = 50_000
"""CIFAR-10's training set. Source: Krizhevsky, 2009."""

STEPS_PER_EPOCH = TRAIN_IMAGES // BATCH_SIZE
"""Optimizer steps in an epoch."""

STEPS = STEPS_PER_EPOCH * EPOCHS
"""Optimizer steps of every trial."""

TEST_IMAGES = 10_000
"""CIFAR-10's test set, on which every accuracy was measured. Source: Krizhevsky, 2009."""

NAMES = {
    "lenet": "LeNet",
    "alexnet": "AlexNet",
    "vgg11_bn": "VGG11_BN",
    "resnet18": "ResNet-18",
    "densenet121": "DenseNet-121",
    "squeezenet1_0": "SqueezeNet-v1.0",
    "vit": "ViT",
} | {name: engine.title for name, engine in ENGINES.items()}
"""Architectures and engines as the paper's tables write them."""

CAPACITY = {
    name: model_counts()[name, Trial(model=name).image_size].parameters for name in ARCHITECTURES
}
"""Parameters of each architecture with ten outputs."""

PAPER_ENGINES = (DEEPSPEED, NORMAL)

SETTINGS = ("SGD", "SGD+S", "Adam+S")

SCHEDULERS = {"deepspeed": "warmup", "normal": "cyclic"}
"""The scheduler that +S stands for, by engine, in our names. Source: section 3.1."""

CELL = ["architecture", "engine", "setting"]
"""The columns that identify a trial of the paper."""

CELLS = tuple(
    (architecture, engine, setting)
    for architecture in ARCHITECTURES
    for engine in PAPER_ENGINES
    for setting in SETTINGS
)
"""The 42 trials in the order of the two tables, as in `CELL`."""

PANELS = {
    "a": {"deepspeed": "Adam+S", "normal": "SGD"},
    "b": {"deepspeed": "Adam+S", "normal": "Adam+S"},
    "c": {"deepspeed": "SGD", "normal": "SGD"},
    "d": {"deepspeed": "SGD+S", "normal": "SGD+S"},
}
"""The panels of Figure 1, with the setting of each engine. Source: section 3.2.1."""


def printed_values(column: str) -> "pandas.DataFrame":
    """Return the paper's Table 1 or Table 2.

    Parameters
    ----------
    column
        ``best_accuracy`` (Table 1, percent) or ``seconds_per_epoch`` (Table 2).

    Returns
    -------
    pandas.DataFrame
        42 rows in the order of `CELLS`: ``architecture``, ``engine``, ``setting``, ``value``.
    """
    import pandas as pd

    table, field = {
        "best_accuracy": ("table1.csv", "accuracy_percent"),
        "seconds_per_epoch": ("table2.csv", "seconds_per_epoch"),
    }[column]
    text = resources.files("dsstudy.paper").joinpath(table).read_text()
    printed = {_row_cell(row): float(row[field]) for row in csv.DictReader(text.splitlines())}
    rows = [(*cell, printed[cell]) for cell in CELLS]
    return pd.DataFrame(rows, columns=[*CELL, "value"])


def printed_by_cell(column: str) -> "pandas.Series[float]":
    """Return `printed_values` as a series by architecture, engine and setting."""
    return printed_values(column).set_index(CELL)["value"]


def cell_label(architecture: str, engine: str, setting: str) -> str:
    """Name a trial for readers: "DeepSpeed LeNet, SGD+S"."""
    return f"{NAMES[engine]} {NAMES[architecture]}, {setting}"


def network_label(architecture: str, model: str) -> str:
    """Name a network by its architecture, and by the model if another one stands in for it."""
    name = NAMES.get(architecture, architecture)
    return name if model == architecture else f"{name} ({short_model(model)})"


def _row_cell(row: dict[str, str]) -> tuple[str, str, str]:
    optimizer = {"sgd": "SGD", "adam": "Adam"}[row["optimizer"]]
    setting = f"{optimizer}+S" if row["scheduler"] == "yes" else optimizer
    return row["model"], row["engine"], setting
