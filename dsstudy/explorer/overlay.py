"""Runs laid over one another: loss and accuracy of each, also while it trains, from its record."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dsstudy.paper import printed
from dsstudy.records.record import Record
from dsstudy.report.figure_style import ENGINE_COLORS
from dsstudy.spec.trial import Trial

POINTS = 20
"""Points of the loss an epoch; each is the mean over the steps since the one before."""

DASH_PATTERNS = ("", "8 8", "3 5", "12 5 3 5", "16 4", "8 12")
"""Dashes, as SVG writes them: of two runs that are alike, the one below shows through."""

Curve = tuple[np.ndarray, np.ndarray]
"""x in epochs, and y."""


class Course:
    """How a run's loss and accuracy went: what its record holds, and what was seen of it live.

    Parameters
    ----------
    trial
        The run's parameters.
    """

    def __init__(self, trial: Trial):
        self.trial, self.record = trial, Record(trial.folder)
        self._seen: dict[int, list[float]] = {}  # losses of steps looked at, by point
        self._epoch = 0  # in which they were

    def look(self) -> dict[str, Any] | None:
        """Look how far the training has come, keep the loss seen, and return it all."""
        progress = self.record.progress()
        if progress and progress["loss"] is not None and progress["step"]:
            if progress["epoch"] != self._epoch:
                self._epoch, self._seen = progress["epoch"], {}
            point = int(np.ceil(progress["step"] / progress["steps"] * POINTS))
            self._seen.setdefault(point, []).append(progress["loss"])
        return progress

    def accuracy(self) -> Curve:
        """Return test accuracy (percent) at each epoch's end."""
        epochs = self.record.epochs()
        at = np.array([epoch["epoch"] for epoch in epochs])
        return at, np.array([epoch["test_accuracy"] for epoch in epochs])

    def loss(self) -> Curve:
        """Return the training loss: `POINTS` means an epoch; of the running one, what was seen."""
        epochs = self.record.epochs()
        x, y = self._means(epochs[0], len(epochs)) if epochs else ([], [])
        if self._epoch > len(epochs):
            x += [self._epoch - 1 + point / POINTS for point in sorted(self._seen)]
            y += [float(np.mean(self._seen[point])) for point in sorted(self._seen)]
        return np.array(x), np.array(y)

    def _means(self, epoch: dict[str, Any], epochs: int) -> tuple[list[float], list[float]]:
        # The steps of one epoch more may be there already: they are written before its line.
        images = epoch["images_per_second"] * epoch["train_seconds"]
        steps = round(images / self.trial.batch_size)
        points = np.linspace(0, steps, min(POINTS, steps) + 1).round().astype(int)
        loss = self.record.steps()["loss"][: epochs * steps].reshape(epochs, steps)
        means = np.add.reduceat(loss, points[:-1], axis=1) / np.diff(points)
        x = np.arange(epochs)[:, np.newaxis] + points[1:] / steps
        return x.ravel().tolist(), means.ravel().tolist()


def printed_accuracy(trial: Trial) -> float | None:
    """Return the paper's best test accuracy (percent) for a trial's combination, if it has one.

    The paper has a combination of architecture, engine, optimizer and scheduler; its schedulers
    are WarmupLR with DeepSpeed and CyclicLR without.
    """
    if trial.scheduler not in ("none", printed.SCHEDULERS.get(trial.engine)):
        return None
    table = printed.printed_values("best_accuracy").set_index(["architecture", "engine", "setting"])
    return table["value"].to_dict().get((trial.architecture, trial.engine, trial.setting))


def run_title(trial: Trial) -> str:
    """Name a run in a few words: what it trains and how, and what sets it apart from others."""
    processes = f" ×{trial.processes}" if trial.processes > 1 else ""
    course = "" if trial.scheduler == "none" else f" + {trial.scheduler}"
    images = "" if trial.train_images == "all" else f", {trial.train_images:,} images"
    data = trial.dataset if trial.data_dir == "none" else trial.data_folder.name
    return (
        f"{trial.engine}{processes}: {trial.model}, {trial.optimizer}{course}, {trial.precision}, "
        f"{data}{images} at {trial.image_size} pixels, {_epochs_text(trial.epochs)}, seed {trial.seed}"
    )


