"""A study: a YAML file of defaults and a matrix, which expands to trials."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dsstudy.trial import InputError, Trial, project_root

KEYS = ("defaults", "matrix", "overrides")


@dataclass(frozen=True)
class Study:
    """The trials of a study file, in the file's order.

    Attributes
    ----------
    name : str
        The file's name without ``.yaml``: where its records go, ``runs/<name>``.
    file : Path
        The file itself.
    trials : list of Trial
        Each with its own folder in the study's.
    overrides : dict
        What the user set on the command line instead of the file's values.
    """

    name: str
    file: Path
    trials: list[Trial]
    overrides: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the records go: ``$DSSTUDY_RUNS/<name>`` (``runs/`` in the project)."""
        root = Path(os.environ.get("DSSTUDY_RUNS") or project_root() / "runs")
        return root.absolute() / self.name


def published_folder(study: str) -> Path:
    """Return where a study's committed results lie."""
    return project_root() / "book" / "results" / study


def load_study(file: str | Path, overrides: Mapping[str, str] | None = None) -> Study:
    """Read a study file and expand it.

    A file has three parts. ``defaults`` holds trial parameters. ``matrix`` holds axes, every
    combination of which is one trial: an axis is a list of values of a parameter, or, under a
    name of its own, labels each with the parameters that it stands for. ``overrides`` is a list
    of ``when`` (axis or parameter: a value, or several) and ``set`` (parameters); later ones win.

    Parameters
    ----------
    file
        The YAML file.
    overrides
        Parameters that replace the file's in every trial (``--set``).

    Raises
    ------
    InputError
        In one sentence, with the file, the line and the key.
    """
    file = Path(file)
    content = _read(file)
    study = Study(file.stem, file, [], dict(overrides or {}))
    for combination in itertools.product(*_axes(file, content)):
        trial = _trial(study, content, combination)
        twin = [other for other in study.trials if other.name == trial.name]
        if twin:
            raise InputError(
                f"{file}: two combinations of the matrix are the same trial, {trial.name}: let "
                "every axis change something, or drop one (also when --set fixes an axis)"
            )
        study.trials.append(trial)
    return study


def select(trials: Sequence[Trial], conditions: Mapping[str, str]) -> list[Trial]:
    """Return the trials that meet all conditions, each a parameter (or ``setting``, ``name``)."""
    known = {*Trial.model_fields, "setting", "name"}
    for name in conditions:
        if name not in known:
            raise InputError(f"{name} is not a parameter of a trial, so --only cannot select by it")
    chosen = [
        trial
        for trial in trials
        if all(str(getattr(trial, name)) == value for name, value in conditions.items())
    ]
    if not chosen:
        wanted = ",".join(f"{name}={value}" for name, value in conditions.items())
        raise InputError(f"--only {wanted} selects none of the {len(trials)} trials of the study")
    return chosen


class _Lines(dict):
    """A mapping read from YAML that knows the line of each of its keys."""

    lines: dict[str, int]


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, with line numbers, refusing a key that stands twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> _Lines:
    mapping = _Lines()
    mapping.lines = {}
    for key_node, value_node in node.value:
        key, line = loader.construct_object(key_node), key_node.start_mark.line + 1
        if key in mapping:
            raise InputError(f"{node.start_mark.name}:{line}: {key} stands here a second time")
        mapping[key] = loader.construct_object(value_node, deep=True)
        mapping.lines[key] = line
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)

_Parameters = dict[str, tuple[Any, int]]  # of each: its value, and the line that it came from


def _read(file: Path) -> _Lines:
    try:
        with file.open(encoding="utf-8") as stream:
            content = yaml.load(stream, _Loader)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}): give a study file, as parameters/demo.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is not YAML: {reason}") from None
    if not isinstance(content, _Lines):
        raise InputError(f"{file} holds no study: it needs the keys {', '.join(KEYS)}")
    for key in content:
        if key not in KEYS:
            raise InputError(
                f"{file}:{content.lines[key]}: {key} is not a part of a study: use "
                f"{', '.join(KEYS)}"
            )
    if not content.get("matrix"):
        raise InputError(f"{file} has no matrix: list what varies, for example engine: [normal]")
    for key, kind in (("defaults", _Lines), ("matrix", _Lines), ("overrides", list)):
        if not isinstance(content.get(key) or kind(), kind):
            what = "a list of when and set" if kind is list else "names with values"
            raise InputError(f"{file}:{content.lines[key]}: {key} must hold {what}")
    return content


def _axes(file: Path, content: _Lines) -> list[list[tuple[str, Any, _Parameters]]]:
    """Return for every axis its points: axis, label, and the parameters that it stands for."""
    axes = []
    for axis, values in content["matrix"].items():
        line = content["matrix"].lines[axis]
        if isinstance(values, _Lines) and all(isinstance(v, _Lines) for v in values.values()):
            points = [(axis, label, _with_lines(some)) for label, some in values.items()]
        elif isinstance(values, list) and values:
            points = [(axis, value, {axis: (value, line)}) for value in values]
        else:
            raise InputError(
                f"{file}:{line}: {axis} must be a list of values, or labels each with parameters"
            )
        axes.append(points)
    return axes


def _with_lines(mapping: _Lines) -> _Parameters:
    return {name: (value, mapping.lines[name]) for name, value in mapping.items()}


def _trial(study: Study, content: _Lines, combination: Sequence[Any]) -> Trial:
    parameters = _with_lines(content.get("defaults") or _EMPTY)
    labels = {}
    for axis, label, some in combination:
        labels[axis] = label
        parameters |= some
    for override in content.get("overrides") or []:
        if not isinstance(override, _Lines) or set(override) != {"when", "set"}:
            line = content.lines["overrides"]
            raise InputError(f"{study.file}:{line}: each of overrides needs a when and a set")
        if _applies(study.file, override["when"], labels, parameters):
            parameters |= _with_lines(override["set"])
    values = {name: value for name, (value, _) in parameters.items()} | study.overrides
    try:
        trial = Trial(**values)
    except InputError as error:
        name = str(error).partition("=")[0].partition(" ")[0]
        if name in study.overrides:
            raise InputError(f"--set: {error}") from None
        line = parameters.get(name, (None, content.lines["matrix"]))[1]
        raise InputError(f"{study.file}:{line}: {error}") from None
    return trial.model_copy(update={"output_dir": str(study.folder / trial.name)})


_EMPTY = _Lines()
_EMPTY.lines = {}


def _applies(file: Path, when: _Lines, labels: Mapping[str, Any], parameters: _Parameters) -> bool:
    known = {**{name: value for name, (value, _) in parameters.items()}, **labels}
    for name, wanted in when.items():
        if name not in known and name not in Trial.model_fields:
            raise InputError(
                f"{file}:{when.lines[name]}: {name} is neither an axis nor a parameter of a trial"
            )
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if known.get(name) not in allowed:
            return False
    return True
