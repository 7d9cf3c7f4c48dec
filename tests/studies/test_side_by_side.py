"""Several trials at once on this machine, each with its share of it."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from interrupted import outcome
from waiting import wait_until

from dsstudy.errors import InputError
from dsstudy.launching.machine import Gpu, Machine
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.records.study_folder import study_states
from dsstudy.spec.study import load_study
from dsstudy.spec.trial import Trial
from dsstudy.studies import batch, side_by_side
from dsstudy.studies.batch import run_study
from dsstudy.studies.side_by_side import SideBySide, job_environments

LAPTOP = Machine("a processor", cores=4, memory_gib=16, cpu_fp16=False, cpu_bf16=False)
EIGHT = replace(LAPTOP, cores=64, memory_gib=512, gpus=8 * (Gpu("a GPU", 80, bf16=True),))
PAIR = {"engine": "ddp", "processes": 2}

FEW = "{train_images: 320, test_images: 100, epochs: 2, keep_checkpoint: true}"


@pytest.fixture
def on(monkeypatch):
    """Return a function that replaces this machine."""
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def replace_machine(machine: Machine) -> None:
        monkeypatch.setattr(Machine, "here", lambda: machine)

    return replace_machine


@pytest.mark.parametrize(
    ("machine", "jobs", "parameters", "sentence"),
    [
        (LAPTOP, "5", {}, "--jobs 5 is more than this machine's 4 CPU cores have room for"),
        (LAPTOP, "3", PAIR, "4 CPU cores, 2 for each trial, have room for"),
        (LAPTOP, "2", {"threads": 4}, "set --jobs to at most 1, or to auto; nothing was started"),
        (EIGHT, "9", {}, "--jobs 9 is more than this machine's 8 GPUs have room for"),
        (EIGHT, "5", PAIR, "8 GPUs, 2 for each trial, have room for"),
    ],
)
def test_more_jobs_than_have_room_are_refused(on, machine, jobs, parameters, sentence):
    on(machine)
    with pytest.raises(InputError) as error:
        SideBySide(jobs).check([Trial(**parameters)])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5", ""])
def test_what_is_no_number_of_jobs_is_refused(jobs):
    with pytest.raises(InputError, match="give a whole number, 1 or more, or auto"):
        SideBySide(jobs)


@pytest.mark.parametrize(
    ("machine", "parameters", "jobs"),
    [
        (EIGHT, {}, 8),
        (EIGHT, PAIR, 4),
        (EIGHT, {"device": "cpu"}, 20),  # there are no more trials
        (LAPTOP, {}, 4),
        (LAPTOP, PAIR, 2),
        (replace(LAPTOP, memory_gib=5), {}, 2),
        (LAPTOP, {"threads": 3}, 1),
    ],
)
def test_auto_fills_the_machine(on, machine, parameters, jobs):
    on(machine)
    trials = [Trial(seed=seed, **parameters) for seed in range(20)]
    assert side_by_side._most_jobs(trials, machine) == jobs


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["0", "1", "2", "3", "4", "5", "6", "7"]),
        ("7,6,5,4,3,2,1,0", ["7", "6", "5", "4", "3", "2", "1", "0"]),
        (",".join(f"GPU-{i}{i}" for i in range(8)), [f"GPU-{i}{i}" for i in range(8)]),
    ],
)
def test_no_two_jobs_share_a_gpu(on, monkeypatch, visible, names):
    on(EIGHT)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for jobs, each in ((8, 1), (4, 2), (3, 2)):
        shares = [job["CUDA_VISIBLE_DEVICES"] for job in job_environments(EIGHT, jobs)]
        assert [gpu for share in shares for gpu in share.split(",")] == names[: jobs * each]
        assert all(len(share.split(",")) == each for share in shares)


def test_jobs_share_the_cores_that_the_study_may_use(on, monkeypatch):
    on(LAPTOP)
    assert [job["OMP_NUM_THREADS"] for job in job_environments(LAPTOP, 2)] == ["2", "2"]
    assert all("CUDA_VISIBLE_DEVICES" not in job for job in job_environments(LAPTOP, 2))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [job["OMP_NUM_THREADS"] for job in job_environments(LAPTOP, 2)] == ["1", "1"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that makes a study from a text, with records in folders of its own."""
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    here = Machine.here()
    if here.cores < 2:  # the shares are then of one thread each, which any machine has
        monkeypatch.setattr(Machine, "here", lambda: replace(here, cores=2))

    def make(name: str, text: str):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        return load_study(file)

    return make


