"""Decoded images that stay in the cache and are read from there when they are needed."""

import copy
import math
import os
import weakref
from pathlib import Path

import numpy as np
import torch

from dsstudy.errors import InputError, one_line


class CachedImages:
    """The decoded images of one split, in a file of the cache that all ranks share.

    They are copied from the system's page cache, a batch at a time, and never held. They are read
    by position, not through a memory map: if a file is cut off or a disk fails, that is an error
    which can be reported, while a map would end the process. A file that is deleted or replaced
    stays readable while it is open.

    Parameters
    ----------
    file
        A file in NumPy's format: uint8, shape (N, 3, height, width).

    Attributes
    ----------
    shape : tuple of int
        Of the images: (N, 3, height, width).
    device : torch.device
        Always the CPU.

    Raises
    ------
    OSError, ValueError
        The file is absent, cut off, or holds something else.
    """

    device = torch.device("cpu")

    def __init__(self, file: Path):
        self._file = file
        with file.open("rb") as stream:
            np.lib.format.read_magic(stream)
            self.shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
            self._start = stream.tell()
            size = os.fstat(stream.fileno()).st_size
            self._opened = _Descriptor(stream.fileno())
        self._image_bytes = math.prod(self.shape[1:])
        whole = size == self._start + self.shape[0] * self._image_bytes
        if dtype != np.uint8 or len(self.shape) != 4 or by_columns or not whole:
            raise ValueError(f"{file} does not hold decoded images")
        self._positions = np.arange(self.shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Return the number of bytes of all images."""
        return len(self) * self._image_bytes

    def subset(self, chosen: np.ndarray) -> "CachedImages":
        """Return some of the images, int64 indices of shape (M,), without reading them."""
        some = copy.copy(self)  # shares the open file
        some._positions = self._positions[chosen]
        some.shape = (len(chosen), *self.shape[1:])
        return some

    def read_into(self, pixels: np.ndarray, indices: np.ndarray) -> None:
        """Read images into an array.

        Parameters
        ----------
        pixels
            uint8, shape (B, 3, height, width); it receives the images.
        indices
            int64, shape (B,).

        Raises
        ------
        InputError
            The file was cut off or cannot be read any more.
        """
        for image, position in zip(pixels, self._positions[indices].tolist(), strict=True):
            place = self._start + position * self._image_bytes
            try:
                read = os.preadv(self._opened.number, [image.data], place)
            except OSError as error:
                raise self._unreadable(str(error.strerror)) from None
            if read < self._image_bytes:
                raise self._unreadable("it was cut off")

    def _unreadable(self, reason: str) -> InputError:
        return InputError(
            f"the decoded images in {one_line(self._file)} can no longer be read ({reason}): run "
            "this again; if the file is damaged, the images are then decoded anew"
        )


class _Descriptor:
    """An open file for reading by position, closed with the last object that uses it."""

    def __init__(self, opened: int):
        self.number = os.dup(opened)
        weakref.finalize(self, os.close, self.number)
