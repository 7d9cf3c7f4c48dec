"""Small image folders that tests make, and trials of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dsstudy.spec.trial import Trial


def folder_trial(root: Path, **parameters) -> Trial:
    small = {"dataset": "imagefolder", "batch_size": 4, "image_size": 32}
    return Trial(**(small | {"data_dir": str(root)} | parameters))


def two_classes(root: Path, save: Callable[[np.ndarray, Path], None]) -> Path:
    """Save 6 grey images per class and split, with ``save(pixels, path without a suffix)``."""
    for split in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for number in range(6):
                pixels = np.full((32, 32), 40 + 120 * label + number, np.uint8)
                save(pixels, root / split / name / str(number))
    return root


def noise_folder(root: Path) -> Path:
    """Make a folder of two classes with 6 images of noise per class and split, as BMP files."""
    generator = np.random.default_rng(0)

    def save(pixels: np.ndarray, path: Path) -> None:
        noise = generator.integers(0, 256, (*pixels.shape, 3), np.uint8)
        Image.fromarray(noise).save(f"{path}.bmp")

    return two_classes(root, save)
