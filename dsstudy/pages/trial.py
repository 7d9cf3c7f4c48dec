"""Figures and tables of one trial."""

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dsstudy.records.record import Record
from dsstudy.report.figure_style import ENGINE_COLORS, literal
from dsstudy.report.image_row import image_row_figure
from dsstudy.report.origin import values_table
from dsstudy.spec.engines import ENGINES

if TYPE_CHECKING:
    from dsstudy.images.data import ImageData

MOST_LABELS = 100
"""Of more classes, the confusion matrix shows their numbers instead of their names."""


def curves_figure(record: Record) -> Figure:
    """Draw a trial's training loss, test loss and test accuracy over the epochs."""
    trial, epochs = record.trial(), pd.DataFrame(record.epochs())
    assert trial is not None
    color = ENGINE_COLORS[trial.engine]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    loss = record.steps()["loss"]
    at = (np.arange(len(loss)) + 1) / (len(loss) / len(epochs))
    left.plot(at, loss, color=color, alpha=0.15, linewidth=1, label="training, each step")
    left.plot(epochs["epoch"], epochs["train_loss"], "o-", color=color, label="training, epoch")
    left.plot(epochs["epoch"], epochs["test_loss"], "s--", color="0.25", label="test")
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    left.legend()
    right.plot(
        epochs["epoch"],
        epochs["test_accuracy"],
        "o-",
        color=color,
        label=ENGINES[trial.engine].title,
    )
    chance = 100 / record.result()["environment"]["dataset"]["classes"]  # type: ignore[index]
    right.axhline(chance, color="0.5", linestyle=":", label="chance")
    right.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(0, 100))
    right.legend()
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def confusion_figure(record: Record, data: "ImageData") -> Figure:
    """Draw, for each true class, the share of its test images predicted as each class."""
    labels, predicted = data.test.labels.cpu().numpy(), record.predictions()
    count = len(data.classes)
    table = np.zeros((count, count), dtype=np.float32)
    np.add.at(table, (labels, predicted), 1)
    share = 100 * table / table.sum(axis=1, keepdims=True).clip(min=1)
    side = max(4.5, min(0.62 * count, 14))
    figure, axes = plt.subplots(figsize=(side + 1.5, side), layout="constrained")
    scale: dict[str, Any] = {"cmap": "cividis", "vmin": 0, "vmax": 100}
    label = "share of the true class (%)"
    if count > MOST_LABELS:  # a picture, since a mesh of a million cells takes a minute
        figure.colorbar(axes.imshow(share, interpolation="nearest", **scale), label=label)
    else:
        names = list(map(literal, data.classes))
        numbers = {"annot": count <= 20, "fmt": ".0f", "annot_kws": {"size": 9}}
        axis = {"xticklabels": names, "yticklabels": names, "cbar_kws": {"label": label}}
        sns.heatmap(share, ax=axes, square=True, **axis, **numbers, **scale)
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def mistakes_figure(record: Record, data: "ImageData", columns: int = 10) -> Figure:
    """Show wrongly classified test images, from as many true classes as possible."""
    labels, predicted = data.test.labels.cpu().numpy(), record.predictions()
    wrong = np.flatnonzero(labels != predicted)
    # Take the first mistake of every class, then the second of every class, and so on.
    turn = pd.Series(labels[wrong]).groupby(labels[wrong]).cumcount().to_numpy()
    chosen = list(wrong[np.lexsort((labels[wrong], turn))][:columns])
    titles = [f"{data.classes[labels[i]]}\nas {data.classes[predicted[i]]}" for i in chosen]
    return image_row_figure(data.test, chosen, titles)


def epochs_table(record: Record) -> pd.DataFrame:
    """Return a trial's epochs with rounded numbers and units in the column names."""
    units = {
        "train_loss": ("training loss", 4),
        "test_loss": ("test loss", 4),
        "test_accuracy": ("test accuracy (%)", 2),
        "learning_rate": ("last learning rate", 6),
        "train_seconds": ("train_seconds", 2),
        "eval_seconds": ("eval_seconds", 2),
        "images_per_second": ("images / s", 0),
        "peak_memory_mb": ("peak memory (MiB)", 0),
        "skipped_steps": ("skipped steps", 0),
    }
    epochs = pd.DataFrame(record.epochs()).set_index("epoch")
    rounded = epochs.round({name: digits for name, (_, digits) in units.items()})
    return rounded[list(units)].set_axis([title for title, _ in units.values()], axis=1)


def result_table(record: Record) -> pd.DataFrame:
    """Return a trial's result as a table of names and values."""
    result = record.result() or {}
    return values_table({name: value for name, value in result.items() if name != "environment"})
