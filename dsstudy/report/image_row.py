"""Rows of images from a data set."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from dsstudy.images.data import ImageData, Split


def sample_images_figure(data: "ImageData", columns: int = 10) -> Figure:
    """Show one training image of each class, at most `columns` of them."""
    labels = data.train.labels.cpu().numpy()
    first = [np.flatnonzero(labels == label)[0] for label in np.unique(labels)[:columns]]
    titles = [data.classes[labels[index]] for index in first]
    return image_row_figure(data.train, first, titles)


def image_row_figure(split: "Split", indices: list[int], titles: list[str]) -> Figure:
    """Draw images of a split side by side, each below its title."""
    count = max(1, len(indices))
    figure, row = plt.subplots(
        1, count, figsize=(1.3 * count, 1.9), squeeze=False, layout="constrained"
    )
    for axes in row[0]:
        axes.set_axis_off()
    if not indices:
        row[0][0].text(0, 0.5, "none")
    for axes, index, title in zip(row[0], indices, titles, strict=False):
        _show_image(axes, split.images[index].cpu().numpy(), title)
    return figure


def _show_image(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image.transpose(1, 2, 0))
    axes.set_title(title, fontsize=9)
