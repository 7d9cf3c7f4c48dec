"""A study: a YAML file that expands to trials.

This one has eight trials, four of them on two processes::

    title: ResNet-18, with and without clipping
    defaults: {model: resnet18, epochs: 5}
    matrix:
      engine: [normal, deepspeed]
      seed: [0, 1]
      clipping: {without: {}, with: {gradient_clipping: 1.0}}
    overrides:
    - when: {engine: deepspeed}
      set: {processes: 2}

- ``title``: what the book calls the study (by default, the file's name).
- ``defaults``: parameters of every trial.
- ``matrix``: axes. Each combination of their values is one trial. An axis is a parameter with a
  list of values (``seed``), or a name of your own with labels (``clipping``), each of which sets
  some parameters. A list of matrices gives the trials of the first, then those of the second ...
- ``overrides``: rules; later ones take precedence. A rule sets the parameters of ``set`` in all
  trials that meet ``when``: every axis or parameter there has the given value, or one of a list.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError, naming_file, one_line, quoted
from dsstudy.paths import check_name, runs_folder
from dsstudy.spec.study_yaml import Lines, read_yaml
from dsstudy.spec.trial import Trial, parameter_value, without_auto

MOST_TRIALS = 100_000
"""The largest number of trials: more would run for years and point to a mistake in the matrix."""


@dataclass(frozen=True)
class Study:
    """The trials of a study file, in the file's order.

    Attributes
    ----------
    name : str
        The file's name without ``.yaml``; its records go to ``runs/<name>``.
    file : Path
        The study file.
    trials : list of Trial
        Each with its own folder inside the study's.
    labels : dict
        The labels of each trial in the matrix, by trial name and axis (``{"SGD": "clipped"}``).
    title : str
        What the book calls the study.
    overrides : dict
        The parameters that the user set on the command line.
    """

    name: str
    file: Path
    trials: list[Trial]
    overrides: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    title: str = ""

    @property
    def folder(self) -> Path:
        """The records' folder: ``$DSSTUDY_RUNS/<name>`` (default: ``runs/`` in the project)."""
        return runs_folder() / self.name


def load_study(file: str | Path, overrides: Mapping[str, str] | None = None) -> Study:
    """Read a study file and expand it to trials.

    Parameters
    ----------
    file
        The YAML file.
    overrides
        Parameters that replace the file's in every trial (``--set``).

    Raises
    ------
    InputError
        The file is not a study, or one of its trials is not possible. The sentence names the file,
        the line and the key.
    """
    file = Path(file)
    with naming_file(file):
        check_name(file.stem)
    content, where = read_yaml(file), one_line(file)
    title = content.get("title", file.stem)
    study = Study(file.stem, file, [], dict(overrides or {}), title=title)
    folder = study.folder
    names, axes = set[str](), _label_axes(content)
    for combination in _combinations(where, content):
        trial = _combination_trial(study, content, axes, combination)
        name = trial.name
        if name in names:
            raise InputError(
                f"{where}: two combinations of the matrix are the same trial, {name}: let "
                "every axis change something, or drop one (also if --set fixes an axis)"
            )
        names.add(name)
        study.trials.append(trial.model_copy(update={"output_dir": str(folder / name)}))
        labels = {axis: str(label) for axis, label, some in combination if axis not in some}
        if labels:
            study.labels[name] = labels
    return study


def select(trials: Sequence[Trial], conditions: Mapping[str, str]) -> list[Trial]:
    """Return the trials that meet all conditions on parameters, ``setting`` or ``name``.

    Raises
    ------
    InputError
        A condition is not possible, or no trial meets all of them.
    """
    wanted = {name: _selected_value(name, value) for name, value in conditions.items()}
    found = [t for t in trials if all(getattr(t, name) == value for name, value in wanted.items())]
    if not found:
        given = ",".join(f"{name}={value}" for name, value in conditions.items())
        raise InputError(f"--only {given} selects none of the {len(trials)} trials of the study")
    return found


def _selected_value(name: str, text: str) -> Any:
    """Return the value that a trial has if ``--only`` selects it by this text."""
    if name in ("setting", "name"):
        return text
    if name not in Trial.model_fields:
        raise InputError(
            f"--only {name} is not possible: use a parameter of a trial, setting or name"
        )
    try:
        return parameter_value(name, text)
    except InputError as error:
        raise InputError(f"--only: {error}") from None


_Parameters = dict[str, tuple[Any, int]]  # by name: the value, and the line in the file

_SCALARS = (str, int, float, bytes, date, type(None))  # what YAML has besides lists and mappings


def _matrices(content: Lines) -> list[Lines]:
    given = content["matrix"]
    return given if isinstance(given, list) else [given]


def _combinations(file: str, content: Lines) -> Iterator[Sequence[Any]]:
    """Yield every combination of every matrix, in the file's order."""
    matrices = [_axes(file, matrix) for matrix in _matrices(content)]
    if sum(math.prod(map(len, axes)) for axes in matrices) > MOST_TRIALS:
        raise InputError(
            f"{file} has more than {MOST_TRIALS:,} combinations: shorten the lists in its matrix"
        )
    for axes in matrices:
        yield from itertools.product(*axes)


