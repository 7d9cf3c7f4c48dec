"""Image files as 8-bit RGB arrays; an error of any kind becomes a sentence that names the file."""

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
    formats = Image.registered_extensions()  # loads all formats, also those it can only write
    return tuple(suffix for suffix, name in formats.items() if name in Image.OPEN)


def image_size(file: str) -> tuple[int, int]:
    """Return the height and width of an image in pixels.

    Raises
    ------
    InputError
        The file is not a readable image.
    """
    with naming_image(file), Image.open(file) as image:
        return image.height, image.width


def decode_image(file: str, size: tuple[int, int]) -> np.ndarray:
    """Return an image as uint8 of shape (3, height, width), scaled to a size if it has another.

    The orientation in an image's EXIF data is ignored, as torchvision does.

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
    """Return a greyscale image of 16 bits with the upper eight, or None if it has fewer bits."""
    if image.mode in _EIGHT_BIT:
        return None
    bits = 16
    if image.format == "TIFF":  # whose pixels of twelve bits are in the lower ones
        bits = image.tag_v2.get(258, (16,))[0]  # type: ignore[attr-defined]
    # A PGM file of 16 bits is read into 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    raise ValueError(
        f"its pixels are of kind {image.mode}, and only 8 or 16 bits per channel have a known range"
    )


@contextmanager
def naming_image(file: str) -> Iterator[None]:
    """Turn whatever is raised while a file is read into one sentence that names the file.

    Raises
    ------
    InputError
        Anything was raised inside.
    """
    try:
        yield
    except Exception as error:  # Pillow's readers can raise almost anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise wrong_file(file, f"is not a readable image ({quoted(reason)})") from None


def wrong_file(file: str, what: str) -> InputError:
    """Return the sentence on a file of an image folder that is no image."""
    return InputError(f"data_dir holds {one_line(file)}, which {what}: replace or remove it")
