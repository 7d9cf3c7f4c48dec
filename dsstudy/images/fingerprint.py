"""The fingerprint of an image folder: a hash of its files, kept until one of them changes."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

from dsstudy.images.decoding import naming_image
from dsstudy.images.folder_state import FolderState, relative_name
from dsstudy.images.image_cache import cache_folder
from dsstudy.images.image_listing import SPLITS, Files
from dsstudy.records.files import write_text

SETTLED_NANOSECONDS = 2_000_000_000
"""How much older than the reading the last change must be for a fingerprint to be trusted.

A file that is written twice within the granularity of its times, two seconds on some file systems,
looks the same both times.
"""


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


def kept_fingerprint(folder: Path, state: FolderState) -> str | None:
    """Return the fingerprint kept for a folder, or None if its files are in another state now.

    The whole folder counts: the hash of all files cannot be brought up to date for one of them.
    """
    try:
        kept = json.loads(_place(folder).read_text())
        settled = state.newest + SETTLED_NANOSECONDS < kept["read_at"]
        if settled and kept["state"] == state.digest():
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


def _place(folder: Path) -> Path:
    path = os.path.realpath(folder).encode(errors="surrogateescape")
    return cache_folder() / "fingerprints" / f"{hashlib.sha256(path).hexdigest()[:16]}.json"
