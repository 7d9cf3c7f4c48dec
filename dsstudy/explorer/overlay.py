"""Runs drawn over one another: loss and accuracy from each record, also during training."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dsstudy.paper import printed
from dsstudy.records.record import Record
from dsstudy.report.figure_style import ENGINE_COLORS
from dsstudy.spec.engines import ENGINES, NORMAL
from dsstudy.spec.trial import Trial

POINTS = 20
"""Points of the loss per epoch; each is the mean over the steps since the previous point."""

DASH_PATTERNS = ("", "8 8", "3 5", "12 5 3 5", "16 4", "8 12")
"""Dashes, as SVG writes them: where two curves coincide, the lower one shows through."""

Curve = tuple[np.ndarray, np.ndarray]
"""x (epochs) and y, of the same length."""


class RunCurves:
    """A run's loss and accuracy: from its record, and from the progress seen while it trains."""

    def __init__(self, trial: Trial):
        self.trial, self.record = trial, Record(trial.folder)
        self._seen: dict[int, list[float]] = {}  # the losses seen in the running epoch, by point
        self._epoch = 0  # the running epoch

    def read_progress(self) -> dict[str, Any] | None:
        """Return the training's progress, and keep its loss for the curve."""
        progress = self.record.progress()
        if progress and progress["loss"] is not None and progress["step"]:
            if progress["epoch"] != self._epoch:
                self._epoch, self._seen = progress["epoch"], {}
            point = int(np.ceil(progress["step"] / progress["steps"] * POINTS))
            self._seen.setdefault(point, []).append(progress["loss"])
        return progress

    def accuracy(self) -> Curve:
        """Return the test accuracy (percent) at the end of each epoch."""
        epochs = self.record.epochs()
        at = np.array([epoch["epoch"] for epoch in epochs])
        return at, np.array([epoch["test_accuracy"] for epoch in epochs])

    def loss(self) -> Curve:
        """Return the training loss: `POINTS` means per epoch; in the running epoch, those seen."""
        epochs = self.record.epochs()
        x, y = self._means(epochs[0], len(epochs)) if epochs else ([], [])
        if self._epoch > len(epochs):
            x += [self._epoch - 1 + point / POINTS for point in sorted(self._seen)]
            y += [float(np.mean(self._seen[point])) for point in sorted(self._seen)]
        return np.array(x), np.array(y)

    def _means(self, epoch: dict[str, Any], epochs: int) -> tuple[list[float], list[float]]:
        # The steps of one more epoch may be recorded: they are written before the epoch's line.
        images = epoch["images_per_second"] * epoch["train_seconds"]
        steps = round(images / self.trial.batch_size)
        points = np.linspace(0, steps, min(POINTS, steps) + 1).round().astype(int)
        loss = self.record.steps()["loss"][: epochs * steps].reshape(epochs, steps)
        means = np.add.reduceat(loss, points[:-1], axis=1) / np.diff(points)
        x = np.arange(epochs)[:, np.newaxis] + points[1:] / steps
        return x.ravel().tolist(), means.ravel().tolist()


def printed_accuracy(trial: Trial) -> float | None:
    """Return the paper's best test accuracy (percent) for a trial's settings, or None.

    The paper's schedulers are WarmupLR with DeepSpeed and CyclicLR without.
    """
    if trial.scheduler not in ("none", printed.SCHEDULERS.get(trial.engine)):
        return None
    cell = trial.architecture, trial.engine, trial.setting
    return printed.printed_by_cell("best_accuracy").to_dict().get(cell)


def run_title(trial: Trial) -> str:
    """Return a run's title: what it trains, how, and what distinguishes it from other runs."""
    processes = f" ×{trial.processes}" if trial.processes > 1 else ""
    scheduler = "" if trial.scheduler == "none" else f" + {trial.scheduler}"
    images = "" if trial.train_images == "all" else f", {trial.train_images:,} images"
    data = trial.dataset if trial.data_dir == "none" else trial.data_folder.name
    return (
        f"{trial.engine}{processes}: {trial.model}, {trial.optimizer}{scheduler}, "
        f"{trial.precision}, {data}{images} at {trial.image_size} pixels, "
        f"{_epochs_text(trial.epochs)}, seed {trial.seed}"
    )


def _epochs_text(number: int) -> str:
    return "1 epoch" if number == 1 else f"{number} epochs"


