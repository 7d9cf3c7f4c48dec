"""Times of a study: a few steps per trial, trials interleaved and repeated, with spread."""

import contextlib
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dsstudy.errors import InputError
from dsstudy.launching.warm_python import warm_python
from dsstudy.records.files import write_text
from dsstudy.records.reading import read_lines
from dsstudy.records.record import Record
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial
from dsstudy.terminal import writes_a_log


def time_study(study: Study, trials: Sequence[Trial], steps: int = 200, rounds: int = 3) -> Path:
    """Measure how long a training step of each trial takes, and estimate its epoch.

    The trials take turns, `rounds` times, so that a drift of the machine's speed affects all alike.
    In each turn a trial trains two epochs of `steps` steps (fewer if its data set is smaller); only
    the second is timed. Rows of other trials stay.

    Returns
    -------
    Path
        ``times.jsonl`` in the study's folder, one line per trial: ``name``; ``steps`` measured;
        ``seconds_per_step`` of each round and their ``median``; ``steps_per_epoch`` of the trial;
        ``peak_memory_mb``, the largest over all rounds, in MiB; ``seconds_per_epoch_estimate``,
        with ``seconds_per_epoch_min`` and ``_max`` over the rounds; ``timing`` (``exclusive`` if
        every round was); ``environment``.

    Raises
    ------
    InputError, TrialError
        As `dsstudy.launching.run.run_trial`; earlier measurements are kept.
    """
    from dsstudy.images.data import data_facts

    results: dict[str, list[dict[str, Any]]] = {trial.name: [] for trial in trials}
    full = {trial.name: data_facts(trial).train_images // trial.batch_size for trial in trials}
    few = {name: min(steps, number) for name, number in full.items()}
    study.folder.mkdir(parents=True, exist_ok=True)
    file = study.folder / "times.jsonl"
    turns = [trial for _ in range(rounds) for trial in trials]
    with warm_python(trials):
        bar = tqdm(turns, f"{study.name}: times", unit="trial", disable=writes_a_log())
        for trial in bar:
            with briefly_trained(trial, few[trial.name], 2) as record:
                memory = max(epoch["peak_memory_mb"] for epoch in record.epochs())
                results[trial.name].append((record.result() or {}) | {"peak_memory_mb": memory})
            rows = [_time_row(n, some, few[n], full[n]) for n, some in results.items() if some]
            others = [row for row in read_lines(file) if row["name"] not in results]
            write_text(file, "".join(json.dumps(row) + "\n" for row in others + rows))
    return file


@contextlib.contextmanager
def briefly_trained(trial: Trial, steps: int, epochs: int) -> Iterator[Record]:
    """Train a trial with a given number of steps per epoch, in a temporary folder.

    Raises
    ------
    InputError, TrialError
        As `dsstudy.launching.run.run_trial`, without the names of temporary files.
    """
    from dsstudy.launching.launcher import TrialError
    from dsstudy.launching.run import run_trial

    few = {"epochs": epochs, "train_images": steps * trial.batch_size, "test_images": 10}
    with tempfile.TemporaryDirectory() as folder:
        brief = trial.model_copy(update=few | {"output_dir": folder, "overwrite": True})
        try:
            record = run_trial(brief)
        except (InputError, TrialError) as error:
            kind = InputError if isinstance(error, InputError) else TrialError
            raised = kind(_without_files(folder, str(error)))
            raised.add_note(f"trial {trial.name}")
            raise raised from None
        yield record


def _without_files(folder: str, text: str) -> str:
    """Drop the details of an error that name a temporary folder; name its parent in the reason."""
    *details, reason = text.splitlines()
    place = reason.replace(f"output_dir={folder}", f"the folder {Path(folder).parent}")
    place = place.replace("set output_dir to a folder of your own", "set TMPDIR to another folder")
    return "\n".join([*(line for line in details if folder not in line), place])


def _time_row(name: str, results: list[dict[str, Any]], steps: int, full: int) -> dict[str, Any]:
    seconds = [result["seconds_per_epoch"] / steps for result in results]
    shared = any(result["timing"] != "exclusive" for result in results)
    return {
        "name": name,
        "steps": steps,
        "seconds_per_step": seconds,
        "median": statistics.median(seconds),
        "steps_per_epoch": full,
        "peak_memory_mb": max(result["peak_memory_mb"] for result in results),
        "seconds_per_epoch_estimate": statistics.median(seconds) * full,
        "seconds_per_epoch_min": min(seconds) * full,
        "seconds_per_epoch_max": max(seconds) * full,
        "timing": "shared" if shared else "exclusive",
        "environment": results[-1]["environment"],
    }
