"""Image folders: listed, fingerprinted, and decoded once into a cache."""

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from dsstudy.errors import InputError
from dsstudy.spec.trial import Trial

SPLITS = ("train", "test")

Splits = dict[str, tuple[np.ndarray, np.ndarray]]  # by split: images and labels

_Files = dict[str, list[tuple[str, int]]]  # by split: paths and labels


def load_image_folder(trial: Trial, fingerprint: str = "") -> tuple[str, list[str], Splits]:
    """Load a trial's image folder; decode it if the cache lacks it.

    Parameters
    ----------
    trial
        Only `data_dir` and `image_size` matter.
    fingerprint
        Of the folder, if it is known already, to avoid reading every file.

    Returns
    -------
    tuple
        The fingerprint, the names of the classes, and for each split the images (uint8, shape (N,
        3, height, width), memory-mapped) and labels (int64, shape (N,)).

    Raises
    ------
    InputError
        The folder lacks ``train/<class>/`` or ``test/<class>/``, or a file is damaged.
    """
    folder = trial.data_folder
    classes, files = list_images(folder)
    fingerprint = fingerprint or _hash_files(folder, files)
    decoded = _decoded(files, fingerprint, trial.image_size)
    splits: Splits = {
        split: (
            np.load(decoded / f"{split}.npy", mmap_mode="r"),
            np.array([label for _, label in files[split]], dtype=np.int64),
        )
        for split in SPLITS
    }
    return fingerprint, classes, splits


def _decoded(files: _Files, fingerprint: str, image_size: int) -> Path:
    """Return the folder with the decoded arrays; decode the files if the cache lacks them.

    Images of one size, no larger than the input, are cached unscaled, for every `image_size`.
    Others are scaled to the input as they are decoded.
    """
    as_they_are = cache_folder() / fingerprint
    if as_they_are.exists():
        height, width = np.load(as_they_are / "test.npy", mmap_mode="r").shape[2:]
        if max(height, width) <= image_size:
            return as_they_are
    scaled = cache_folder() / f"{fingerprint}-{image_size}"
    if scaled.exists():
        return scaled
    sizes = _sizes(files)
    if len(sizes) == 1 and max(max(sizes)) <= image_size:
        return _decode_into(as_they_are, files, sizes.pop())
    return _decode_into(scaled, files, (image_size, image_size))


def cache_folder() -> Path:
    """Return the folder for decoded images: ``$DSSTUDY_CACHE``, or the user's cache."""
    return Path(os.environ.get("DSSTUDY_CACHE") or platformdirs.user_cache_path("dsstudy"))


def list_images(folder: Path) -> tuple[list[str], _Files]:
    """List the images in ``train/<class>`` and ``test/<class>`` with their class's index."""
    names: dict[str, set[str]] = {}
    for split in SPLITS:
        if not (folder / split).is_dir():
            wrong = f"has no folder {split}" if folder.exists() else "does not exist"
            raise InputError(
                f"data_dir={folder} {wrong}: set data_dir to a folder that holds "
                "train/<class>/ and test/<class>/ with one image a file"
            )
        names[split] = {entry.name for entry in os.scandir(folder / split) if entry.is_dir()}
    classes = sorted(names["train"] | names["test"])
    suffixes = tuple(Image.registered_extensions())
    files: _Files = {}
    for split in SPLITS:
        # Paths as text: there are as many files as images, and pathlib is slow.
        files[split] = [
            (path, label)
            for label, name in enumerate(classes)
            if name in names[split]
            for path in sorted(entry.path for entry in os.scandir(folder / split / name))
            if path.lower().endswith(suffixes)
        ]
        empty = set(range(len(classes))) - {label for _, label in files[split]}
        if empty or not classes:
            name = classes[min(empty)] if classes else "<class>"
            raise InputError(
                f"data_dir={folder} has no images in {split}/{name}: give both splits the same "
                "classes, one image a file (an archive may have been extracted by half), or set "
                "data_dir to another folder"
            )
    return classes, files


def _hash_files(folder: Path, files: _Files) -> str:
    """Hash the relative names and the bytes of all files."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for path, _ in files[split]:
            with open(path, "rb") as file:  # noqa: PTH123 (see _list_images)
                content = file.read()
            name = path[len(str(folder)) :].replace(os.sep, "/")
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def _decode_into(target: Path, files: _Files, size: tuple[int, int]) -> Path:
    """Decode all files into one array per split; the cache gets all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix="decoding-"))
    try:
        for split in SPLITS:
            _decode_split(unfinished / f"{split}.npy", files[split], size, split)
        try:
            unfinished.rename(target)
        except OSError:
            if not target.exists():  # another process has finished first
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _sizes(files: _Files) -> set[tuple[int, int]]:
    """Return the (height, width) of all images, each once."""
    with _pool() as pool:
        return set(pool.map(_read_size, [path for split in SPLITS for path, _ in files[split]]))


def _decode_split(
    array_file: Path, files: list[tuple[str, int]], size: tuple[int, int], split: str
) -> None:
    array = np.lib.format.open_memmap(
        array_file, mode="w+", dtype=np.uint8, shape=(len(files), 3, *size)
    )
    with _pool() as pool:
        decoded = pool.map(lambda entry: _decode(entry[0], size), files)
        for index, image in enumerate(tqdm(decoded, f"decoding {split}", len(files), leave=False)):
            array[index] = image
    array.flush()


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())  # PIL decodes without Python's lock


def _read_size(file: str) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError) as error:
        raise _damaged(file, error) from None


def _decode(file: str, size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(file) as image:
            colour = image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise _damaged(file, error) from None
    if (colour.height, colour.width) != size:
        colour = colour.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(colour).transpose(2, 0, 1)


def _damaged(file: str, error: Exception) -> InputError:
    return InputError(f"data_dir holds {file}, which is no readable image ({error}): replace or "
                      "remove that file")  # fmt: skip