def test_trials_side_by_side_end_as_one_after_the_other(study, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    matrix = "matrix: {seed: [0, 1, 2]}\n"
    together = study("together", f"defaults: {FEW}\n{matrix}")
    seen = watch_running(monkeypatch)
    states = run_study(together, together.trials, runner=SideBySide("2"))
    assert set(states.values()) == {"completed"}
    assert max(seen) == 2  # two at once, and never more

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = study("alone", f"defaults: {FEW}\n{matrix}")
    run_study(alone, alone.trials)
    for one, other in zip(together.trials, alone.trials, strict=True):
        record, reference = Record(one.folder), Record(other.folder)
        assert_equal_outcomes(outcome(record), outcome(reference))
        result, expected = record.result(), reference.result()
        assert result["environment"]["side_by_side"] == 2
        assert expected["environment"]["side_by_side"] == 1
        assert result["environment"]["threads"]["number"] == 1
        assert result["timing"] == "shared"


def watch_running(monkeypatch) -> list[int]:
    """Return a list that grows by the number of trials that run, each time that one starts."""
    seen, running = [], []
    run = side_by_side.run_notebook

    def counted(trial, manager):
        running.append(trial)
        seen.append(len(running))
        try:
            return run(trial, manager)
        finally:
            running.remove(trial)

    monkeypatch.setattr(side_by_side, "run_notebook", counted)
    return seen


def assert_equal_outcomes(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = value.tobytes() == other[name].tobytes() if hasattr(value, "tobytes") else (
            value == other[name]
        )  # fmt: skip
        assert same, name


def test_a_failed_or_killed_trial_stops_no_other(study, monkeypatch):
    # Of two kernels, the one that died is named: not the one that was forked last.
    several = study(
        "several",
        "defaults: {train_images: 320, test_images: 100, epochs: 1}\n"
        "matrix: {seed: [0, 1, 2]}\n"
        "overrides: [{when: {seed: 0}, set: {epochs: 100000}}]\n",
    )
    long, *short = several.trials
    run = side_by_side.run_notebook

    def killed_after_the_others(trial, manager):
        note = run(trial, manager)
        if trial == short[-1]:
            wait_until(lambda: len(managers) == 3)
            os.kill(managers[long.name].newest.pid, signal.SIGABRT)
        return note

    managers = {}
    make = side_by_side.kernel_manager

    def noted(trial, manager):
        managers[trial.name] = manager
        return killed_after_the_others(trial, manager)

    assert make({}) is not make({})
    monkeypatch.setattr(side_by_side, "run_notebook", noted)
    states = run_study(several, several.trials, runner=SideBySide("2"))
    assert [states[trial.name] for trial in short] == ["completed", "completed"]
    assert states[long.name] == "unfinished"
    assert "SIGABRT" in Record(long.folder).result()["error"]


def test_ctrl_c_ends_all_trials_which_can_be_resumed(study):
    endless = study(
        "endless",
        "defaults: {train_images: 320, test_images: 100, epochs: 100000}\nmatrix: {seed: [0, 1]}\n",
    )
    records = [Record(trial.folder) for trial in endless.trials]
    command = [
        str(Path(sys.executable).parent / "dsstudy"),
        "run",
        str(endless.file),
        "--jobs",
        "2",
    ]
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: all(record.epochs() and record.progress() for record in records))
    runner.send_signal(signal.SIGINT)
    said = runner.communicate(timeout=120)[1]
    assert runner.returncode == 130
    assert f"Resume with: dsstudy run {endless.file} --jobs 2" in said
    assert set(study_states(endless.folder).values()) == {"unfinished"}
    assert not any(folder_holder(record.folder) for record in records)
    assert all(list(record.checkpoints.glob("epoch-*")) for record in records)


def test_one_job_is_the_study_as_ever(on):
    from dsstudy.cli import _runner

    assert type(_runner("1", None)) is batch.ThisMachine
    with pytest.raises(InputError, match="--jobs is not possible with --ray"):
        _runner("2", "auto")
