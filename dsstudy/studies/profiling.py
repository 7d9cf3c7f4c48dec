"""Profiles of a study's trials: how long each phase of a step takes."""

import json
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tqdm import tqdm

from dsstudy.launching.warm_python import warm_python
from dsstudy.records.files import write_text
from dsstudy.records.reading import read_lines
from dsstudy.records.schema import PHASES
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial
from dsstudy.studies.timing import briefly_trained
from dsstudy.studies.trace import Timeline, read_trace, timeline
from dsstudy.terminal import writes_a_log

_ROW_PARAMETERS = ("model", "architecture", "engine", "setting", "processes", "batch_size",
                   "image_size", "precision", "zero_stage")  # fmt: skip


def profile_study(study: Study, trials: Sequence[Trial], steps: int = 32, rounds: int = 3) -> Path:
    """Measure how long each phase of a training step takes, for each trial.

    A trial trains with its own engine and launcher, in a temporary folder: `steps` steps to warm
    up, then alternately `steps` plain steps and `steps` steps under PyTorch's profiler, `rounds`
    times. The trial's own record is not changed.

    Parameters
    ----------
    study
        The study; rows of its other trials stay.
    trials
        The trials to profile.
    steps
        Steps per round; fewer if a trial's data set is smaller.
    rounds
        How often plain and profiled rounds alternate.

    Returns
    -------
    Path
        ``profiles.jsonl`` in the study's folder, one line per trial: ``name`` and some parameters;
        ``threads`` per rank; ``steps`` per round; ``plain_seconds`` and ``profiled_seconds`` per
        step, by round; ``ranks``, each with its ``rounds`` (mean seconds per step by phase) and one
        ``step`` of the middle round, whose length is the median (phase, start and end in µs since
        that step began on rank 0); ``timing`` (as in a result); ``environment``. The traces of the
        middle round are in the trials' folders, ``trace-rank<rank>.json.gz``;
        https://ui.perfetto.dev or chrome://tracing opens them.

    Raises
    ------
    InputError, TrialError
        As `dsstudy.launching.run.run_trial`; earlier measurements are kept.
    """
    from dsstudy.images.data import data_facts

    file = study.folder / "profiles.jsonl"
    study.folder.mkdir(parents=True, exist_ok=True)
    with warm_python(trials):
        bar = tqdm(trials, f"{study.name}: profiles", unit="trial", disable=writes_a_log())
        for trial in bar:
            full = data_facts(trial).train_images // trial.batch_size
            row = _profile_trial(trial, min(steps, full), rounds, study.folder / trial.name)
            # Another process may have profiled other trials meanwhile.
            rows = {old["name"]: old for old in read_lines(file)} | {trial.name: row}
            write_text(file, "".join(json.dumps(rows[name]) + "\n" for name in sorted(rows)))
    return file


def _profile_trial(trial: Trial, steps: int, rounds: int, keep: Path) -> dict[str, Any]:
    """Profile one trial, and keep the traces of its middle round in a folder."""
    from dsstudy.training.profiled_session import is_profiled, trace_name
    from dsstudy.training.rank import PROFILED

    with (
        patch.dict(os.environ, {PROFILED: "1"}),
        briefly_trained(trial, steps, 1 + 2 * rounds) as record,
    ):
        result = record.result() or {}
        seconds = {epoch["epoch"]: epoch["train_seconds"] / steps for epoch in record.epochs()}
        profiled = [seconds[epoch] for epoch in seconds if is_profiled(epoch)]
        middle = profiled.index(statistics.median_low(profiled))
        files = [
            [record.folder / trace_name(turn, rank) for rank in range(trial.processes)]
            for turn in range(1, rounds + 1)
        ]
        lines = [[timeline(read_trace(file)["traceEvents"]) for file in turn] for turn in files]
        ranks = zip(zip(*lines, strict=True), _median_step(lines[middle]), strict=True)
        keep.mkdir(parents=True, exist_ok=True)
        for rank, file in enumerate(files[middle]):
            shutil.copy(file, keep / f"trace-rank{rank}.json.gz")
        return {
            "name": trial.name,
            **{name: getattr(trial, name) for name in _ROW_PARAMETERS},
            "threads": read_trace(files[middle][0])["threads"],
            "steps": steps,
            "plain_seconds": [seconds[epoch - 1] for epoch in seconds if is_profiled(epoch)],
            "profiled_seconds": profiled,
            "ranks": [
                {"rounds": [_phase_means(line) for line in rounds_of_rank], "step": step}
                for rounds_of_rank, step in ranks
            ],
            "timing": result["timing"],
            "environment": result["environment"],
        }


def _phase_means(line: Timeline) -> dict[str, float]:
    return dict(zip(PHASES, line.seconds().mean(axis=0).tolist(), strict=True))


def _median_step(lines: Sequence[Timeline]) -> list[list[tuple[str, float, float]]]:
    """Return the same step on every rank: the one with the median length on rank 0."""
    lengths = lines[0].seconds().sum(axis=1).tolist()
    step = lengths.index(statistics.median_low(lengths))
    begin = lines[0].bounds[step]
    return [
        [
            (phase, round(start - begin, 1), round(end - begin, 1))
            for phase, start, end in line.pieces(step)
        ]
        for line in lines
    ]
