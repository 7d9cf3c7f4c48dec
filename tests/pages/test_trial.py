"""Figures of one trial over data sets as users have them."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import torch

from dsstudy.images.data import ImageData, Split
from dsstudy.pages.trial import MOST_LABELS, confusion_figure
from dsstudy.report.image_row import sample_images_figure


def data_of(classes: list[str]) -> ImageData:
    labels = torch.arange(len(classes))
    split = Split(torch.zeros(len(classes), 3, 8, 8, dtype=torch.uint8), labels)
    return ImageData("x", "", classes, split, split)


def perfect(data: ImageData) -> SimpleNamespace:
    """What a confusion matrix reads of a record: predictions, all of them right here."""
    return SimpleNamespace(predictions=lambda: np.arange(len(data.classes)))


def test_a_class_name_is_drawn_as_it_is_and_not_as_a_formula():
    data = data_of(["from $1 to $5", "plain"])
    for figure in (sample_images_figure(data), confusion_figure(perfect(data), data)):
        figure.draw_without_rendering()
        names = [text.get_text() for text in figure.findobj(plt.Text)]
        assert r"from \$1 to \$5" in names


def test_many_classes_are_drawn_without_their_names():
    data = data_of([f"class {number}" for number in range(1000)])
    assert len(data.classes) > MOST_LABELS
    figure = confusion_figure(perfect(data), data)
    figure.draw_without_rendering()
    assert not [t for t in figure.findobj(plt.Text) if "class 9" in t.get_text()]
    (image,) = figure.axes[0].images
    assert np.array_equal(image.get_array(), 100 * np.eye(1000))
