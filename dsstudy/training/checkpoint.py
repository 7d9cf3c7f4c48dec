"""Checkpoints: the whole state of a training at a step, written whole or not at all.

A trial's ``checkpoint/`` holds the newest two. Each is a folder with the name of its step::

    epoch-00003-step-00000500/
      manifest.json    its trial, data and device, and the SHA-256 of every other file; written last
      rank0.pt ...     one file per rank: random numbers' state, losses of the epoch so far
      training.pt      weights, optimizer, scheduler, loss scaler (DeepSpeed: its own files)

The checksums detect damage, not malice. Our own files are read without unpickling code
(``weights_only``), but DeepSpeed's loader unpickles its files, which can run any code. So resume
only from checkpoints written by people you trust.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from dsstudy.errors import InputError
from dsstudy.records.files import sync_names, write_text

KEPT_CHECKPOINTS = 2
"""How many checkpoints are kept: the second is used if the first is damaged."""


class State(Protocol):
    """What an engine trains. All ranks save it to a folder, or load it, at the same time."""

    def save(self, folder: Path) -> None:
        """Write the state into a folder that exists."""

    def load(self, folder: Path) -> None:
        """Load the state that was saved in a folder."""


class TorchState:
    """The state of PyTorch's own objects, each with ``state_dict`` and ``load_state_dict``."""

    def __init__(self, **parts: Any):
        self.parts = parts

    def save(self, folder: Path) -> None:
        """Write every part's state into one file; only rank 0 does, as all ranks hold the same."""
        if dist.is_initialized() and dist.get_rank() != 0:
            return
        states = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save(states, folder / "training.pt")

    def load(self, folder: Path) -> None:
        """Load every part's state onto the devices of its tensors."""
        states = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(states[name])


def checkpoint_name(epoch: int, step: int) -> str:
    """Return the name of the checkpoint after a step of an epoch, both counted from 1."""
    return f"epoch-{epoch:05d}-step-{step:08d}"


def write_checkpoint(
    root: Path, name: str, facts: dict[str, Any], save: Callable[[Path], None], rank: int
) -> None:
    """Write a checkpoint; all ranks call this together.

    Parameters
    ----------
    root
        The trial's ``checkpoint/``.
    name
        From `checkpoint_name`.
    facts
        What the manifest contains besides the checksums.
    save
        Writes this rank's part into a folder.
    rank
        This process's number, from 0.

    Raises
    ------
    InputError
        The disk is full.
    """
    unfinished = root / "unfinished"
    if rank == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    _wait_for_all_ranks()
    try:
        save(unfinished)
        _wait_for_all_ranks()
        if rank == 0:
            _seal(unfinished, facts)
            remove_checkpoint(root / name)  # an earlier attempt may have written it
            unfinished.rename(root / name)
            sync_names(root)
            for old in newest_checkpoints(root)[KEPT_CHECKPOINTS:]:
                remove_checkpoint(old)
    except (OSError, RuntimeError):  # torch.save raises a RuntimeError if the disk is full
        full = shutil.disk_usage(root).free < 2**20
        shutil.rmtree(unfinished, ignore_errors=True)
        if full:
            raise InputError(
                f"{root} has no space left for a checkpoint: free some, and run the trial again; "
                "it resumes from the previous checkpoint"
            ) from None
        raise


def newest_checkpoints(root: Path) -> list[Path]:
    """Return the folders of complete checkpoints, the newest first."""
    return sorted((file.parent for file in root.glob("epoch-*/manifest.json")), reverse=True)


def newest_sound_checkpoint(root: Path, epochs: int, say: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose checksums are right; remove damaged ones before it.

    Parameters
    ----------
    root
        The trial's ``checkpoint/``.
    epochs
        The number of recorded epochs: a checkpoint beyond the next epoch would leave a gap.
    say
        Receives a sentence about each damaged checkpoint.
    """
    for folder in newest_checkpoints(root):
        if folder.name > checkpoint_name(epochs + 2, 0):
            continue
        damage = _damage(folder)
        if not damage:
            return folder
        say(f"checkpoint {folder.name} is damaged ({damage}): falling back to the one before it")
        remove_checkpoint(folder)
    return None


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint's manifest contains besides the checksums."""
    return json.loads((folder / "manifest.json").read_text())["facts"]


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, its manifest first, so that an incomplete one does not count."""
    (folder / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _seal(folder: Path, facts: dict[str, Any]) -> None:
    sums = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            sums[str(file.relative_to(folder))] = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
    content = {"facts": facts, "facts_sha256": _sum_of(facts), "sha256": sums}
    write_text(folder / "manifest.json", json.dumps(content, indent=1))


def _sum_of(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _damage(folder: Path) -> str:
    """Say what is wrong with a checkpoint; "" if nothing is."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        facts, sums = manifest["facts"], manifest["sha256"]
        # Checkpoints of earlier versions have no checksum of their facts.
        if manifest.get("facts_sha256", _sum_of(facts)) != _sum_of(facts):
            return "manifest.json is not what was written"
        for name, expected in sums.items():
            with (folder / name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                    return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _wait_for_all_ranks() -> None:
    if dist.is_initialized():
        dist.barrier()
