"""A comparison of all engines for one model, from a few hundred steps of each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError, last_line, quoted
from dsstudy.launching.launcher import TrialError
from dsstudy.launching.machine import Machine
from dsstudy.launching.placement import problems
from dsstudy.launching.warm_python import warm_python
from dsstudy.records.files import write_text
from dsstudy.spec.engines import ENGINES, LAUNCHED, NORMAL
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial
from dsstudy.studies.profiling import profile_study
from dsstudy.studies.timing import time_study
from dsstudy.training.models import build_model, parameter_count, shapes_device

SMALL_PART = 8
"""The whole batch size divided by the smaller one, which is also timed on one device."""

SMALLEST_BATCH = 2
"""Batch normalisation needs two images."""

_NOT_SETTABLE = {"engine": "it compares them all", "output_dir": "it has a folder of its own"}


@warm_python()
def measure_engines(parameters: Mapping[str, Any], steps: int = 60, rounds: int = 5) -> Study:
    """Measure the training steps of one model under every engine that this machine can run.

    All engines train with the same settings: each on one device, and launched engines also on all
    devices. The engines take turns, so that a drift of the machine's speed affects all alike. Each
    engine's step is profiled separately.

    Parameters
    ----------
    parameters
        Parameters of a trial except ``engine`` and ``output_dir``. ``processes`` is the largest
        number of ranks (default: all GPUs, or two on a CPU); ``zero_stage`` applies to engines with
        ZeRO only.
    steps
        Steps per round; fewer if the data set is smaller.
    rounds
        Rounds per trial; a spread needs two or more.

    Returns
    -------
    Study
        Its folder, ``runs/comparisons/<name>``, contains the latest comparison with these settings,
        steps and rounds: ``comparison.json`` (what was compared, and what was left out for which
        reason), ``times.jsonl`` (`time_study`) and ``profiles.jsonl`` (`profile_study`).

    Raises
    ------
    InputError
        A parameter is not allowed, this machine cannot train the model at all, or a training failed
        after its profile had worked.
    """
    for name, number in {"steps": steps, "rounds": rounds}.items():
        if not isinstance(number, int) or number < 1:
            raise InputError(
                f"{name}={quoted(number)} is not allowed: set {name} to a whole number, 1 or more"
            )
    machine = Machine.here()
    trials, left_out = plan_comparison(parameters, machine)
    about = _comparison_facts(trials[0], machine)  # first, as it may fail
    study = Study(f"comparisons/{trials[0].name}-{steps}x{rounds}", Path("comparison.json"), trials)
    for file in study.folder.glob("*.json*"):  # from an earlier comparison
        file.unlink()
    failed = _profile_engines(study, steps, rounds)
    left_out += [{"engine": engine, "reason": reason} for engine, reason in failed.items()]
    timed = [trial for trial in trials if trial.engine not in failed]
    try:
        time_study(study, timed, steps, rounds)
    except TrialError as error:
        raise InputError(f"the comparison was cut short: {last_line(error)}") from None
    keys = ("name", "engine", "processes", "batch_size")
    rows = [{key: getattr(trial, key) for key in keys} for trial in timed]
    about |= {"timed": rows, "left_out": left_out}
    write_text(study.folder / "comparison.json", json.dumps(about, indent=1))
    return study


def plan_comparison(
    parameters: Mapping[str, Any], machine: Machine
) -> tuple[list[Trial], list[dict[str, str]]]:
    """Return the trials to time, normal training first, and the engines that cannot run here.

    Each engine runs on one device with the whole batch and with a small one, to separate arithmetic
    from the rest of a step. Launched engines also run on all devices, if there are several.

    Raises
    ------
    InputError
        As `measure_engines`.
    """
    for name, reason in _NOT_SETTABLE.items():
        if name in parameters:
            raise InputError(f"{name} cannot be set for a comparison, as {reason}: leave it out")
    base = _engine_trial(parameters, NORMAL, 1)
    if base.batch_size < 2 * SMALLEST_BATCH:
        raise InputError(
            f"batch_size={base.batch_size} is too small for a comparison, which times a smaller "
            f"batch too: set batch_size to {2 * SMALLEST_BATCH} or more"
        )
    if found := problems(base, machine):
        raise InputError(found[0])
    several = parameters.get("processes", _most_processes(base, machine))
    trials, left_out = _on_one_device(base), []
    for engine in LAUNCHED:
        one = _engine_trial(parameters, engine, 1)
        if found := problems(one, machine):
            left_out.append({"engine": engine, "reason": found[0]})
            continue
        trials += _on_one_device(one)
        many = _engine_trial(parameters, engine, several)
        if found := problems(many, machine):
            raise InputError(found[0])
        if many.processes > 1:
            trials.append(many)
    return trials, left_out


def _engine_trial(parameters: Mapping[str, Any], engine: str, processes: Any) -> Trial:
    given = {name: value for name, value in parameters.items() if name != "zero_stage"}
    if ENGINES[engine].has_zero and "zero_stage" in parameters:
        given["zero_stage"] = parameters["zero_stage"]
    own = {"engine": engine, "processes": processes, "keep_checkpoint": False}
    return Trial(**(given | own))


def _on_one_device(trial: Trial) -> list[Trial]:
    small = max(SMALLEST_BATCH, trial.batch_size // SMALL_PART)
    return [trial, trial.model_copy(update={"batch_size": small})]


def _most_processes(trial: Trial, machine: Machine) -> int:
    """Return one rank per GPU, or two on a CPU, or the next smaller divisor of the batch size."""
    cuda = machine.device(trial) == "cuda"
    places = len(machine.gpus) if cuda else min(2, machine.cores)
    return max(n for n in range(1, places + 1) if trial.batch_size % n == 0)


def _profile_engines(study: Study, steps: int, rounds: int) -> dict[str, str]:
    """Profile each engine on its largest number of devices; return the engines that fail."""
    whole = study.trials[0].batch_size
    last = {trial.engine: trial for trial in study.trials if trial.batch_size == whole}
    failed: dict[str, str] = {}
    for engine, trial in last.items():
        try:
            profile_study(study, [trial], min(steps, 16), min(rounds, 3))
        except TrialError as error:
            failed[engine] = last_line(error)
    if NORMAL in failed:
        raise InputError(f"engine={NORMAL} cannot train this model: {failed[NORMAL]}")
    return failed


def _comparison_facts(trial: Trial, machine: Machine) -> dict[str, Any]:
    from dsstudy.images.data import data_facts

    data = data_facts(trial)
    with shapes_device(trial):
        model = build_model(trial, len(data.classes))
    keys = ("batch_size", "precision", "image_size", "optimizer", "scheduler")
    return {
        "model": trial.model,
        "dataset": data.name,
        "settings": {name: getattr(trial, name) for name in keys},
        "device": machine.device(trial),
        "parameters": parameter_count(model),
    }
