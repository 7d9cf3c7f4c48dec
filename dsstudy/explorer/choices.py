"""What a reader can choose of a trial, and why this machine cannot run what it cannot."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from dsstudy.errors import InputError
from dsstudy.launching.machine import Machine
from dsstudy.launching.placement import problems
from dsstudy.spec.engines import ENGINES, LAUNCHED
from dsstudy.spec.trial import ARCHITECTURES, Trial

Options = dict[str, dict[str, Any]]
"""The answers to a question, by label: the parameters that each stands for."""

FIRST_CHOICES = {
    "model": ["lenet"],
    "image size": ["32"],
    "engine": ["normal, 1 process", "deepspeed, 2 processes"],
    "optimizer": ["sgd"],
    "scheduler": ["none"],
    "precision": ["fp32"],
    "data": ["synthetic"],
    "images": ["all"],
    "epochs": ["5"],
    "seed": ["0"],
}
"""What is chosen at first: two engines side by side, done within a minute or so."""

_JUDGED_WITH = {"model": "image size", "image size": "model"}
"""Questions whose answers must fit one another; all others are judged each by itself."""


class Choices:
    """The questions, their possible answers, and those that are chosen.

    Parameters
    ----------
    machine
        Decides what is offered.

    Attributes
    ----------
    options : dict
        Of each question, its `Options`.
    chosen : dict
        Of each question, the labels chosen: one or more engines, one of everything else.
    """

    def __init__(self, machine: Machine):
        self.options = _all_questions(machine)
        self.chosen = {question: list(labels) for question, labels in FIRST_CHOICES.items()}
        # Kept, since the model has to be built to know; no answer changes while the page is open.
        self._problem = functools.cache(lambda trial: (*problems(trial, machine), "")[0])
        possible = [
            label for label in FIRST_CHOICES["engine"] if not self.reasons("engine").get(label)
        ]
        self.chosen["engine"] = possible

    def reasons(self, question: str) -> dict[str, str]:
        """Return, for each answer, why this machine cannot run it: a sentence, empty if it can."""
        with_it = _JUDGED_WITH.get(question)
        context = self._parameters(with_it, self.chosen[with_it][0]) if with_it else {}
        return {
            label: self._reason(context | parameters)
            for label, parameters in self.options[question].items()
        }

    def trials(self) -> list[Trial]:
        """Return the trials that are chosen: one an engine.

        Raises
        ------
        InputError
            Two answers do not go together.
        """
        common: dict[str, Any] = {}
        for question, labels in self.chosen.items():
            if question != "engine":
                common |= self._parameters(question, labels[0])
        engines = (self._parameters("engine", label) for label in self.chosen["engine"])
        return [Trial(**common, **engine) for engine in engines]

    def _parameters(self, question: str, label: str) -> dict[str, Any]:
        return self.options[question][label]

    def _reason(self, parameters: Mapping[str, Any]) -> str:
        try:
            return self._problem(Trial(**parameters))
        except InputError as error:
            return str(error)


def _all_questions(machine: Machine) -> dict[str, Options]:
    numbers = {
        "image size": ("image_size", (32, 64, 224)),
        "epochs": ("epochs", (1, 3, 5, 10, 25)),
        "seed": ("seed", (0, 1, 2)),
    }
    found = {
        "model": {name: {"model": name} for name in ARCHITECTURES},
        "engine": _engine_answers(machine),
        "data": _dataset_answers(),
        "images": _image_counts(),
    }
    found |= {name: _allowed_answers(name) for name in ("optimizer", "scheduler", "precision")}
    for question, (parameter, values) in numbers.items():
        found[question] = {str(value): {parameter: value} for value in values}
    return {question: found[question] for question in FIRST_CHOICES}


def _allowed_answers(parameter: str) -> Options:
    """Return everything that a parameter may be."""
    allowed = get_args(Trial.model_fields[parameter].annotation)
    return {value: {parameter: value} for value in allowed}


def _engine_answers(machine: Machine) -> Options:
    """Return every engine with one process, and those that are launched with more, as on two GPUs.

    A batch is split evenly over processes, so that not every number of GPUs can share one.
    """
    found = {}
    for engine in ENGINES:
        for processes in sorted({1, 2, len(machine.gpus) or 1} if engine in LAUNCHED else {1}):
            label = f"{engine}, {processes} process{'es' if processes > 1 else ''}"
            found[label] = {"engine": engine, "processes": processes}
    return found


def _dataset_answers() -> Options:
    """Return the data sets, and every image folder that lies where data sets belong."""
    names = (name for name in _allowed_answers("dataset") if name != "imagefolder")
    found = sorted(_image_folders(Trial().data_folder)) or ["none"]
    folders: Options = {
        "imagefolder" if name == "none" else name: {"dataset": "imagefolder", "data_dir": name}
        for name in found
    }
    return {name: {"dataset": name} for name in sorted(names, key="synthetic".__ne__)} | folders


def _image_folders(root: Path) -> list[str]:
    return [folder.parent.name for folder in root.glob("*/train") if folder.is_dir()]


def _image_counts() -> Options:
    few = {"1,000 + 200 for the test": (1000, 200), "5,000 + 1,000": (5000, 1000)}
    return {"all": {"train_images": "all", "test_images": "all"}} | {
        label: {"train_images": train, "test_images": test} for label, (train, test) in few.items()
    }
