"""The explorer: choose trials, run them, watch their curves, compare them with earlier runs."""

import asyncio
import atexit
import contextlib
import html
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from dsstudy.errors import InputError, last_line
from dsstudy.explorer.choices import Choices
from dsstudy.explorer.overlay import Overlay, RunCurves, printed_accuracy, run_color, run_title
from dsstudy.explorer.queue import Queue, Training
from dsstudy.launching.machine import Machine
from dsstudy.launching.notebook import shell_line
from dsstudy.launching.progress import progress_text
from dsstudy.launching.warm_python import warm_python
from dsstudy.paths import project_root
from dsstudy.records.record import Record
from dsstudy.records.study_folder import trial_state
from dsstudy.spec.trial import Trial

REFRESH_SECONDS = 0.5
"""Seconds between two updates of the page."""

LISTED = 40
"""How many of the newest runs are listed."""

_FILES = Path(__file__).parent / "widgets"

_WARM = contextlib.ExitStack()  # as long as the kernel lives
atexit.register(_WARM.close)

_QUEUE = Queue()  # one for all explorers of a kernel: running the cell again keeps what trains


class Question(anywidget.AnyWidget):
    """A question and its answers; impossible answers are grey and say why.

    Attributes
    ----------
    options : list of dict
        ``value``, ``label``; also ``reason`` (why it is impossible), ``note``, and ``color`` and
        ``dashes`` of a line drawn beside it.
    chosen : list of str
        The chosen values: at least `least` of them, and one unless `several`.
    form : str
        ``row`` or ``list``.
    """

    _esm = _FILES / "choice.js"
    _css = _FILES / "style.css"
    question = traitlets.Unicode().tag(sync=True)
    options: traitlets.List = traitlets.List().tag(sync=True)
    chosen: traitlets.List = traitlets.List().tag(sync=True)
    several = traitlets.Bool(False).tag(sync=True)
    least = traitlets.Int(1).tag(sync=True)
    form = traitlets.Unicode("row").tag(sync=True)


class Command(anywidget.AnyWidget):
    """A text with a button that copies it."""

    _esm = _FILES / "command.js"
    _css = _FILES / "style.css"
    text = traitlets.Unicode().tag(sync=True)