def _axes(file: str, matrix: Lines) -> list[list[tuple[str, Any, _Parameters]]]:
    """Return the points of every axis: its name, a label, and the parameters that this sets."""
    axes = []
    for axis, values in matrix.items():
        line = matrix.lines[axis]
        if isinstance(values, Lines) and all(isinstance(v, Lines) for v in values.values()):
            points = [(axis, label, _parameters_of(file, some)) for label, some in values.items()]
        elif isinstance(values, list):
            points = [(axis, value, _single_parameter(file, line, axis, value)) for value in values]
        else:
            points = []
        if not points:
            raise InputError(
                f"{file}:{line}: {quoted(axis)} must be a list of values, or labels each with "
                "parameters"
            )
        axes.append(points)
    return axes


def _parameters_of(file: str, mapping: Lines) -> _Parameters:
    found: _Parameters = {}
    for name, value in mapping.items():
        found |= _single_parameter(file, mapping.lines[name], name, value)
    return found


def _single_parameter(file: str, line: int, name: Any, value: Any) -> _Parameters:
    """Return one parameter; refuse anything but a scalar, as a list might contain itself."""
    if not isinstance(name, str):
        raise InputError(f"{file}:{line}: {quoted(name)} is not a parameter of a trial")
    if not isinstance(value, _SCALARS):
        raise InputError(
            f"{file}:{line}: {quoted(name)} must be a single value, not {quoted(value)}"
        )
    return {name: (value, line)}


def _combination_trial(
    study: Study, content: Lines, axes: Mapping[str, set[str]], combination: Sequence[Any]
) -> Trial:
    file = one_line(study.file)
    parameters = _parameters_of(file, content.get("defaults") or Lines())
    labels = {}
    for axis, label, some in combination:
        labels[axis] = label
        parameters |= some
    for override in content.get("overrides") or []:
        if not _is_rule(override):
            line = content.lines["overrides"]
            raise InputError(
                f"{file}:{line}: each override needs a when and a set, both names with values"
            )
        given = {name: value for name, (value, _) in parameters.items()} | study.overrides
        if _applies(file, override["when"], labels, axes, given):
            parameters |= _parameters_of(file, override["set"])
    values = {name: value for name, (value, _) in parameters.items()} | study.overrides
    try:
        return Trial(**values)
    except InputError as error:
        name = str(error).partition("=")[0].partition(" ")[0]
        if name in study.overrides:
            raise InputError(f"--set: {error}") from None
        line = parameters.get(name, (None, content.lines["matrix"]))[1]
        raise InputError(f"{file}:{line}: {error}") from None


def _is_rule(override: Any) -> bool:
    return (
        isinstance(override, Lines)
        and set(override) == {"when", "set"}
        and all(isinstance(part, Lines) for part in override.values())
    )


def _label_axes(content: Lines) -> dict[str, set[str]]:
    """Return the labels of every axis that has labels, in any of the matrices."""
    axes: dict[str, set[str]] = {}
    for matrix in _matrices(content):
        for axis, values in matrix.items():
            if isinstance(values, Lines):
                axes.setdefault(axis, set()).update(map(str, values))
    return axes


def _applies(
    file: str,
    when: Lines,
    labels: Mapping[str, Any],
    axes: Mapping[str, set[str]],
    given: Mapping[str, Any],
) -> bool:
    """Return whether a trial meets all conditions of a rule; check each condition.

    A condition on an axis with labels compares labels. One on a parameter compares the trial's
    value, given or default, with values that a trial can have.
    """
    values = without_auto(given)
    met = []
    for name, wanted in when.items():
        place = f"{file}:{when.lines[name]}"
        allowed = wanted if isinstance(wanted, list) else [wanted]
        for value in allowed:
            _single_parameter(file, when.lines[name], quoted(name), value)
        if name in axes:
            met.append(
                name in labels and str(labels[name]) in _known_labels(place, name, allowed, axes)
            )
        elif name in Trial.model_fields:
            met.append(_has_one_of(place, name, values[name], allowed))
        else:
            raise InputError(
                f"{place}: {quoted(name)} is neither an axis nor a parameter of a trial"
            )
    return all(met)


def _known_labels(
    place: str, axis: str, allowed: Sequence[Any], axes: Mapping[str, set[str]]
) -> list[str]:
    for label in map(str, allowed):
        if label not in axes[axis]:
            raise InputError(
                f"{place}: {quoted(label)} is not a label of axis {quoted(axis)}: its labels are "
                f"{', '.join(map(quoted, sorted(axes[axis])))}"
            )
    return list(map(str, allowed))


def _has_one_of(place: str, name: str, value: Any, allowed: Sequence[Any]) -> bool:
    try:
        wanted = [parameter_value(name, one) for one in allowed]
    except InputError as error:
        raise InputError(f"{place}: when: {error}") from None
    try:
        return parameter_value(name, value) in wanted
    except InputError:  # the trial's own value is wrong, which is reported later, with its line
        return False
