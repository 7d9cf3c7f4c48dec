"""Ten procedurally drawn classes of images: a data set that every machine has."""

import numpy as np

SYNTHETIC_CLASSES = (
    "disc", "square", "triangle", "plus", "ring", "frame", "horizontal stripes",
    "vertical stripes", "checkerboard", "dots",
)  # fmt: skip

SYNTHETIC_IMAGES = {"train": 5000, "test": 1000}
"""The meaning of ``all`` for the synthetic data set; any other number can be drawn too."""

_SIDE = 32
_NOISE = 36.0  # standard deviation of each pixel, of 255, so that three epochs do not reach 100 %


def draw(split: str, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the images of one split: a bright shape or pattern on a darker, tinted background.

    Place, size, tilt and colours are random; the background's tint leans towards one hue per class.
    So a network soon beats chance by colour, but needs shape to do much better.

    Parameters
    ----------
    split
        ``train`` or ``test``; it determines the seed, so that the two never share an image.
    images
        The number of images; the classes take turns.

    Returns
    -------
    images : numpy.ndarray
        uint8, shape (images, 3, 32, 32).
    labels : numpy.ndarray
        int64, shape (images,).
    """
    rng = np.random.default_rng(sorted(SYNTHETIC_IMAGES).index(split))
    labels = np.arange(images, dtype=np.int64) % len(SYNTHETIC_CLASSES)
    pictures = np.empty((images, 3, _SIDE, _SIDE), dtype=np.uint8)
    for label in range(len(SYNTHETIC_CLASSES)):
        chosen = np.flatnonzero(labels == label)
        pictures[chosen] = _paint(label, len(chosen), rng)
    return pictures, labels


def _paint(label: int, images: int, rng: np.random.Generator) -> np.ndarray:
    u, v = _coordinates(images, rng)
    inside = _mask(label, u, v)[:, None]
    darker, brighter = rng.uniform(60, 160, (2, images, 1, 1, 1))
    grey = 128 - darker / 2 + rng.uniform(-40, 40, (images, 3, 1, 1))
    shape = grey + brighter + rng.uniform(-40, 40, (images, 3, 1, 1))
    background = grey + 60 * _tint(label, images, rng)
    noise = _NOISE * rng.standard_normal((images, 3, _SIDE, _SIDE), dtype=np.float32)
    return (np.where(inside, shape, background) + noise).clip(0, 255).astype(np.uint8)


def _tint(label: int, images: int, rng: np.random.Generator) -> np.ndarray:
    """Return a hue near the class's own, as red, green and blue from -1 to 1."""
    hue = 2 * np.pi * (label / len(SYNTHETIC_CLASSES) + rng.normal(0, 0.07, images))
    return np.cos(hue[:, None] - 2 * np.pi / 3 * np.arange(3))[:, :, None, None]


def _coordinates(images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return every pixel's place in the shape's own frame, where shapes reach from -1 to 1."""
    row, column = np.mgrid[0:_SIDE, 0:_SIDE]
    centre = rng.uniform(0.35, 0.65, (2, images, 1, 1)) * _SIDE
    radius = rng.uniform(0.2, 0.34, (images, 1, 1)) * _SIDE
    tilt = rng.uniform(-0.35, 0.35, (images, 1, 1))  # radians, so small that stripes stay distinct
    y, x = (row - centre[0]) / radius, (column - centre[1]) / radius
    return x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)


def _mask(label: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return whether the class's shape covers each pixel: bool, shape (images, 32, 32)."""
    distance, edge = np.hypot(u, v), np.maximum(abs(u), abs(v))
    match SYNTHETIC_CLASSES[label]:
        case "disc":
            return distance < 1
        case "square":
            return edge < 0.9
        case "triangle":
            return (v < 0.8) & (v > 2 * abs(u) - 1)
        case "plus":
            return (np.minimum(abs(u), abs(v)) < 0.3) & (edge < 1)
        case "ring":
            return (distance > 0.6) & (distance < 1.1)
        case "frame":
            return (edge > 0.6) & (edge < 1)
        case "horizontal stripes":
            return (edge < 1.2) & (np.sin(2 * np.pi * v) > 0)
        case "vertical stripes":
            return (edge < 1.2) & (np.sin(2 * np.pi * u) > 0)
        case "checkerboard":
            return (edge < 1.2) & (np.sin(np.pi * u * 1.4) * np.sin(np.pi * v * 1.4) > 0)
        case _:  # dots
            return (edge < 1.2) & (np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) > 0.6)
