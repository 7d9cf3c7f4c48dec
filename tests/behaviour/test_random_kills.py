"""Kill -9 at random moments, many times: a test of what `notebooks/interrupted.ipynb` promises.

``make test-slow`` runs this. ``DSSTUDY_KILLS`` says how many kills (200 by default), over all
engines together, ``DSSTUDY_SEED`` at which moments, and ``DSSTUDY_KILLS_RECORD`` names a file for
the outcome: the book's is ``benchmarks/results/kills.json``.
"""

import contextlib
import json
import os
import random
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from interrupted import assert_same

from dsstudy.launching.machine import Machine, describe_environment
from dsstudy.records.record import Record
from dsstudy.spec.study import Study, load_study
from dsstudy.studies.batch import run_study

KILLS = int(os.environ.get("DSSTUDY_KILLS", "200"))
SHORT = "train_images: 640, test_images: 200, checkpoint_steps: 13"
DDP = "engine: ddp, processes: 2"
DEEPSPEED = "engine: deepspeed, processes: 2"
TRIALS = {
    "normal": f"{SHORT}, epochs: 30, optimizer: adam, scheduler: cyclic, cycle_steps: 17",
    "ddp": f"{SHORT}, {DDP}, epochs: 20, optimizer: adam, scheduler: warmup",
    "zero0": f"{SHORT}, {DEEPSPEED}, epochs: 20, optimizer: adam, scheduler: warmup",
    "zero2": f"{SHORT}, {DEEPSPEED}, epochs: 20, zero_stage: 2, scheduler: cyclic, cycle_steps: 17",
}
"""1,200 steps in plain PyTorch, 800 with DDP, and 800 with DeepSpeed, without ZeRO and with it."""


def study_of(folder: Path, name: str, number: int) -> Study:
    """Write a study of one trial, which runs in a folder of its own."""
    file = folder / f"{name}-{number}.yaml"
    file.write_text(f"defaults: {{{TRIALS[name]}}}\nmatrix: {{seed: [0]}}\n")
    return load_study(file)


def start(study: Study) -> threading.Thread:
    """Run a study as its user does: papermill, a warm kernel, the launcher."""
    thread = threading.Thread(target=run_study, args=(study, study.trials))
    thread.start()
    return thread


def processes() -> dict[str, psutil.Process]:
    """Return the processes of the running trial by their roles."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            command, rank = " ".join(process.cmdline()), process.environ().get("RANK")
            if "forkserver" in command and "forkserver" in " ".join(process.parent().cmdline()):
                found["kernel"] = process
            elif "deepspeed.launcher.launch" in command:
                found["launch"] = process
            elif "dsstudy.training.rank" in command and rank:
                found[f"rank {rank}"] = process
            elif "bin/deepspeed" in command or "bin/torchrun" in command:
                found["launcher"] = process
    return found


def kill_something(run: threading.Thread, moment: float, chance: random.Random) -> str:
    """Wait for a moment and kill one of the trial's processes, or all; return which.

    If the trial has ended by then, kill nothing and return nothing.
    """
    run.join(timeout=moment)
    there = processes()
    victim = chance.choice(["all", *there])
    if not run.is_alive() or not there:
        return ""
    for process in there.values() if victim == "all" else [there[victim]]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return victim


@pytest.mark.slow
def test_trials_killed_at_random_moments_end_as_if_uninterrupted(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    seed = os.environ.get("DSSTUDY_SEED", "0")
    chance = random.Random(seed)
    wholes, windows = {}, {}
    for name in TRIALS:
        for number in (0, 1):  # the first run loads the libraries for later kernels
            study, began = study_of(tmp_path, name, number), time.time()
            start(study).join()
            wholes[name] = Record(study.trials[0].folder)
            # Half of the kills before the first step, half within as long a time of training.
            windows[name] = 2 * (wholes[name].epochs()[0]["started_at"] - began)
    kills, trials, killed = 0, 0, {name: {} for name in TRIALS}
    while kills < KILLS:
        name = list(TRIALS)[trials % len(TRIALS)]
        trials += 1
        study = study_of(tmp_path, name, number=1 + trials)
        record = Record(study.trials[0].folder)
        while not record.finished:
            recorded, began = record.epochs(), time.time()
            run = start(study)
            victim = kill_something(run, chance.uniform(0, windows[name]), chance)
            run.join(timeout=300)
            if not victim:  # the machine has become faster
                windows[name] = min(windows[name], time.time() - began)
            assert record.epochs()[: len(recorded)] == recorded
            assert victim or record.finished, "a trial that nobody killed has failed"
            if victim:
                kills += 1
                killed[name][victim] = killed[name].get(victim, 0) + 1
        assert_same(record, wholes[name])
        with capsys.disabled():
            print(f"\n{kills} kills, {trials} trials, all equal: {killed}", flush=True)
    if file := os.environ.get("DSSTUDY_KILLS_RECORD"):
        outcome = {
            "kills": kills,
            "trials": trials,
            "killed": killed,
            "seed": seed,
            "date": datetime.now(UTC).date().isoformat(),
            "environment": describe_environment(Machine.here()),
        }
        Path(file).write_text(json.dumps(outcome, indent=1) + "\n")
