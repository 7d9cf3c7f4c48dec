"""A record: the files of one trial, and the only thing that everything downstream reads."""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dsstudy.errors import InputError, naming_file
from dsstudy.records.files import whole_file, write_text
from dsstudy.records.reading import read_lines, read_object
from dsstudy.spec.trial import Trial

FINISHED = ("completed", "diverged")
"""States of a trial that need not be run again."""

TRAINED = ("epochs.jsonl", "steps.npz", "predictions.npy", "checkpoint")
"""Files of a training besides ``trial.json``, which is written before them."""

EVENTS = "events.out.tfevents.*"
"""A trial's log for TensorBoard, if it has one: `dsstudy.training.tensorboard_log`."""


class Record:
    """A trial's folder: parameters, epochs, result. Each file is written whole or not at all.

    Parameters
    ----------
    folder
        The trial's own folder, which need not exist.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        result = self.result()
        if result is None:
            return f"<Record {self.folder}: not finished>"
        accuracy = result.get("best_accuracy")
        best = "" if accuracy is None else f", best test accuracy {accuracy:.2f} %"
        return f"<Record {self.folder}: {result['status']}{best}>"

    # Reading raises an InputError with the file's name if the file is damaged.

    def trial(self) -> Trial | None:
        """Return the trial, or None if the folder holds none."""
        file = f"{self.folder}/trial.json"
        parameters = read_object(file)
        with naming_file(file):
            return None if parameters is None else Trial(**parameters)

    def epochs(self) -> list[dict[str, Any]]:
        """Return one mapping per finished epoch: losses, accuracy (percent), times (seconds) ..."""
        return list(read_lines(self.folder / "epochs.jsonl"))

    def result(self) -> dict[str, Any] | None:
        """Return the result, or None if there is none yet."""
        return read_object(f"{self.folder}/result.json")

    def progress(self) -> dict[str, Any] | None:
        """Return the current progress of the training, or None if it is not known."""
        with contextlib.suppress(InputError):
            return read_object(f"{self.folder}/progress.json")
        return None

    def steps(self) -> dict[str, np.ndarray]:
        """Return ``loss`` and ``learning_rate`` of every training step, over all epochs.

        Both are float arrays of shape (steps,); the loss is the mean over the global batch.
        """
        file = self.folder / "steps.npz"
        with naming_file(file), np.load(file, allow_pickle=False) as arrays:
            return {name: _series(arrays[name], "f") for name in ("loss", "learning_rate")}

    def predictions(self) -> np.ndarray:
        """Return the predicted class of every test image after the last epoch: int, (N,)."""
        file = self.folder / "predictions.npy"
        with naming_file(file):
            return _series(np.load(file, allow_pickle=False), "iu")

    @property
    def checkpoints(self) -> Path:
        """The folder of the trial's checkpoints: `dsstudy.training.checkpoint`."""
        return self.folder / "checkpoint"

    @property
    def finished(self) -> bool:
        """Whether the trial was trained to its end."""
        result = self.result()
        return result is not None and result["status"] in FINISHED

    # Writing

    def start(self, trial: Trial) -> None:
        """Prepare the folder for training a trial, from the beginning or from a checkpoint.

        Files of an interrupted training of the same trial stay, unless the trial says `overwrite`.

        Raises
        ------
        InputError
            The folder cannot be written, or holds a trial that must not be overwritten.
        """
        self.check_free_for(trial)
        with self.writable():
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("result.json", "progress.json"):
                (self.folder / name).unlink(missing_ok=True)
            if trial.overwrite:
                for name in ("epochs.jsonl", "steps.npz", "predictions.npy", EVENTS):
                    for file in self.folder.glob(name):
                        file.unlink()
                self.remove_checkpoints()
            for file in (*self.folder.glob("error-rank*.json"), *self.folder.glob(".*.tmp")):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
            write_text(self.folder / "trial.json", json.dumps(trial.model_dump(), indent=1))

    def remove_checkpoints(self) -> None:
        """Remove all checkpoints; their folder may be a link to another disk."""
        for folder in self.checkpoints.glob("*/"):
            shutil.rmtree(folder)
        if self.checkpoints.is_dir() and not self.checkpoints.is_symlink():
            self.checkpoints.rmdir()

    @contextlib.contextmanager
    def writable(self) -> Iterator[None]:
        """Turn an error of writing the folder into one sentence for the user.

        Raises
        ------
        InputError
            The disk is full, or the folder is read-only or not a folder.
        """
        try:
            yield
        except OSError as error:
            if not self._is_ours(error):
                raise
            raise InputError(
                f"output_dir={self.folder} cannot be written ({error.strerror}): free some space "
                "there, or set output_dir to a folder of your own; the records stay, and the trial "
                "resumes from them when it is run again"
            ) from error

    def _is_ours(self, error: OSError) -> bool:
        """Whether the error is about writing this folder."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG):
            return True
        place = Path(error.filename or "/dev/null")
        return place.is_relative_to(self.folder) or self.folder.is_relative_to(place)

    def check_free_for(self, trial: Trial) -> None:
        """Refuse a folder with other content, unless the trial says `overwrite`.

        Raises
        ------
        InputError
            The folder holds another trial, or files with the names of a trial's files.
        """
        if trial.overwrite:
            return
        try:
            held = self.trial()
            held_name = held.name if held else None
        except ValueError:  # not JSON, or not a trial of this version
            held_name = "a trial that this version cannot read"
        if held_name is None:
            self._check_no_results()
        elif held_name != trial.name:
            raise InputError(
                f"output_dir={self.folder} already holds another trial ({held_name}): set "
                "output_dir to another folder, or overwrite to true"
            )

    def _check_no_results(self) -> None:
        """Refuse a folder without ``trial.json`` if a training would replace its files."""
        for name in (*TRAINED, "result.json", "launch.log"):
            if (self.folder / name).exists():
                raise InputError(
                    f"output_dir={self.folder} holds {name} but no trial.json to say which trial "
                    "it belongs to: restore trial.json, set output_dir to another folder, or set "
                    f"overwrite to true to remove {name}"
                )

    def add_epoch(self, epoch: dict[str, Any]) -> None:
        """Add one epoch's line; None stands for a number that is not finite."""
        lines = [*self.epochs(), epoch]
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        write_text(self.folder / "epochs.jsonl", text)

    def add_steps(self, first: int, loss: np.ndarray, learning_rate: np.ndarray) -> None:
        """Add the steps of one epoch, as `steps` returns them.

        Parameters
        ----------
        first
            The number of steps of all earlier epochs. Later steps, written by an attempt that ended
            before it wrote the epoch's line, are replaced; lost steps are NaN.
        loss, learning_rate
            Shape (steps of the epoch,).
        """
        file, series = self.folder / "steps.npz", {"loss": loss, "learning_rate": learning_rate}
        if first:
            before = self.steps() if file.exists() else {}
            for name, new in series.items():
                series[name] = np.append(_filled(before.get(name, new[:0]), first), new)
        with whole_file(file) as stream:
            np.savez(stream, **series)  # type: ignore[arg-type]

    def set_predictions(self, predicted: np.ndarray) -> None:
        """Save the predicted class of every test image."""
        with whole_file(self.folder / "predictions.npy") as stream:
            np.save(stream, predicted)

    def set_progress(self, progress: dict[str, Any]) -> None:
        """Write the progress of the training, for whoever watches it."""
        write_text(self.folder / "progress.json", json.dumps(progress), durable=False)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which ends the trial."""
        write_text(self.folder / "result.json", json.dumps(result, indent=1, allow_nan=False))
        (self.folder / "progress.json").unlink(missing_ok=True)

    def fail(
        self, error: str, interrupted: bool = False, crashed_in_epoch: int | None = None
    ) -> None:
        """Record that the trial failed, if its own process could not.

        Parameters
        ----------
        error
            The reason.
        interrupted
            Whether it was ended from outside, so that the study resumes it when it is run again.
        crashed_in_epoch
            The epoch in which a signal ended it because of the code that it ran.
        """
        result = {"status": "failed", "error": error, "interrupted": interrupted}
        if crashed_in_epoch is not None:
            result["crashed_in_epoch"] = crashed_in_epoch
        self.finish(result)


def _series(array: np.ndarray, kinds: str) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
    return array


def _filled(series: np.ndarray, length: int) -> np.ndarray:
    """Return the first values of a series, padded with NaN at its end."""
    return np.append(series[:length], np.full(max(0, length - len(series)), np.nan, series.dtype))
