"""Image files as 8-bit RGB arrays; every error names the file."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from dsstudy.errors import InputError, one_line, quoted

_EIGHT_BIT = {
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"),
    *("CMYK", "YCbCr", "LAB", "HSV"),
}
"""Pillow's modes of images whose channels have eight bits or fewer."""


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the formats that Pillow can read, in lower case."""
    formats = Image.registered_extensions()  # includes formats that Pillow can only write
    return tuple(suffix for suffix, name in formats.items() if name in Image.OPEN)


def read_image_size(file: str) -> tuple[int, int]:
    """Return the height and width of an image in pixels.

    Raises
    ------
    InputError
        The file is not a readable image.
    """
    with naming_image(file), Image.open(file) as image:
        return image.height, image.width


def decode_image(file: str, size: tuple[int, int]) -> np.ndarray:
    """Return an image as uint8, shape (3, height, width), scaled to that size if necessary.

    The orientation in an image's EXIF data is ignored, as in torchvision.

    Raises
    ------
    InputError
        The file is not a readable image, or has more than 16 bits per channel.
    """
    with naming_image(file), Image.open(file) as image:
        image.load()
        colour = (_from_16_bits(image) or image).convert("RGB")
    if (colour.height, colour.width) != size:
        colour = colour.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(colour).transpose(2, 0, 1)


def _from_16_bits(image: Image.Image) -> Image.Image | None:
    """Return the upper eight bits of a 16-bit greyscale image, or None if it has eight bits."""
    if image.mode in _EIGHT_BIT:
        return None
    bits = 16
    if image.format == "TIFF":  # a TIFF file of 12 bits uses the lower bits
        bits = image.tag_v2.get(258, (16,))[0]  # type: ignore[attr-defined]
    # Pillow reads a PGM file of 16 bits into 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    raise ValueError(
        f"its mode is {image.mode}, and only channels of 8 or 16 bits have a known range"
    )


@contextmanager
def naming_image(file: str) -> Iterator[None]:
    """Turn whatever is raised inside the ``with`` statement into an `InputError` about an image."""
    try:
        yield
    except Exception as error:  # Pillow's readers can raise almost anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise wrong_file(file, f"is not a readable image ({quoted(reason)})") from None


def wrong_file(file: str, what: str) -> InputError:
    """Return the sentence about a file of an image folder that is not a usable image."""
    return InputError(f"data_dir holds {one_line(file)}, which {what}: replace or remove it")
