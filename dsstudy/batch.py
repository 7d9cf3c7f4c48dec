"""Running a study: papermill per trial, one at a time, resumed, kept going past failures."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from dsstudy.record import FINISHED, Record, read_lines, write_text
from dsstudy.study import Study, published_folder
from dsstudy.trial import InputError, Trial, project_root

STATES = (*FINISHED, "published", "running", "failed", "unfinished", "left")
"""What a trial of a study can be; ``unfinished`` was begun and is not running now."""


def run_study(study: Study, trials: Sequence[Trial], rerun_failed: bool = False) -> dict[str, str]:
    """Run what is left of a study's trials, each by papermill in a kernel of its own.

    Parameters
    ----------
    study
        The whole study; its list of trials is noted in its folder, for `study_states`.
    trials
        Those of its trials to run.
    rerun_failed
        Run those again that failed before; otherwise they are left as they are.

    Returns
    -------
    dict
        The state of each of the trials at the end, by name.

    Raises
    ------
    InputError
        This machine cannot run one of the trials: none was started.
    """
    before = _states(study.folder, study.name, trials)
    again = ("left", "unfinished", *(["failed"] if rerun_failed else []))
    to_run = [trial for trial in trials if before[trial.name] in again]
    _check(to_run)
    write_study(study)
    with tqdm(to_run, desc=study.name, unit="trial") as bar:
        for trial in bar:
            with _watched(Record(trial.folder), trial.name, bar):
                _run_notebook(trial)
    return _states(study.folder, study.name, trials)


def write_study(study: Study) -> None:
    """Note in the study's folder which trials it has, and what the user set otherwise."""
    study.folder.mkdir(parents=True, exist_ok=True)
    content = {
        "study": study.name,
        "file": study.file.name,
        "overrides": study.overrides,
        "trials": [trial.name for trial in study.trials],
    }
    write_text(study.folder / "study.json", json.dumps(content, indent=1))


def study_states(folder: str | Path) -> dict[str, str]:
    """Return the state of every trial of the study that is run in a folder, one of `STATES`.

    Raises
    ------
    InputError
        No study was run there.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / "study.json").read_text())
    except OSError:
        raise InputError(
            f"{folder} is no study's folder: give one that dsstudy run made, as runs/demo"
        ) from None
    return _states_by_name(folder, content["study"], content["trials"])


def strangers(folder: str | Path) -> list[str]:
    """Return the names of records in a study's folder that belong to none of its trials.

    They are what is left of a study whose parameters were changed.
    """
    known = study_states(folder)
    found = (file.parent.name for file in Path(folder).glob("*/trial.json"))
    return sorted(name for name in found if name not in known)


def publish(folder: str | Path) -> Path:
    """Write the finished trials of a study's folder into its small, committed copy.

    Trials that were published before, perhaps from another machine, stay.

    Returns
    -------
    Path
        The folder that holds ``trials.jsonl``, ``epochs.jsonl`` and ``study.json``.
    """
    folder = Path(folder)
    study_states(folder)  # says so if this is no study's folder
    content = json.loads((folder / "study.json").read_text())
    target = published_folder(content["study"])
    target.mkdir(parents=True, exist_ok=True)
    rows = {row["name"]: row for row in read_lines(target / "trials.jsonl")}
    epochs = read_lines(target / "epochs.jsonl")
    for record in map(Record, sorted(folder.glob("*/"))):
        trial, result = record.trial(), record.result()
        if trial is None or result is None:
            continue
        places = {"output_dir": "none", "data_dir": Path(trial.data_dir).name}  # no machine's paths
        rows[trial.name] = {"name": trial.name, **trial.model_dump(), **places, **result}
        epochs = [epoch for epoch in epochs if epoch["name"] != trial.name]
        epochs += [{"name": trial.name, **epoch} for epoch in record.epochs()]
    epochs.sort(key=lambda epoch: (epoch["name"], epoch["epoch"]))
    _write_lines(target / "trials.jsonl", [rows[name] for name in sorted(rows)])
    _write_lines(target / "epochs.jsonl", epochs)
    for name in ("study.json", "times.jsonl"):
        if (folder / name).exists():
            write_text(target / name, (folder / name).read_text())
    return target


def trial_command(trial: Trial) -> list[str]:
    """Return the papermill command line that runs a trial anywhere."""
    command = ["papermill", "notebooks/trial.ipynb", f"{trial.folder}/trial.ipynb"]
    for name, value in trial.model_dump().items():
        command += ["-p", name, str(value)]
    return command


def _check(trials: Sequence[Trial]) -> None:
    from dsstudy.machine import Machine, problems

    machine = Machine.here()
    for trial in trials:
        if found := problems(trial, machine):
            raise InputError(f"trial {trial.name}: {found[0]}; nothing was started")


def _run_notebook(trial: Trial) -> None:
    """Execute the trial's notebook; whatever happens, the record states it in the end."""
    import papermill

    from dsstudy.warm import WarmKernelManager

    record = Record(trial.folder)
    record.folder.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            project_root() / "notebooks" / "trial.ipynb",
            record.folder / "trial.ipynb",
            parameters=trial.model_dump(),
            progress_bar=False,
            request_save_on_cell_execute=False,
            kernel_manager_class=WarmKernelManager,
            shutdown_kernel="immediate",  # the record is written: no waiting for torch's way out
        )
    except Exception as error:
        if record.result() is None:  # the kernel died, before or while it trained
            record.start(trial)
            record.fail(str(error).strip())


@contextlib.contextmanager
def _watched(record: Record, name: str, bar: tqdm) -> Iterator[None]:
    """Show beside the bar over trials how far the current one has come."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            progress = record.progress()
            where = "starting"
            if progress:
                loss = progress["loss"]
                where = (
                    f"epoch {progress['epoch']}/{progress['epochs']} step {progress['step']}"
                    f"/{progress['steps']} loss {'not finite' if loss is None else f'{loss:.3f}'}"
                )
            bar.set_postfix_str(f"{name}: {where}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _states(folder: Path, study: str, trials: Sequence[Trial]) -> dict[str, str]:
    return _states_by_name(folder, study, [trial.name for trial in trials])


def _states_by_name(folder: Path, study: str, names: Sequence[str]) -> dict[str, str]:
    published = {row["name"]: row for row in read_lines(published_folder(study) / "trials.jsonl")}
    return {name: _state(Record(folder / name), published.get(name)) for name in names}


def _state(record: Record, published: dict[str, Any] | None) -> str:
    result = record.result()
    if result is not None:
        return result["status"]
    if published is not None and published["status"] in FINISHED:
        return "published"
    progress = record.progress()
    if progress is not None and psutil.pid_exists(progress["pid"]):
        return "running"
    return "unfinished" if (record.folder / "trial.json").exists() else "left"


def summary(states: dict[str, str]) -> str:
    """Count the states in words: ``3 completed, 1 failed``."""
    counts = Counter(states.values())
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no trials"


def _write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    write_text(file, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