class Explorer(widgets.VBox):
    """The page: questions, Run and Stop, the curves, the list of runs, the command.

    Parameters
    ----------
    machine
        The machine that is to run the trials; by default this one.
    """

    latest: "Explorer | None" = None
    """The explorer that is kept up to date and starts waiting trials."""

    def __init__(self, machine: Machine | None = None):
        Explorer.latest = self
        _WARM.enter_context(warm_python())
        self.choices = Choices(machine or Machine.here())
        self.queue, self.overlay = _QUEUE, Overlay()
        self.curves = {curves.trial.name: curves for curves in _newest_runs()}
        self.trials: list[Trial] = []
        self._following: asyncio.Task | None = None
        self.questions = {name: self._question(name) for name in self.choices.options}
        self.run = widgets.Button(description="Run", button_style="primary")
        self.stop = widgets.Button(description="Stop")
        self.status, self.paper, self.command = widgets.HTML(), widgets.HTML(), Command()
        runs = "Runs, the newest first: tick those to draw over one another"
        self.runs = Question(question=runs, several=True, least=0, form="list")
        self.run.on_click(lambda button: self.start())
        self.stop.on_click(lambda button: self.end())
        self.runs.observe(lambda change: self._draw(), "chosen")
        super().__init__(self._arranged())
        self._choose()
        self._set_status("Choose, then press Run.")
        self._follow()  # an earlier explorer may have started trials

    def _arranged(self) -> list[widgets.Widget]:
        half = {"flex": "1 1 380px", "min_width": "0", "padding": "0 16px 0 0"}
        left = widgets.VBox([*self.questions.values(), self.paper], layout=widgets.Layout(**half))
        right = widgets.VBox(
            [widgets.HBox([self.run, self.stop]), self.status, self.overlay.figure, self.runs],
            layout=widgets.Layout(**half | {"flex": "2 1 460px"}),
        )
        both = widgets.Box([left, right], layout=widgets.Layout(flex_flow="row wrap"))
        title = "The same from any shell on this machine; it writes the executed notebook too:"
        return [both, widgets.HTML(title), self.command]

    def _question(self, name: str) -> Question:
        several = name == "engine"
        question = Question(
            question=f"{name} (one or several)" if several else name,
            options=self._answers(name),
            chosen=self.choices.chosen[name],
            several=several,
        )
        question.observe(lambda change: self._answer(name, change["new"]), "chosen")
        return question

    def _answers(self, name: str) -> list[dict[str, Any]]:
        reasons = self.choices.reasons(name).items()
        return [{"value": label, "label": label, "reason": reason} for label, reason in reasons]

    def _answer(self, name: str, labels: list[str]) -> None:
        self.choices.chosen[name] = labels
        for other, question in self.questions.items():
            question.options = self._answers(other)
        self._choose()

    def _choose(self) -> None:
        """Show what belongs to the chosen trials."""
        try:
            self.trials = self.choices.trials()
        except InputError as error:
            self.trials = []
            self._set_status(str(error))
        lines = [shell_line(trial) for trial in self.trials]
        self.command.text = "\n".join([_project_line(), *lines] if lines else [])
        self.paper.value = "".join(_paper_html(trial) for trial in self.trials)
        self._draw()

    def start(self) -> None:
        """Add the chosen trials to the queue; stopped ones resume."""
        finished = [trial for trial in self.trials if Record(trial.folder).finished]
        new = [trial for trial in self.trials if trial not in finished and trial not in self.queue]
        if finished:
            self._set_status("Already trained, so not trained again. Choose another seed, for "
                             "example, to make another run.")  # fmt: skip
        self.curves = {trial.name: RunCurves(trial) for trial in (*finished, *new)} | {
            name: curves for name, curves in self.curves.items() if curves.trial not in new
        }
        self.queue.add(new)
        ticked = list(dict.fromkeys([*(t.name for t in self.trials), *self.runs.chosen]))
        if ticked == self.runs.chosen:
            self._draw()
        else:
            self.runs.chosen = ticked  # draws
        self._follow()

    def end(self) -> None:
        """Stop the running trial, and clear the queue."""
        self.queue.stop()
        self.refresh()

    def _draw(self) -> None:
        """Draw the ticked runs, and update the list."""
        shown = {name: self.curves[name] for name in self.runs.chosen}
        self.overlay.show(shown, self.trials)
        self.runs.options = [
            {
                "value": name,
                "label": run_title(curves.trial),
                "note": self._state(curves.trial),
                "color": run_color(curves.trial) if name in shown else "transparent",
                "dashes": self.overlay.dashes(name) if name in shown else "",
            }
            for name, curves in self.curves.items()
        ]

    def _follow(self) -> None:
        """Keep the page up to date until the queue is empty, beside the kernel's other work."""
        if self.queue.busy and (self._following is None or self._following.done()):
            self._following = asyncio.get_running_loop().create_task(self._keep_refreshing())

    async def _keep_refreshing(self) -> None:
        while self.queue.busy and Explorer.latest is self:
            try:
                self.refresh()
            except InputError as error:  # a record has been damaged meanwhile
                self._set_status(str(error))
            await asyncio.sleep(REFRESH_SECONDS)
        self.refresh()

    def refresh(self) -> None:
        """Start the next trial if none trains, and update curves, list and status."""
        before, ended = self.queue.training, self.queue.step()
        training = self.queue.training
        if ended:
            self._set_status(
                ended.error() or f"{run_title(ended.trial)}: {self._state(ended.trial)}"
            )
        if training:
            name = training.trial.name
            curves = self.curves.setdefault(name, RunCurves(training.trial))
            self._set_status(self._progress(training, curves.read_progress()))
            if name in self.runs.chosen:
                self.overlay.update({name: curves})
        if training is not before:
            self._draw()

    def _progress(self, training: Training, progress: dict[str, Any] | None) -> str:
        if training.stopping:
            return "Stopping ..."
        seconds = round(time.monotonic() - training.started)
        where = progress_text(progress) if progress else f"loading libraries, {seconds} s"
        if len(Record(training.trial.folder).epochs()) == training.trial.epochs:
            where = "the last epoch has ended"
        more = f" ({len(self.queue.waiting)} waiting)" if self.queue.waiting else ""
        return f"{training.trial.engine}: {where}{more}"

    def _state(self, trial: Trial) -> str:
        """Return a run's state, for the list of runs."""
        if trial in self.queue:
            return "waiting" if trial in self.queue.waiting else "training"
        record = Record(trial.folder)
        result, epochs = record.result(), len(record.epochs())
        if record.trial() is None:
            return "not started"
        if result is None or result.get("interrupted"):
            if trial_state(record) == "running":
                return "training, started elsewhere"
            return f"stopped after {epochs} of {trial.epochs} epochs; Run resumes it"
        if result["status"] == "failed":
            return f"failed: {last_line(result['error'] or '')}"
        return (
            f"{result['status']}: best test accuracy {result['best_accuracy']:.2f} %, "
            f"{result['seconds_per_epoch']:.3g} s per epoch"
        )

    def _set_status(self, text: str) -> None:
        self.status.value = f"<div role='status'>{html.escape(text)}</div>"


def _project_line() -> str:
    """Return the line for ``sh`` that makes the trials' own lines work in any folder."""
    folder, commands = map(shlex.quote, (str(project_root()), str(Path(sys.executable).parent)))
    return f"cd {folder} && export PATH={commands}:$PATH"


def _newest_runs() -> Iterator[RunCurves]:
    """Yield the newest runs of single trials on this machine, the newest first."""
    files = list(Trial().folder.parent.glob("*/trial.json"))
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[:LISTED]:
        with contextlib.suppress(InputError):  # damaged, or of another version
            trial = Record(file.parent).trial()
            if trial and trial.folder == file.parent:
                yield RunCurves(trial)


def _paper_html(trial: Trial) -> str:
    value = printed_accuracy(trial)
    comparison = "the paper has no number for it"
    if value is not None:
        comparison = f"the paper's best test accuracy is <b>{value:.2f}&nbsp;%</b>"
    what = f"{trial.model}, {trial.engine}, {trial.setting}"
    return f"<p style='line-height: 1.4'>{what}: {comparison}.</p>"
