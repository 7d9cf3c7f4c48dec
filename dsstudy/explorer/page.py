"""The explorer: choose trials, run them, watch their curves, lay them over earlier ones."""

import asyncio
import contextlib
import html
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from dsstudy.errors import InputError
from dsstudy.explorer.choices import Choices
from dsstudy.explorer.overlay import Course, Overlay, printed_accuracy, run_color, run_title
from dsstudy.explorer.queue import Queue, Training
from dsstudy.launching.machine import Machine
from dsstudy.launching.notebook import shell_line
from dsstudy.launching.progress import progress_text
from dsstudy.paths import project_root
from dsstudy.records.record import Record
from dsstudy.records.study_folder import trial_state
from dsstudy.spec.trial import Trial

INTERVAL = 0.5
"""Seconds between two looks at the records of what trains."""

LISTED = 40
"""How many runs are listed: the newest."""

RUNS_QUESTION = "Runs, the newest first: tick those to be laid over one another"

COMMAND_TITLE = "The same from any shell of this machine; it leaves the executed notebook too:"

_FILES = Path(__file__).parent / "widgets"

_QUEUE = Queue()  # one for all explorers of a kernel: running the cell again loses no training


class Choice(anywidget.AnyWidget):
    """A question and its answers; what is not offered is greyed, with the reason.

    Attributes
    ----------
    options : list of dict
        ``value``, ``label``; also ``reason`` (why it is not offered), ``note``, and ``color`` and
        ``dashes`` of a line drawn beside it.
    chosen : list of str
        Values, `least` of them or more; one unless `several`.
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
    """A text, with a button that copies it."""

    _esm = _FILES / "command.js"
    _css = _FILES / "style.css"
    text = traitlets.Unicode().tag(sync=True)


class Explorer(widgets.VBox):
    """The page: questions, Run and Stop, the curves, the list of runs, the command.

    Parameters
    ----------
    machine
        Decides what is offered; by default the one that this runs on.
    """

    latest: "Explorer | None" = None
    """The one that starts what waits, and is kept up to date."""

    def __init__(self, machine: Machine | None = None):
        Explorer.latest = self
        self.choices = Choices(machine or Machine.here())
        self.queue, self.overlay = _QUEUE, Overlay()
        self.courses = {course.trial.name: course for course in _newest_runs()}
        self.trials: list[Trial] = []
        self._following: asyncio.Task | None = None
        self.questions = {name: self._question(name) for name in self.choices.options}
        self.run = widgets.Button(description="Run", button_style="primary")
        self.stop = widgets.Button(description="Stop")
        self.status, self.paper, self.command = widgets.HTML(), widgets.HTML(), Command()
        self.runs = Choice(question=RUNS_QUESTION, several=True, least=0, form="list")
        self.run.on_click(lambda button: self.start())
        self.stop.on_click(lambda button: self.end())
        self.runs.observe(lambda change: self._draw(), "chosen")
        super().__init__(self._arranged())
        self._choose()
        self._say("Choose, then press Run.")
        self._follow()  # what an explorer before this one had started

    def _arranged(self) -> list[widgets.Widget]:
        half = {"flex": "1 1 380px", "min_width": "0", "padding": "0 16px 0 0"}
        left = widgets.VBox([*self.questions.values(), self.paper], layout=widgets.Layout(**half))
        right = widgets.VBox(
            [widgets.HBox([self.run, self.stop]), self.status, self.overlay.figure, self.runs],
            layout=widgets.Layout(**half | {"flex": "2 1 460px"}),
        )
        both = widgets.Box([left, right], layout=widgets.Layout(flex_flow="row wrap"))
        return [both, widgets.HTML(COMMAND_TITLE), self.command]

    def _question(self, name: str) -> Choice:
        several = name == "engine"
        choice = Choice(
            question=f"{name} (one or several)" if several else name,
            options=self._answers(name),
            chosen=self.choices.chosen[name],
            several=several,
        )
        choice.observe(lambda change: self._answer(name, change["new"]), "chosen")
        return choice

    def _answers(self, name: str) -> list[dict[str, Any]]:
        reasons = self.choices.reasons(name).items()
        return [{"value": label, "label": label, "reason": reason} for label, reason in reasons]

    def _answer(self, name: str, labels: list[str]) -> None:
        self.choices.chosen[name] = labels
        for question, choice in self.questions.items():
            choice.options = self._answers(question)
        self._choose()

    def _choose(self) -> None:
        """Show what belongs to the trials that are chosen now."""
        try:
            self.trials = self.choices.trials()
        except InputError as error:
            self.trials = []
            self._say(str(error))
        lines = [shell_line(trial) for trial in self.trials]
        self.command.text = "\n".join([_project_line(), *lines] if lines else [])
        self.paper.value = "".join(_paper_html(trial) for trial in self.trials)
        self._draw()

    def start(self) -> None:
        """Train what is chosen, after what is training; what was stopped goes on."""
        finished = [trial for trial in self.trials if Record(trial.folder).finished]
        new = [trial for trial in self.trials if trial not in finished and trial not in self.queue]
        if finished:
            self._say("Trained already, so shown and not trained again. Another seed, for one, "
                      "makes another run.")  # fmt: skip
        self.courses = {trial.name: Course(trial) for trial in (*finished, *new)} | {
            name: course for name, course in self.courses.items() if course.trial not in new
        }
        self.queue.add(new)
        self._show(dict.fromkeys([*(trial.name for trial in self.trials), *self.runs.chosen]))
        self._follow()

    def end(self) -> None:
        """Stop what trains, and forget what waits."""
        self.queue.stop()
        self.refresh()

    def _show(self, names: Iterable[str]) -> None:
        if list(names) == self.runs.chosen:
            self._draw()
        else:
            self.runs.chosen = list(names)  # draws

    def _draw(self) -> None:
        """Draw the runs that are ticked, and write the list anew."""
        shown = {name: self.courses[name] for name in self.runs.chosen}
        self.overlay.show(shown, self.trials)
        dashes = {name: self.overlay.dashes(name) for name in shown}
        self.runs.options = [
            {
                "value": name,
                "label": run_title(course.trial),
                "note": self._state(course.trial),
                "color": run_color(course.trial) if name in shown else "transparent",
                "dashes": dashes.get(name, ""),
            }
            for name, course in self.courses.items()
        ]

    def _follow(self) -> None:
        """See to the queue until it is empty, beside whatever else the kernel does."""
        if self.queue.busy and (self._following is None or self._following.done()):
            self._following = asyncio.get_running_loop().create_task(self._see_to_the_queue())

    async def _see_to_the_queue(self) -> None:
        while self.queue.busy and Explorer.latest is self:
            try:
                self.refresh()
            except InputError as error:  # somebody has damaged a record meanwhile
                self._say(str(error))
            await asyncio.sleep(INTERVAL)
        self.refresh()

    def refresh(self) -> None:
        """Start what is next, and bring curves, list and status up to date."""
        before, ended = self.queue.training, self.queue.step()
        training = self.queue.training
        if ended:
            self._say(ended.error() or f"{run_title(ended.trial)}: {self._state(ended.trial)}")
        if training:
            course = self.courses.setdefault(training.trial.name, Course(training.trial))
            self._say(self._progress(training, course.look()))
            if training.trial.name in self.runs.chosen:
                self.overlay.update({training.trial.name: course})
        if training is not before:
            self._draw()

    def _progress(self, training: Training, progress: dict[str, Any] | None) -> str:
        if training.stopping:
            return "Stopping ..."
        seconds = round(time.monotonic() - training.started)
        where = progress_text(progress) if progress else f"libraries load, {seconds} s"
        if len(Record(training.trial.folder).epochs()) == training.trial.epochs:
            where = "the last epoch is over"
        more = f" ({len(self.queue.waiting)} waiting)" if self.queue.waiting else ""
        return f"{training.trial.engine}: {where}{more}"

    def _state(self, trial: Trial) -> str:
        """Say how a run stands."""
        if trial in self.queue:
            return "waiting" if trial in self.queue.waiting else "training"
        record = Record(trial.folder)
        result, epochs = record.result(), len(record.epochs())
        if record.trial() is None:
            return "not begun"
        if result is None or result.get("interrupted"):
            if trial_state(record) == "running":
                return "training, started elsewhere"
            return f"stopped after {epochs} of {trial.epochs} epochs; Run goes on with it"
        if result["status"] == "failed":
            return f"failed: {(result['error'] or '').rpartition(chr(10))[2]}"
        return (
            f"{result['status']}: best test accuracy {result['best_accuracy']:.2f} %, "
            f"{result['seconds_per_epoch']:.3g} s an epoch"
        )

    def _say(self, words: str) -> None:
        self.status.value = f"<div role='status'>{html.escape(words)}</div>"


def _project_line() -> str:
    """Return the line for ``sh`` after which a trial's own is understood in any folder."""
    commands = Path(sys.executable).parent
    return (
        f"cd {shlex.quote(str(project_root()))} && export PATH={shlex.quote(str(commands))}:$PATH"
    )


def _newest_runs() -> Iterator[Course]:
    """Yield the newest runs of single trials that are on this machine, the newest first."""
    files = list(Trial().folder.parent.glob("*/trial.json"))
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[:LISTED]:
        with contextlib.suppress(InputError):  # damaged, or another version's
            trial = Record(file.parent).trial()
            if trial and trial.folder == file.parent:
                yield Course(trial)


def _paper_html(trial: Trial) -> str:
    value = printed_accuracy(trial)
    said = "the paper has no number for it"
    if value is not None:
        said = f"the paper's best test accuracy is <b>{value:.2f}&nbsp;%</b>"
    what = f"{trial.model}, {trial.engine}, {trial.setting}"
    return f"<p style='line-height: 1.4'>{what}: {said}.</p>"
