"""Processes that are forked from a warm one behave as those that start anew."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from interrupted import SMALL, assert_same
from waiting import wait_until

from dsstudy.launching.launcher import InterruptedTrialError
from dsstudy.launching.run import own_processes, run_trial
from dsstudy.launching.warm_python import (
    wait_until_warm,
    warm_command,
    warm_processes,
    warm_python,
)
from dsstudy.spec.engines import LAUNCHED
from dsstudy.spec.trial import Trial

TELL = """
import json, os, sys, threading
print(json.dumps({
    "arguments": sys.argv[1:], "name": __name__, "folder": os.getcwd(), "beside": sys.path[0],
    "variable": os.environ.get("DSSTUDY_TESTED"), "cores": sorted(os.sched_getaffinity(0)),
    "input": sys.stdin.read(), "warm": "torch" in sys.modules,
}))
sys.exit(3)
"""
WAIT = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: print("asked", flush=True))
print("ready", flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture
def warm():
    """Run a test within a warm process of its own, which some tests kill."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DSSTUDY_WARM", "DSSTUDY_WARM_PID"):
            patch.delenv(name, raising=False)
        with warm_python():
            yield


def forks() -> list[psutil.Process]:
    return warm_processes()[1:]


def start(folder: Path, script: str, *arguments: str, **options) -> subprocess.Popen:
    file = folder / "a script.py"
    file.write_text(script)
    return subprocess.Popen(
        warm_command([str(file), *arguments]), stdout=subprocess.PIPE, text=True, **options
    )


def test_a_fork_has_what_a_new_interpreter_would_have(warm, tmp_path):
    """Arguments, environment, folder, cores, input, output and exit code are the stand-in's own."""
    core = min(os.sched_getaffinity(0))
    process = start(
        tmp_path,
        TELL,
        "two words",
        "--option",
        cwd=tmp_path,
        env=os.environ | {"DSSTUDY_TESTED": "yes"},
        stdin=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    said = json.loads(process.communicate("some input")[0])
    assert process.returncode == 3
    assert said == {
        "arguments": ["two words", "--option"], "name": "__main__", "folder": str(tmp_path),
        "beside": str(tmp_path), "variable": "yes", "cores": [core], "input": "some input",
        "warm": True,
    }  # fmt: skip


def test_other_uses_of_the_interpreter_start_a_new_one(warm):
    """A fork cannot have options of its own, such as ``-c``."""
    command = warm_command(["-c", "import sys; print('torch' in sys.modules)"])
    assert command[0] != sys.executable
    assert subprocess.check_output(command, text=True) == "False\n"


@pytest.mark.parametrize("name", ["DS_ACCELERATOR", "MALLOC_ARENA_MAX", "OMP_WAIT_POLICY"])
def test_what_libraries_read_when_loaded_must_be_the_same(warm, name):
    """Otherwise a trial on another device, say, would train with DeepSpeed's choice for this."""
    assert warm_command(["-m", "this"], os.environ | {name: "7"})[0] == sys.executable


def test_signals_are_handed_on_and_a_fork_ends_with_its_stand_in(warm, tmp_path):
    """A hanging rank is asked for its stack by SIGUSR1; a launcher ends its ranks by SIGKILL."""
    process = start(tmp_path, WAIT)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "asked\n"
    assert len(forks()) == 1
    process.kill()
    wait_until(lambda: not forks())


def test_a_stand_in_ends_by_the_signal_that_ended_the_fork(warm, tmp_path):
    """The launcher's report of a rank that crashed must name the signal."""
    process = start(tmp_path, WAIT)
    assert process.stdout.readline() == "ready\n"
    forks()[0].send_signal(signal.SIGSEGV)
    assert process.wait() == -signal.SIGSEGV


def test_a_fork_counts_once_among_a_trials_own_processes(warm, tmp_path):
    """Counted twice, its CPU time would hide that of other programs, and a time be trusted."""
    process = start(tmp_path, WAIT)
    assert process.stdout.readline() == "ready\n"
    numbers = [one.pid for one in own_processes()]
    assert sorted(set(numbers)) == sorted(numbers)
    assert {process.pid, forks()[0].pid, warm_processes()[0].pid} <= set(numbers)


def test_everything_ends_with_the_process_that_started_it(tmp_path):
    """A study that is killed leaves no process behind."""
    (tmp_path / "wait.py").write_text(WAIT)
    code = (
        "import os, subprocess, sys\n"
        "from dsstudy.launching.warm_python import warm_command, warm_python\n"
        "with warm_python():\n"
        "    process = subprocess.Popen(warm_command([sys.argv[1]]))\n"
        "    print(os.environ['DSSTUDY_WARM_PID'], process.pid, flush=True)\n"
        "    process.wait()\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DSSTUDY_WARM")}
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "wait.py")],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    numbers = [int(word) for word in owner.stdout.readline().split()]
    assert owner.stdout.readline() == "ready\n"
    fork = psutil.Process(numbers[0]).children()[0]
    owner.kill()
    owner.wait()
    wait_until(lambda: not fork.is_running() and not any(map(psutil.pid_exists, numbers)))


@pytest.mark.parametrize("engine", LAUNCHED)
def test_a_warm_trial_equals_a_cold_one(warm, tmp_path, engine, monkeypatch):
    """Bit for bit; its ranks count as its own, not as other programs."""
    facts = SMALL | {"engine": engine, "processes": 2, "keep_checkpoint": True}
    ours = run_trial(Trial(**facts, output_dir=str(tmp_path / "warm")))
    assert "dsstudy-warm" in (ours.folder / "launch.log").read_text() or engine != "deepspeed"
    monkeypatch.setenv("DSSTUDY_WARM", "")
    theirs = run_trial(Trial(**facts, output_dir=str(tmp_path / "cold")))
    assert_same(ours, theirs)
    peaks = [record.epochs()[-1]["peak_memory_mb"] for record in (ours, theirs)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.15)


@pytest.mark.parametrize("engine", LAUNCHED)
def test_a_trial_whose_warm_process_is_killed_is_resumed_cold(warm, tmp_path, engine):
    """It is an interruption, and leaves no rank behind."""
    long = {"engine": engine, "processes": 2, "epochs": 300, "train_images": 320}
    trial = Trial(**long, test_images=10, checkpoint_steps=5, output_dir=str(tmp_path))
    ended = []

    def train() -> None:
        with pytest.raises(InterruptedTrialError) as error:
            run_trial(trial)
        ended.append(str(error.value))

    thread = threading.Thread(target=train)
    thread.start()
    folder = trial.folder
    wait_until(lambda: (folder / "epochs.jsonl").exists() or ended)
    ranks = forks()
    warm_processes()[0].kill()
    thread.join()
    assert "ended from outside" in ended[0]
    wait_until(lambda: not any(rank.is_running() for rank in ranks))
    done = len((folder / "epochs.jsonl").read_text().splitlines())
    record = run_trial(trial.model_copy(update={"epochs": done + 1, "overwrite": True}))
    assert record.finished
    assert "Python starts anew" in (folder / "launch.log").read_text()


def test_what_outlives_the_warm_process_starts_new_interpreters(monkeypatch, tmp_path):
    """A process may inherit the name of a folder that is gone by then."""
    monkeypatch.setenv("DSSTUDY_WARM", str(tmp_path / "gone"))
    monkeypatch.setenv("DSSTUDY_WARM_PID", "1")
    wait_until_warm()
    assert warm_command(["-m", "this"]) == [sys.executable, "-m", "this"]
