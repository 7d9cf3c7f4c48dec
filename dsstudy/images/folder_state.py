"""Whether the files of an image folder have changed, by their names, sizes and times."""

import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsstudy.errors import InputError, one_line
from dsstudy.images.decoding import wrong_file
from dsstudy.images.image_listing import SPLITS, Files, list_images


@dataclass(frozen=True)
class FolderState:
    """The images of a folder as they were at one time.

    Attributes
    ----------
    files : dict
        By name: size in bytes, times of the last change of content and of inode in nanoseconds, and
        number of the inode, as text. The second time cannot be set back, so that a copy with the
        old time is noticed; a file that replaces another one has a different inode.
    newest : int
        The latest of all these times, in nanoseconds since 1970.
    """

    files: dict[str, str]
    newest: int

    def digest(self) -> str:
        """Return a hash of names, sizes, times and inodes."""
        text = "\0".join(f"{facts} {name}" for name, facts in self.files.items())
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def relative_name(folder: Path, path: str) -> str:
    """Return a file's name in messages and hashes: relative to the folder, after a slash."""
    return path[len(str(folder)) :].replace(os.sep, "/")


def read_state(folder: Path, files: Files) -> FolderState:
    """Return the state of a folder's images; links are followed.

    Raises
    ------
    InputError
        A file has gone since the folder was listed, or the system does not show its state.
    """
    found, newest = {}, 0
    for path, _ in itertools.chain.from_iterable(files[split] for split in SPLITS):
        try:
            facts = os.stat(path)  # noqa: PTH116 (paths are text, see list_images)
        except FileNotFoundError:
            raise _changed(folder, relative_name(folder, path), "is gone") from None
        except OSError as error:
            raise wrong_file(path, f"cannot be read ({error.strerror})") from None
        content_changed, inode_changed = facts.st_mtime_ns, facts.st_ctime_ns
        newest = max(newest, content_changed, inode_changed)
        name = relative_name(folder, path)
        found[name] = f"{facts.st_size} {content_changed} {inode_changed} {facts.st_ino}"
    return FolderState(found, newest)


@contextmanager
def blame_changes(folder: Path, before: FolderState) -> Iterator[None]:
    """If the ``with`` statement raises an `InputError`, raise one about a changed folder instead.

    A file that is cut off while it is read is no damaged image, but part of a change. The error
    stays as it is if nothing has changed.
    """
    try:
        yield
    except InputError:
        _check_unchanged(folder, before)
        raise


@contextmanager
def refuse_changes(folder: Path, before: FolderState) -> Iterator[None]:
    """Raise an `InputError` if the folder is changed inside the ``with`` statement."""
    with blame_changes(folder, before):
        yield
    _check_unchanged(folder, before)


def _check_unchanged(folder: Path, before: FolderState) -> None:
    try:
        after = read_state(folder, list_images(folder)[1])
    except InputError as error:  # nothing was wrong when the folder was listed before
        raise InputError(f"the images were changed while they were read: {error}") from None
    if after.files != before.files:
        names = sorted(dict(before.files.items() ^ after.files.items()))
        raise _changed(folder, names[0], _difference(names[0], before, after))


def _difference(name: str, before: FolderState, after: FolderState) -> str:
    if name not in after.files:
        return "is gone"
    return "has another size, time or place on disk" if name in before.files else "is new"


def _changed(folder: Path, name: str, what: str) -> InputError:
    return InputError(
        f"data_dir={one_line(folder)} was changed while it was read ({one_line(name[1:])} {what}): "
        "wait until nothing writes into it any more, then run this again"
    )
