"""A record: what a trial leaves on disk, and all that anything downstream reads."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dsstudy.trial import InputError, Trial

FINISHED = ("completed", "diverged")
"""The states of a trial that need not be run again."""


class Record:
    """A trial's folder: parameters, epochs, result. Its files are written whole or not at all.

    Parameters
    ----------
    folder
        The trial's own folder; need not exist.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        result = self.result()
        if result is None:
            return f"<Record {self.folder}: not finished>"
        accuracy = result["best_accuracy"]
        best = "" if accuracy is None else f", best test accuracy {accuracy:.2f} %"
        return f"<Record {self.folder}: {result['status']}{best}>"

    # Reading

    def trial(self) -> Trial | None:
        """Return the trial, or None where the folder holds none."""
        parameters = self._read_json("trial.json")
        return None if parameters is None else Trial(**parameters)

    def epochs(self) -> list[dict[str, Any]]:
        """Return one mapping a finished epoch: losses, accuracy (percent), times (seconds) ..."""
        return read_lines(self.folder / "epochs.jsonl")

    def result(self) -> dict[str, Any] | None:
        """Return the result, or None while there is none."""
        return self._read_json("result.json")

    def progress(self) -> dict[str, Any] | None:
        """Return how far the training has come at this moment, or None outside training."""
        return self._read_json("progress.json")

    def steps(self) -> dict[str, np.ndarray]:
        """Return ``loss`` and ``learning_rate`` of every training step, over all epochs.

        Both are float arrays of shape (steps,); the loss is the mean over the global batch.
        """
        with np.load(self.folder / "steps.npz") as file:
            return {name: file[name] for name in ("loss", "learning_rate")}

    def predictions(self) -> np.ndarray:
        """Return the class predicted for every test image after the last epoch: int, (N,)."""
        return np.load(self.folder / "predictions.npy")

    @property
    def finished(self) -> bool:
        """Whether the folder holds a trial that was trained to its end."""
        result = self.result()
        return result is not None and result["status"] in FINISHED

    # Writing

    def start(self, trial: Trial) -> None:
        """Make the folder ready for a trial to be trained from its beginning.

        Raises
        ------
        InputError
            The folder cannot be written, or holds a trial that must not be written over.
        """
        self.check_free_for(trial)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("result.json", "epochs.jsonl", "steps.npz", "predictions.npy"):
                (self.folder / name).unlink(missing_ok=True)
            for file in self.folder.glob("error-rank*.json"):
                file.unlink()
            write_text(self.folder / "trial.json", json.dumps(trial.model_dump(), indent=1))
        except OSError as error:
            raise InputError(
                f"output_dir={self.folder} cannot be written ({error.strerror}): set output_dir "
                "to a folder of your own with free space"
            ) from None

    def check_free_for(self, trial: Trial) -> None:
        """Refuse a folder that holds another trial, unless the trial says `overwrite`.

        Raises
        ------
        InputError
            The folder holds another trial.
        """
        if trial.overwrite:
            return
        try:
            held = self.trial()
        except ValueError:  # no JSON, or no trial of this version
            held_name = "a trial that this version cannot read"
        else:
            held_name = trial.name if held is None else held.name
        if held_name != trial.name:
            raise InputError(
                f"output_dir={self.folder} already holds another trial ({held_name}): set "
                "output_dir to another folder, or overwrite to true"
            )

    def add_epoch(self, epoch: dict[str, Any]) -> None:
        """Add one epoch's line; a number that is not finite must be given as None."""
        lines = [*self.epochs(), epoch]
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        write_text(self.folder / "epochs.jsonl", text)

    def add_steps(self, loss: np.ndarray, learning_rate: np.ndarray) -> None:
        """Add the steps of one epoch, as `steps` returns them."""
        if (self.folder / "steps.npz").exists():
            before = self.steps()
            loss = np.append(before["loss"], loss)
            learning_rate = np.append(before["learning_rate"], learning_rate)
        _replace(
            self.folder / "steps.npz",
            lambda file: np.savez(file, loss=loss, learning_rate=learning_rate),
        )

    def set_predictions(self, predicted: np.ndarray) -> None:
        """Keep the class predicted for every test image."""
        _replace(self.folder / "predictions.npy", lambda file: np.save(file, predicted))

    def set_progress(self, progress: dict[str, Any]) -> None:
        """Tell whoever watches how far the training has come."""
        write_text(self.folder / "progress.json", json.dumps(progress))

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which ends the trial."""
        write_text(self.folder / "result.json", json.dumps(result, indent=1, allow_nan=False))
        (self.folder / "progress.json").unlink(missing_ok=True)

    def fail(self, error: str) -> None:
        """Write down that the trial failed, where its own process could not."""
        self.finish({"status": "failed", "error": error})

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / name).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file with one JSON object a line; none where there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    _replace(file, lambda stream: stream.write(text.encode()))


def _replace(file: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write under another name first: a reader, or a kill, never meets half of a file."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as stream:
            write(stream)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
