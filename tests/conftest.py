"""What several test files use."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsstudy.data import load_data
from dsstudy.trial import Trial


@pytest.fixture
def short(tmp_path):
    """Return a function that makes a trial of 20 steps, with its record in a folder of its own."""

    def make(name: str = "trial", **parameters) -> Trial:
        few = {"epochs": 1, "train_images": 320, "test_images": 100}
        return Trial(**(few | parameters), output_dir=str(tmp_path / name))

    return make


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Return an image folder of PNG files: 20 training and 10 test images of two classes."""
    root = tmp_path_factory.mktemp("folder") / "shapes"
    data = load_data(Trial(train_images=100, test_images=50))
    for split, count in (("train", 20), ("test", 10)):
        images, labels = getattr(data, split).images.numpy(), getattr(data, split).labels
        for label, name in enumerate(("disc", "square")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in np.flatnonzero(labels == label)[: count // 2]:
                Image.fromarray(images[index].transpose(1, 2, 0)).save(folder / f"{index}.png")
    return root
