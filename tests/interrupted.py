"""What tests of interrupted trials share: small trials, and what must be equal."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial
from dsstudy.training.checkpoint import newest_checkpoints, remove_checkpoint

TIMES = (
    "train_seconds",
    "eval_seconds",
    "images_per_second",
    "peak_memory_mb",
    "held_memory_mb",
    "started_at",
)
"""The fields of an epoch's line that differ from run to run."""

SMALL = {"train_images": 320, "test_images": 100, "epochs": 3, "checkpoint_steps": 13}
"""Three epochs of 20 steps; a checkpoint at each epoch's end, and at steps 13, 26, 39 and 52."""


def outcome(record: Record) -> dict[str, Any]:
    """Return everything of a finished record that an interruption must not change."""
    epochs = [
        {name: value for name, value in epoch.items() if name not in TIMES}
        for epoch in record.epochs()
    ]
    result = record.result()
    assert result is not None
    names = ("status", "best_accuracy", "final_accuracy", "error", "interrupted")
    return {
        "epochs": epochs,
        "result": {name: result[name] for name in names},
        **record.steps(),
        "predictions": record.predictions(),
        **weights(record),
    }


def weights(record: Record) -> dict[str, np.ndarray]:
    """Return the final weights and the optimizer's state from the last checkpoint."""
    folder = newest_checkpoints(record.checkpoints)[0]
    files = [folder / "training.pt"] if (folder / "training.pt").exists() else []
    files += sorted((folder / "deepspeed").glob("*.pt"))
    found: dict[str, torch.Tensor] = {}
    for file in files:
        found |= _tensors(file.name, torch.load(file, weights_only=False))
    assert found
    return {name: tensor.numpy() for name, tensor in found.items()}


def _tensors(name: str, value: Any) -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value.detach()}
    if not isinstance(value, dict | list | tuple):
        return {}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, torch.Tensor] = {}
    for key, inner in items:
        found |= _tensors(f"{name}.{key}", inner)
    return found


def assert_same(interrupted: Record, whole: Record) -> None:
    """Hold a record against that of an uninterrupted training, bit for bit, times aside."""
    ours, theirs = outcome(interrupted), outcome(whole)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(ours[name], value, err_msg=name)
        else:
            assert ours[name] == value, name


def train_until(parameters: dict[str, Any], operation: int) -> None:
    """Train, and die by SIGKILL just before the n-th thing that is done to the trial's files.

    Counted are files opened for writing, renamed and removed, and folders made: every moment at
    which a kill could leave something half done. Progress, which is told by the clock, is not.
    """
    trial, left = Trial(**parameters), operation

    def die_at(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        path, reads = str(arguments[0]), event == "open" and not _writes(arguments)
        if reads or not path.startswith(str(trial.folder)) or "progress" in path:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die_at)
    from dsstudy.launching.run import run_trial

    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    run_trial(trial)
    print(json.dumps(left), file=sys.__stdout__)


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def forget_the_end(record: Record, epochs: int, checkpoints: int) -> None:
    """Take a finished record back to the moment of a kill.

    Parameters
    ----------
    record
        Finished.
    epochs
        How many of its epochs are to stay recorded.
    checkpoints
        How many of its checkpoints, the newest, are to be taken away.
    """
    (record.folder / "result.json").unlink()
    lines = (record.folder / "epochs.jsonl").read_text().splitlines(keepends=True)
    (record.folder / "epochs.jsonl").write_text("".join(lines[:epochs]))
    for folder in newest_checkpoints(record.checkpoints)[:checkpoints]:
        remove_checkpoint(folder)
