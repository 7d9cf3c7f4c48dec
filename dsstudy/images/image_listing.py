"""Image folders, listed and checked without opening their files."""

import os
from collections import Counter
from pathlib import Path

from dsstudy.errors import InputError, one_line
from dsstudy.images.decoding import readable_suffixes, wrong_file

SPLITS = ("train", "test")
Files = dict[str, list[tuple[str, int]]]  # by split: paths and labels
_BESIDE_IMAGES = ("thumbs.db", "desktop.ini")  # Windows puts these into folders of images


def list_images(folder: Path) -> tuple[list[str], Files, list[str]]:
    """List an image folder, without opening its files.

    Returns
    -------
    classes : list of str
        Their names, sorted.
    files : dict
        By split: the images' paths, each with its class's index.
    unread : list of str
        The paths of files whose names are not those of images.

    Raises
    ------
    InputError
        The folder has fewer than two classes, the splits have different classes, or an entry with
        an image's name is not a file.
    """
    names = {split: _class_names(folder, split) for split in SPLITS}
    classes = sorted({*names["train"], *names["test"]})
    suffixes = set(readable_suffixes())
    files: Files = {split: [] for split in SPLITS}
    unread: list[str] = []
    for split in SPLITS:
        for label, name in enumerate(classes):
            before = len(files[split])
            for entry in _entries(folder / split / name) if name in names[split] else ():
                # Paths as text: there are as many files as images, and pathlib is slow.
                if entry.name[entry.name.rfind(".") :].lower() in suffixes:
                    files[split].append((_image_path(entry), label))
                elif not _is_expected(entry.name):
                    unread.append(entry.path)
            if len(files[split]) == before:
                raise _no_images(folder, f"{split}/{name}", unread)
    if len(classes) < 2:
        only = f"has one class, {one_line(classes[0])}" if classes else "has no classes"
        raise InputError(
            f"data_dir={folder} {only}, and a classifier needs two or more: give each class its "
            "own folder in train/ and in test/"
        )
    return classes, files, unread


def _class_names(folder: Path, split: str) -> list[str]:
    if (folder / split).is_dir():
        return [entry.name for entry in _entries(folder / split) if Path(entry).is_dir()]
    wrong = f"has no folder {split}" if folder.exists() else "does not exist"
    raise InputError(
        f"data_dir={folder} {wrong}: set data_dir to a folder that holds train/<class>/ and "
        "test/<class>/ with one image per file"
    )


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.path)
    except OSError as error:
        raise InputError(
            f"data_dir holds {one_line(folder)}, which cannot be listed ({error.strerror}): make "
            "it readable, or set data_dir to another folder"
        ) from None


def _image_path(entry: os.DirEntry) -> str:
    """Return the path of an entry with an image's name; refuse anything but a file."""
    try:
        if entry.is_file():
            return entry.path
    except OSError:  # raised by a link to itself
        pass
    if entry.is_symlink() and not Path(entry).exists():
        raise wrong_file(entry.path, "is a broken link")
    raise wrong_file(entry.path, "is a folder" if Path(entry).is_dir() else "is not a file")


def _is_expected(name: str) -> bool:
    return name.startswith(".") or name.lower() in _BESIDE_IMAGES


def _no_images(folder: Path, where: str, unread: list[str]) -> InputError:
    here = [path for path in unread if Path(path).parent == folder / where]
    found = f" in a readable format, only {_suffixes_text(here)}" if here else ""
    return InputError(
        f"data_dir={folder} has no images in {where}{found}: give both splits the same classes, "
        "one image per file (an archive may be half extracted), or set data_dir to another folder"
    )


def unread_text(folder: Path, unread: list[str]) -> str:
    """Return the sentence about files that are left out because of their names."""
    return (
        f"{one_line(folder)}: {len(unread)} files are left out, as Pillow cannot read files with "
        f"such names ({_suffixes_text(unread)}; first {one_line(unread[0])}): convert them to PNG "
        "or JPEG if they are images"
    )


def _suffixes_text(paths: list[str]) -> str:
    counts = Counter(Path(path).suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{number} {one_line(suffix)}" for suffix, number in counts.most_common(5))
