"""Files that are written whole or not at all."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_text(file: Path, text: str, durable: bool = True) -> None:
    """Write a text file as `whole_file` does."""
    with whole_file(file, durable) as stream:
        stream.write(text.encode())


@contextlib.contextmanager
def whole_file(file: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file to be written whole or not at all: it has a temporary name until it is complete.

    A durable file survives a power failure.
    """
    who = f"{socket.gethostname()}.{os.getpid()}"  # two machines may write the same file
    unfinished = file.with_name(f".{file.name}.{who}.tmp")
    try:
        with unfinished.open("wb", buffering=2**20) as stream:  # for ten thousand trials: 60 MB
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        unfinished.replace(file)
        if durable:
            sync_names(file.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def sync_names(folder: Path) -> None:
    """Make the names in a folder survive a power failure; `os.fsync` does so for contents only."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
