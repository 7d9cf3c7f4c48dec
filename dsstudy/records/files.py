"""Files that are written whole or not at all."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


def write_text(file: Path, text: str, durable: bool = True) -> None:
    """Write a text file whole or not at all; a durable file survives a power failure."""
    replace_file(file, lambda stream: stream.write(text.encode()), durable)


def write_bytes(file: Path, content: bytes) -> None:
    """Write a durable file whole or not at all."""
    replace_file(file, lambda stream: stream.write(content))


def replace_file(file: Path, write: Callable[[BinaryIO], Any], durable: bool = True) -> None:
    """Write a file whole or not at all, with a function that writes to a stream."""
    with whole_file(file, durable) as stream:
        write(stream)


@contextlib.contextmanager
def whole_file(file: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Write under a temporary name first, so that neither a reader nor a kill leaves half a file."""
    who = f"{socket.gethostname()}.{os.getpid()}"  # two machines may write a study's file at the same time
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