def run_color(trial: Trial) -> str:
    """Return the colour of a trial's engine, in CSS."""
    return "rgb({:.0f},{:.0f},{:.0f})".format(*(255 * x for x in ENGINE_COLORS[trial.engine]))


class Overlay:
    """The figure of the selected runs: loss above, accuracy below, over the same epochs.

    Attributes
    ----------
    figure : plotly.graph_objects.FigureWidget
        The figure to display; it changes in place.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of the shown runs: their places in DASH_PATTERNS
        self.figure = go.FigureWidget(
            make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.05)
        )
        self.figure._config = {"responsive": True, "displayModeBar": False}
        self.figure.update_layout(
            autosize=True,
            template="plotly_white",
            height=460,
            margin={"l": 60, "r": 15, "t": 15, "b": 50},
            showlegend=False,
        )
        for row in (1, 2):  # plotly draws no axes without a trace
            self.figure.add_scatter(hoverinfo="skip", row=row, col=1)
        self.figure.update_xaxes(title="epoch", row=2)
        self.figure.update_xaxes(range=[0, 1], tickformat="~g")
        self.figure.update_yaxes(title="training loss (nats)", row=1, rangemode="tozero")
        self.figure.update_yaxes(title="test accuracy (%)", row=2, range=[0, 100])

    def show(self, runs: Mapping[str, RunCurves], planned: Sequence[Trial]) -> None:
        """Draw runs, by the trial's name, and the paper's numbers for them and for `planned`."""
        kept = {name: number for name, number in self._numbers.items() if name in runs}
        free = (number for number in itertools.count() if number not in kept.values())
        self._numbers = {name: kept[name] if name in kept else next(free) for name in runs}
        trials = [curves.trial for curves in runs.values()]
        with self.figure.batch_update():
            self.figure.data = self.figure.data[:2]
            for name, trial in zip(runs, trials, strict=True):
                lengths = self.dashes(name).split()
                dash = ",".join(f"{length}px" for length in lengths) or "solid"
                common = {
                    "name": run_title(trial),
                    "line": {"color": run_color(trial), "dash": dash, "width": 2},
                    "hovertemplate": "epoch %{x:.2f}: %{y:.3~f}<br>%{fullData.name}<extra></extra>",
                    "col": 1,
                }
                # With markers, since a single point makes no line.
                self.figure.add_scatter(mode="lines+markers", marker={"size": 3}, row=1, **common)
                self.figure.add_scatter(mode="lines+markers", row=2, **common)
            epochs = max((trial.epochs for trial in (*trials, *planned)), default=1)
            self.figure.update_xaxes(range=[0, epochs * 1.02])
        self._draw_printed_values((*trials, *planned))
        self.update(runs)

    def dashes(self, name: str) -> str:
        """Return the dashes of a shown run, by its trial's name; the first has none."""
        return DASH_PATTERNS[self._numbers[name] % len(DASH_PATTERNS)]

    def update(self, runs: Mapping[str, RunCurves]) -> None:
        """Bring the curves of some of the shown runs up to date."""
        with self.figure.batch_update():
            for name, curves in runs.items():
                at = 2 + 2 * list(self._numbers).index(name)
                loss, accuracy = self.figure.data[at : at + 2]
                loss.x, loss.y = curves.loss()
                accuracy.x, accuracy.y = curves.accuracy()

    def _draw_printed_values(self, trials: Sequence[Trial]) -> None:
        """Draw one line for each of the paper's numbers."""
        lines = {
            (trial.architecture, trial.engine, trial.setting): (value, run_color(trial))
            for trial in trials
            if (value := printed_accuracy(trial)) is not None
        }
        self.figure.layout.shapes = self.figure.layout.annotations = ()
        for (architecture, engine, setting), (value, color) in lines.items():
            combination = f"{printed.NAMES[architecture]}, {ENGINES[engine].title}, {setting}"
            self.figure.add_hline(
                value,
                row=2,
                line={"color": color, "dash": "dot", "width": 1.5},
                annotation_text=f"paper, {_epochs_text(printed.EPOCHS)} of CIFAR-10: "
                f"{combination}: {value:.2f} %",
                annotation_font={"color": color, "size": 11},
                # The engines' numbers may be close to one another: write them at opposite ends.
                annotation_position="top left" if engine == NORMAL else "bottom right",
            )
