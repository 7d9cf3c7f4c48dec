"""What a reader can choose for a trial, and why this machine cannot run some answers."""

import functools
from collections.abc import Mapping
from typing import Any, get_args

from dsstudy.errors import InputError
from dsstudy.launching.machine import Machine
from dsstudy.launching.placement import problems
from dsstudy.spec.engines import DEEPSPEED, ENGINES, NORMAL
from dsstudy.spec.trial import ARCHITECTURES, Trial

Options = dict[str, dict[str, Any]]
"""The answers to a question: the parameters of each, by label."""

FIRST_CHOICES = {
    "model": ["lenet"],
    "image size": ["32"],
    "engine": [f"{NORMAL}, 1 process", f"{DEEPSPEED}, 2 processes"],
    "optimizer": ["sgd"],
    "scheduler": ["none"],
    "precision": ["fp32"],
    "data": ["synthetic"],
    "images": ["all"],
    "epochs": ["5"],
    "seed": ["0"],
}
"""The answers chosen at first: two engines side by side, which train for about a minute."""

_CHECKED_WITH = {"model": "image size", "image size": "model"}
"""Questions whose answers depend on one another; all others are checked one by one."""


class Choices:
    """The questions, their possible answers, and the chosen ones.

    Parameters
    ----------
    machine
        The machine that is to run the trials.

    Attributes
    ----------
    options : dict
        The `Options` of each question.
    chosen : dict
        The chosen labels of each question: one or more engines, one answer to all others.
    """

    def __init__(self, machine: Machine):
        self.options = _all_questions(machine)
        self.chosen = {question: list(labels) for question, labels in FIRST_CHOICES.items()}
        # Cached, since each check builds the model; results do not change while the page is open.
        self._problem = functools.cache(lambda trial: (*problems(trial, machine), "")[0])
        impossible = self.reasons("engine")
        self.chosen["engine"] = [e for e in FIRST_CHOICES["engine"] if not impossible.get(e)]

    def reasons(self, question: str) -> dict[str, str]:
        """Return the reason why this machine cannot run each answer; empty if it can."""
        other = _CHECKED_WITH.get(question)
        context = self.options[other][self.chosen[other][0]] if other else {}
        answers = self.options[question].items()
        return {label: self._reason(context | parameters) for label, parameters in answers}

    def trials(self) -> list[Trial]:
        """Return the chosen trials: one per engine.

        Raises
        ------
        InputError
            Two answers do not fit one another.
        """
        common: dict[str, Any] = {}
        for question, labels in self.chosen.items():
            if question != "engine":
                common |= self.options[question][labels[0]]
        engines = self.options["engine"]
        return [Trial(**common, **engines[label]) for label in self.chosen["engine"]]

    def _reason(self, parameters: Mapping[str, Any]) -> str:
        try:
            return self._problem(Trial(**parameters))
        except InputError as error:
            return str(error)


def _all_questions(machine: Machine) -> dict[str, Options]:
    return {
        "model": _answers("model", *ARCHITECTURES),
        "image size": _answers("image_size", 32, 64, 224),
        "engine": _engine_answers(machine),
        "optimizer": _answers("optimizer"),
        "scheduler": _answers("scheduler"),
        "precision": _answers("precision"),
        "data": _dataset_answers(),
        "images": _image_counts(),
        "epochs": _answers("epochs", 1, 3, 5, 10, 25),
        "seed": _answers("seed", 0, 1, 2),
    }


def _answers(parameter: str, *values: Any) -> Options:
    """Return some values of a parameter as answers; without `values`, all that it allows."""
    values = values or get_args(Trial.model_fields[parameter].annotation)
    return {str(value): {parameter: value} for value in values}


def _engine_answers(machine: Machine) -> Options:
    """Return every engine with one process, and launched ones also with two and with all GPUs.

    Two is there because not every number of GPUs divides a batch evenly.
    """
    found = {}
    for name, engine in ENGINES.items():
        for processes in sorted({1, 2, len(machine.gpus) or 1} if engine.launcher else {1}):
            label = f"{name}, {processes} process{'es' if processes > 1 else ''}"
            found[label] = {"engine": name, "processes": processes}
    return found


def _dataset_answers() -> Options:
    """Return the data sets, ``synthetic`` first, and every image folder among them on disk."""
    answers: Options = dict(
        sorted(_answers("dataset").items(), key=lambda answer: answer[0] != "synthetic")
    )
    image_folder = answers.pop("imagefolder")
    found = [file.parent.name for file in Trial().data_folder.glob("*/train") if file.is_dir()]
    folders = {name: image_folder | {"data_dir": name} for name in sorted(found)}
    return answers | (folders or {"imagefolder": image_folder})


def _image_counts() -> Options:
    few = {"1,000 + 200 for the test": (1000, 200), "5,000 + 1,000": (5000, 1000)}
    return {"all": {"train_images": "all", "test_images": "all"}} | {
        label: {"train_images": train, "test_images": test} for label, (train, test) in few.items()
    }
