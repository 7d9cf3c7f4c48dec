"""The progress of a trial and of a study, as bars and as text.

Where the output is no terminal, a bar writes one line a trial: a log is not drawn over.
"""

import io
import sys
from typing import Any

from tqdm import tqdm

from dsstudy.errors import InputError, last_line
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial
from dsstudy.terminal import in_notebook, writes_a_log


class TrialBar(tqdm):
    """A progress bar over a trial's steps: epoch, step, loss, accuracy, time left.

    In a notebook it is one output that is updated in place: an executed notebook keeps its last
    state.
    """

    def __init__(self, trial: Trial):
        self.trial, self.handle = trial, _notebook_display()
        self.line_is_due = writes_a_log()
        super().__init__(
            desc=f"starting {trial.processes} ranks" if trial.processes > 1 else "starting",
            total=None,
            bar_format="{desc} {bar:24} {percentage:3.0f} % [{elapsed}, {remaining} left]",
            mininterval=0,
            ascii=False,
            file=io.StringIO() if self.handle else sys.stderr,
            disable=self.line_is_due,
        )

    def show(self, progress: dict[str, Any]) -> None:
        """Show the progress that a `Session` reports."""
        self.total = progress["epochs"] * progress["steps"]
        self.n = (progress["epoch"] - 1) * progress["steps"] + progress["step"]
        self.set_description_str(progress_text(progress))

    def display(self, *args: Any, **kwargs: Any) -> None:
        """Draw the bar in the notebook's output, or on the terminal."""
        if self.handle:
            self.handle.update({"text/plain": str(self)}, raw=True)
        else:
            super().display(*args, **kwargs)

    def close(self) -> None:
        """End the bar; without a terminal, write the line that says how far training came."""
        super().close()
        if self.line_is_due:
            self.line_is_due = False  # tqdm closes a bar again when it is deleted
            print(f"{self.trial.name}: {_epochs_text(self.trial)}", file=sys.stderr)


class StudyBar(tqdm):
    """A progress bar over a study's trials.

    Parameters
    ----------
    name
        The study's name.
    trials
        How many trials are to be run.
    """

    def __init__(self, name: str, trials: int):
        self.name, self.finished = name, 0
        super().__init__(desc=name, total=trials, unit="trial", disable=writes_a_log())

    def finish_trial(self, trial: Trial, note: str) -> None:
        """Count a trial that has ended, and show what its record does not contain.

        Parameters
        ----------
        trial
            The trial.
        note
            What the user should know beyond the record; usually empty.
        """
        self.finished += 1
        if self.disable:
            place = f"{self.name}: trial {self.finished} of {self.total}"
            self.write(f"{place}: {trial.name}: {_outcome_text(trial)}", file=sys.stderr)
        if note:
            self.write(f"{trial.name}: {note}")
        self.update()


def progress_text(progress: dict[str, Any]) -> str:
    """Return the progress that a `Session` reports, as text."""
    loss, accuracy = progress["loss"], progress["accuracy"]
    return (
        f"epoch {progress['epoch']}/{progress['epochs']}"
        f"  step {progress['step']:,}/{progress['steps']:,}"
        f"  loss {'not finite' if loss is None else f'{loss:.3f}'}"
        f"  test accuracy {'–' if accuracy is None else f'{accuracy:.2f} %'}"
    )


def progress_share(progress: dict[str, Any]) -> float:
    """Return which part of all steps a `Session` has reported as done, from 0 to 1."""
    return (progress["epoch"] - 1 + progress["step"] / progress["steps"]) / progress["epochs"]


def _epochs_text(trial: Trial) -> str:
    epochs = Record(trial.folder).epochs()
    accuracy = epochs[-1].get("test_accuracy") if epochs else None
    reached = "" if accuracy is None else f", test accuracy {accuracy:.2f} %"
    return f"{len(epochs)} of {trial.epochs} epochs{reached}"


def _outcome_text(trial: Trial) -> str:
    """Return how a trial ended, as its record says."""
    try:
        result = Record(trial.folder).result()
    except InputError as error:
        return str(error)
    if result is None:
        return "no result"
    reason = f": {last_line(result['error'])}" if result.get("error") else ""
    return f"{result['status']}{reason or f', {_epochs_text(trial)}'}"


def _notebook_display() -> Any:
    if not in_notebook():
        return None
    from IPython.display import display

    return display({"text/plain": "starting"}, raw=True, display_id=True)
