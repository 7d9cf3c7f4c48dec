"""Locks: one process at a time works in a folder, and the others learn which one."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dsstudy.errors import InputError
from dsstudy.records.files import write_text
from dsstudy.records.reading import read_object

LOCK_SECONDS = 1.0
"""How long to wait for a lock: `folder_holder` takes it for a moment."""


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the system releases it when the process ends.

    Raises
    ------
    InputError
        Another process holds the folder; the sentence says which.
    OSError
        The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise InputError(_occupied(folder)) from None
    try:
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        write_text(_note(folder), json.dumps(holder))
        yield
    finally:
        _note(folder).unlink(missing_ok=True)
        lock.release()


def folder_holder(folder: Path) -> dict[str, Any] | None:
    """Return who holds a folder (``pid``, ``host``, ``since``), or None."""
    try:
        noted = read_object(_note(folder))
        if noted is None:  # do not create a lock where there was none
            return None
        with FileLock(folder / ".lock").acquire(timeout=0):
            return None  # the process that left the note has ended
    except Timeout:
        return noted
    except (OSError, InputError):
        return None


def _note(folder: Path) -> Path:
    return folder / ".holder.json"


def _occupied(folder: Path) -> str:
    who = folder_holder(folder) or {}
    return (
        f"{folder} is in use by process {who.get('pid', 'unknown')} on "
        f"{who.get('host', 'an unknown host')}, since {who.get('since', 'just now')}: wait until "
        "it ends, or end it"
    )
