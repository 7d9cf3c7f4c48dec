"""Rows of images from a data set."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dsstudy.report.figure_style import literal

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
    size = (1.3 * count, 1.9)
    figure, ((*row,),) = plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained")
    for axes in row:
        axes.set_axis_off()
        axes.set(xticks=[], yticks=[])  # matplotlib lays hidden ticks out too, which takes longest
    if not indices:
        row[0].text(0, 0.5, "none")
    images = split.pixels(indices).cpu().numpy()
    for axes, image, title in zip(row, images, titles, strict=False):
        axes.imshow(image.transpose(1, 2, 0))
        axes.set_title(literal(title), fontsize=9)
    return figure
