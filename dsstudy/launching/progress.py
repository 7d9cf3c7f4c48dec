"""A trial's progress, as a bar and as text."""

import io
import sys
from typing import Any

from tqdm import tqdm

from dsstudy.spec.trial import Trial


class TrialBar(tqdm):
    """A progress bar over a trial's steps: epoch, step, loss, accuracy, time left.

    In a notebook it is one output that is updated in place: an executed notebook keeps its last
    state.
    """

    def __init__(self, trial: Trial):
        self.handle = _notebook_display()
        super().__init__(
            desc=f"starting {trial.processes} ranks" if trial.processes > 1 else "starting",
            total=None,
            bar_format="{desc} {bar:24} {percentage:3.0f} % [{elapsed}, {remaining} left]",
            mininterval=0,
            ascii=False,
            file=io.StringIO() if self.handle else sys.stderr,
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


def progress_text(progress: dict[str, Any]) -> str:
    """Return the progress that a `Session` reports, as text."""
    loss, accuracy = progress["loss"], progress["accuracy"]
    return (
        f"epoch {progress['epoch']}/{progress['epochs']}"
        f"  step {progress['step']:,}/{progress['steps']:,}"
        f"  loss {'not finite' if loss is None else f'{loss:.3f}'}"
        f"  test accuracy {'–' if accuracy is None else f'{accuracy:.2f} %'}"
    )


def _notebook_display() -> Any:
    if "ipykernel" not in sys.modules:
        return None
    from IPython.display import display

    return display({"text/plain": "starting"}, raw=True, display_id=True)
