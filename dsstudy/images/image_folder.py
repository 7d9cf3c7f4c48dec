"""An image folder's images: fingerprinted, decoded once, and read from the cache."""

import time
from pathlib import Path

import numpy as np

from dsstudy.errors import InputError, one_line
from dsstudy.images.cached_images import CachedImages
from dsstudy.images.decoding import read_image_size
from dsstudy.images.fingerprint import (
    hash_files,
    keep_fingerprint,
    kept_fingerprint,
    wait_for_tick,
)
from dsstudy.images.folder_state import FolderState, blame_changes, read_state, refuse_changes
from dsstudy.images.image_cache import cached_splits, fill_cache, in_threads
from dsstudy.images.image_listing import SPLITS, Files, list_images, unread_text
from dsstudy.spec.trial import Trial

FolderSplits = dict[str, tuple[CachedImages, np.ndarray]]  # by split: images and labels


def load_image_folder(trial: Trial, expected: str = "") -> tuple[str, list[str], FolderSplits]:
    """Load a trial's image folder; decode it if the cache lacks it.

    Parameters
    ----------
    trial
        Only `data_dir` and `image_size` matter.
    expected
        The fingerprint that the folder must have; by default, any.

    Returns
    -------
    tuple
        The fingerprint, the names of the classes, and for each split the images and labels (int64,
        shape (N,)).

    Raises
    ------
    InputError
        The folder lacks ``train/<class>/`` or ``test/<class>/``, a file is damaged, or the folder
        is changed while it is read.
    """
    folder = trial.data_folder
    classes, files, unread = list_images(folder)
    if unread and not expected:  # the process that found the fingerprint has said so
        print(unread_text(folder, unread))
    state = read_state(folder, files)
    kept = kept_fingerprint(folder, state)
    if not kept:
        wait_for_tick(state)
    read_at = time.time_ns()
    fingerprint = kept or _read_fingerprint(folder, files, state)
    if expected not in ("", fingerprint):
        raise InputError(
            f"the images in data_dir={one_line(folder)} have changed since the trial started, or "
            "are others on this machine: give every machine the same ones, then run it again"
        )
    images = _decoded(folder, files, state, fingerprint, trial.image_size)
    if not kept:  # now that nothing is wrong with the folder and the cache
        keep_fingerprint(folder, state, fingerprint, read_at)
    labels = {
        split: np.array([label for _, label in files[split]], dtype=np.int64) for split in SPLITS
    }
    return fingerprint, classes, {split: (images[split], labels[split]) for split in SPLITS}


def _read_fingerprint(folder: Path, files: Files, state: FolderState) -> str:
    with refuse_changes(folder, state):
        return hash_files(folder, files)


def _decoded(
    folder: Path, files: Files, state: FolderState, fingerprint: str, side: int
) -> dict[str, CachedImages]:
    """Return the decoded images by split; decode the files if the cache lacks them.

    Images of one size, no larger than the input, are cached unscaled, for every `image_size`.
    Others are scaled to the input as they are decoded.
    """
    counts = {split: len(files[split]) for split in SPLITS}
    unscaled = cached_splits(fingerprint, counts)
    if unscaled is not None and max(unscaled["test"].shape[2:]) <= side:
        return unscaled
    name = f"{fingerprint}-{side}"
    if (scaled := cached_splits(name, counts)) is not None:
        return scaled
    paths = {split: [path for path, _ in files[split]] for split in SPLITS}
    with blame_changes(folder, state):  # `fill_cache` refuses changes that raise no error here
        sizes = set(in_threads(read_image_size, [path for some in paths.values() for path in some]))
    size = (side, side)
    if len(sizes) == 1 and max(max(sizes)) <= side:
        name, size = fingerprint, sizes.pop()
    fill_cache(name, paths, size, refuse_changes(folder, state))
    images = cached_splits(name, counts)
    assert images is not None
    return images
