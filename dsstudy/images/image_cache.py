"""The cache of decoded image folders: an entry has one file of images per split."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import platformdirs
from tqdm.auto import tqdm

from dsstudy.errors import InputError, one_line
from dsstudy.images.cached_images import CachedImages
from dsstudy.images.decoding import decode_image
from dsstudy.terminal import writes_a_log

LEFT_OVER_SECONDS = 86_400
"""The age from which an unfinished entry counts as left behind by a killed process."""

Paths = Mapping[str, list[str]]  # by split
Item = TypeVar("Item")
Result = TypeVar("Result")
Size = tuple[int, int]  # height and width in pixels


def cache_folder() -> Path:
    """Return the folder for decoded images: ``$DSSTUDY_CACHE``, or the user's cache."""
    return Path(os.environ.get("DSSTUDY_CACHE") or platformdirs.user_cache_path("dsstudy"))


def cached_splits(name: str, counts: Mapping[str, int]) -> dict[str, CachedImages] | None:
    """Return the images of an entry by split, or None if the entry is absent or damaged.

    `counts` gives the number of images that each split must have.
    """
    try:
        splits = {split: CachedImages(cache_folder() / name / f"{split}.npy") for split in counts}
    except (OSError, ValueError):  # absent, cut off, or overwritten
        return None
    right = all(len(images) == counts[split] for split, images in splits.items())
    one_size = len({images.shape[1:] for images in splits.values()}) == 1
    return splits if right and one_size else None


def fill_cache(name: str, paths: Paths, size: Size, guard: AbstractContextManager[None]) -> None:
    """Decode images into an entry of the cache, whole or not at all.

    Parameters
    ----------
    name
        The entry's name.
    paths
        The image files by split.
    size
        Height and width of the decoded images in pixels.
    guard
        The context to decode in; if it raises an error at its end, no entry is made.

    Raises
    ------
    InputError
        A file is not a readable image, or the cache cannot be written.
    """
    with _writable(sum(map(len, paths.values())) * 3 * size[0] * size[1]):
        cache_folder().mkdir(parents=True, exist_ok=True)
        _remove_left_over()
        unfinished = Path(tempfile.mkdtemp(dir=cache_folder(), prefix="decoding-"))
        try:
            with guard:
                for split, files in paths.items():
                    _decode_split(unfinished / f"{split}.npy", files, size, split)
            _replace_entry(unfinished, cache_folder() / name)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _replace_entry(unfinished: Path, entry: Path) -> None:
    shutil.rmtree(entry, ignore_errors=True)  # if it was damaged
    try:
        unfinished.rename(entry)
    except OSError:
        if not entry.exists():  # another process has finished first
            raise


def _decode_split(array_file: Path, files: list[str], size: Size, split: str) -> None:
    shape = (len(files), 3, *size)
    array = np.lib.format.open_memmap(array_file, mode="w+", dtype=np.uint8, shape=shape)
    # Claim the space first: a full disk would kill a process that writes to a memory-mapped file.
    with array_file.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, array_file.stat().st_size)

    def decode(index: int) -> None:  # into its place: decoded images must not queue up in memory
        array[index] = decode_image(files[index], size)

    done = in_threads(decode, range(len(files)))
    bar = tqdm(done, f"decoding {split}", len(files), leave=False, disable=writes_a_log())
    for _ in bar:
        pass
    array.flush()


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield a function's results, in order; Pillow releases Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, the remaining files do not matter


def _remove_left_over() -> None:
    for folder in cache_folder().glob("decoding-*"):
        if time.time() - folder.stat().st_mtime > LEFT_OVER_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writable(need: int) -> Iterator[None]:
    """Turn an error of writing so many bytes into the cache into one sentence."""
    try:
        yield
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            what = f"has no room for {need / 1e6:,.0f} MB of decoded images"
        raise InputError(
            f"the cache {one_line(cache_folder())} {what}: free some space there, or set the "
            "environment variable DSSTUDY_CACHE to another folder"
        ) from None