def _epochs_text(number: int) -> str:
    return "1 epoch" if number == 1 else f"{number} epochs"


def run_color(trial: Trial) -> str:
    """Return the colour of a trial's engine, as CSS writes it."""
    return "rgb({:.0f},{:.0f},{:.0f})".format(*(255 * x for x in ENGINE_COLORS[trial.engine]))


class Overlay:
    """The figure of all runs that are shown: loss above, accuracy below, over the same epochs.

    Attributes
    ----------
    figure : plotly.graph_objects.FigureWidget
        To be displayed; it changes in place.
    """

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._numbers: dict[str, int] = {}  # of the runs' dashes
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
        for row in (1, 2):  # axes without a trace are not drawn
            self.figure.add_scatter(hoverinfo="skip", row=row, col=1)
        self.figure.update_xaxes(title="epoch", row=2)
        self.figure.update_xaxes(range=[0, 1], tickformat="~g")
        self.figure.update_yaxes(title="training loss (nats)", row=1, rangemode="tozero")
        self.figure.update_yaxes(title="test accuracy (%)", row=2, range=[0, 100])

    def show(self, runs: Mapping[str, Course], planned: Sequence[Trial]) -> None:
        """Draw runs from the beginning, and the paper's numbers for them and for what is planned.

        Parameters
        ----------
        runs
            The course of each, by the trial's name.
        planned
            Trials that are chosen, and perhaps were never run.
        """
        self._shown = list(runs)
        self._number()
        trials = [course.trial for course in runs.values()]
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
                # Markers: a single point is no line.
                self.figure.add_scatter(mode="lines+markers", marker={"size": 3}, row=1, **common)
                self.figure.add_scatter(mode="lines+markers", row=2, **common)
            epochs = max((trial.epochs for trial in (*trials, *planned)), default=1)
            self.figure.update_xaxes(range=[0, epochs * 1.02])
            self._draw_published((*trials, *planned))
        self.update(runs)

    def dashes(self, name: str) -> str:
        """Return the dashes of a run that is shown, by its trial's name; the first has none."""
        return DASH_PATTERNS[self._numbers[name] % len(DASH_PATTERNS)]

    def _number(self) -> None:
        """Give the runs that are new the numbers that are free; the others keep theirs."""
        self._numbers = {name: n for name, n in self._numbers.items() if name in self._shown}
        free = (n for n in itertools.count() if n not in set(self._numbers.values()))
        for name in self._shown:
            if name not in self._numbers:
                self._numbers[name] = next(free)

    def update(self, runs: Mapping[str, Course]) -> None:
        """Draw some of the runs that are shown as far as they have come by now."""
        with self.figure.batch_update():
            for name, course in runs.items():
                at = 2 + 2 * self._shown.index(name)
                for trace, curve in zip(
                    self.figure.data[at : at + 2], (course.loss(), course.accuracy()), strict=True
                ):
                    trace.x, trace.y = curve

    def _draw_published(self, trials: Sequence[Trial]) -> None:
        """Draw a line for each of the paper's numbers, once."""
        lines = {
            (trial.architecture, trial.engine, trial.setting): (value, run_color(trial))
            for trial in trials
            if (value := printed_accuracy(trial)) is not None
        }
        self.figure.layout.shapes = [
            {
                "type": "line",
                **{"xref": "x2 domain", "x0": 0, "x1": 1, "yref": "y2", "y0": value, "y1": value},
                "line": {"color": line, "dash": "dot", "width": 1.5},
            }
            for value, line in lines.values()
        ]
        self.figure.layout.annotations = [
            {
                "text": f"paper, {_epochs_text(printed.EPOCHS)} of CIFAR-10: {printed.NAMES[cell[0]]}, "
                f"{printed.NAMES[cell[1]]}, {cell[2]}: {value:.2f} %",
                "font": {"color": line, "size": 11},
                "showarrow": False,
                # Two engines' numbers may lie close: each is written at an end of its own.
                **{"xref": "x2 domain", "x": (end := int(cell[1] != "normal"))},
                **{"yref": "y2", "y": value, "yanchor": ("bottom", "top")[end]},
                "xanchor": ("left", "right")[end],
            }
            for cell, (value, line) in lines.items()
        ]
