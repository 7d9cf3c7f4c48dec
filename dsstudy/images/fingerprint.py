"""The fingerprint of an image folder: a hash of its files, kept until one of them changes."""

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path

from dsstudy.images.decoding import naming_image
from dsstudy.images.folder_state import FolderState, relative_name
from dsstudy.images.image_cache import cache_folder
from dsstudy.images.image_listing import SPLITS, Files
from dsstudy.records.files import write_text

TICK = 100_000_000
"""Nanoseconds within which a file could be written twice and keep its time; usually far fewer."""

COARSE_TICK = 2_000_000_000
"""The same where times are whole seconds, as on FAT."""


def hash_files(folder: Path, files: Files) -> str:
    """Return the hash of the relative names and the bytes of all files.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        for path, _ in files[split]:
            with naming_image(path), open(path, "rb") as file:  # noqa: PTH123 (see list_images)
                content = file.read()
            name = relative_name(folder, path)
            digest.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape"))
            digest.update(content)
    return digest.hexdigest()[:16]


def wait_for_tick(state: FolderState) -> None:
    """Wait until a file that is written from now on gets a later time than all files have.

    Otherwise a file could be written again, right after it was read, without a visible change.
    """
    wait = _settled_at(state) - time.time_ns()
    if 0 < wait <= COARSE_TICK:  # more only if clocks differ: then nothing is kept
        time.sleep(wait / 1e9)


def kept_fingerprint(folder: Path, state: FolderState) -> str | None:
    """Return the fingerprint kept for a folder, or None if its files are in another state now.

    The whole folder counts: the hash of all files cannot be brought up to date for one of them.
    """
    try:
        kept = json.loads(_place(folder).read_text())
        if _settled_at(state) <= kept["read_at"] and kept["state"] == state.digest():
            return re.fullmatch("[0-9a-f]{16}", kept["fingerprint"])[0]  # type: ignore[index]
    except Exception:  # json and a damaged file's content can raise almost anything
        pass
    return None


def keep_fingerprint(folder: Path, state: FolderState, fingerprint: str, read_at: int) -> None:
    """Keep a folder's fingerprint for the next start; nothing happens where that is impossible.

    `read_at` is the time before the first file was read, in nanoseconds since 1970.
    """
    content = {
        "folder": ascii(str(folder)),  # for a person who looks into the cache
        "state": state.digest(),
        "read_at": read_at,
        "fingerprint": fingerprint,
    }
    with contextlib.suppress(OSError):
        _place(folder).parent.mkdir(parents=True, exist_ok=True)
        write_text(_place(folder), json.dumps(content), durable=False)


def _settled_at(state: FolderState) -> int:
    """Return the time from which a write shows, in nanoseconds since 1970."""
    return state.newest + (TICK if state.newest % 1_000_000_000 else COARSE_TICK)


def _place(folder: Path) -> Path:
    path = os.path.realpath(folder).encode(errors="surrogateescape")
    return cache_folder() / "fingerprints" / f"{hashlib.sha256(path).hexdigest()[:16]}.json"
