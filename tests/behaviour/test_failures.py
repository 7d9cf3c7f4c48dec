"""Failures, provoked for real: nothing hangs, nothing is left behind, and messages are clear."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from ranks import processes_of, wait_for_training
from waiting import wait_until

import dsstudy
from dsstudy.errors import last_line
from dsstudy.launching.launcher import InterruptedTrialError, TrialError
from dsstudy.launching.notebook import run_notebook
from dsstudy.launching.run import run_trial
from dsstudy.records.study_folder import trial_state
from dsstudy.spec.engines import LAUNCHED
from dsstudy.studies.timing import briefly_trained

FAULTS = """\
import os
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
        self.steps = 0

    def forward(self, images):
        if self.training and torch.is_grad_enabled():
            self.steps += 1
            if self.steps == 5:
                self.fail()
        return self.net(images)

    def fail(self):
        pass


class Speaks(Net):
    def fail(self):
        raise ValueError("lost connection 4 of 5")


class LaterUnused(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.extra = nn.Linear(2, 2)

    def forward(self, images):
        scores = super().forward(images)
        return scores if self.steps >= 5 else scores + self.extra(torch.ones(2)).sum()


class Aborts(Net):
    def fail(self):
        os.abort()
"""


@pytest.fixture
def own(short, tmp_path, monkeypatch):
    """Return a function that makes a trial of one of the nets above."""
    (tmp_path / "own_faults.py").write_text(FAULTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(model: str, name: str = "trial", **parameters):
        return short(name, model=f"own_faults:{model}", image_size=32, **parameters)

    yield make
    sys.modules.pop("own_faults", None)


def test_refused_trials_write_nothing(short, tmp_path):
    with pytest.raises(dsstudy.InputError):
        run_trial(short(model="alexnet", image_size=32))
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_folders_place_is_named(short, tmp_path):
    (tmp_path / "trial").write_text("in the way")
    with pytest.raises(dsstudy.InputError, match="cannot be written"):
        run_trial(short())


def test_a_record_that_cannot_be_read_is_not_written_over(short, tmp_path):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "trial.json").write_text('{"model": ')
    with pytest.raises(dsstudy.InputError, match="a trial that this version cannot read"):
        run_trial(short())


@pytest.mark.parametrize("name", ["checkpoint", "result.json", "steps.npz"])
def test_files_that_belong_to_no_trial_are_not_removed(short, tmp_path, name):
    (tmp_path / "trial").mkdir()
    theirs = tmp_path / "trial" / name
    if name == "checkpoint":
        theirs.mkdir()
        theirs = theirs / "thesis.pt"
    theirs.write_text('{"years": "of work"}')
    with pytest.raises(dsstudy.InputError, match=f"holds {name} but no trial.json"):
        run_trial(short())
    assert theirs.read_text() == '{"years": "of work"}'


@pytest.mark.parametrize("engine", LAUNCHED)
def test_a_failing_ranks_own_error_reaches_the_user(own, engine):
    # The word that an error about a lost rank has too.
    trial = own("Speaks", engine=engine, processes=2)
    with pytest.raises(TrialError) as error:
        run_trial(trial)
    assert not isinstance(error.value, InterruptedTrialError)
    assert "of 2 failed with ValueError: lost connection 4 of 5" in last_line(error.value)
    assert "own_faults.py" in str(error.value)  # from the rank's own traceback
    result = dsstudy.Record(trial.folder).result()
    assert (result["status"], result["interrupted"]) == ("failed", False)
    assert last_line(result["error"]) == last_line(error.value)


def test_a_brief_training_names_what_ddp_refuses_and_no_file_that_is_gone(own):
    # DDP's own error numbers the parameters, and ends with a hint that is no reason.
    trial = own("LaterUnused", engine="ddp")
    with pytest.raises(TrialError) as error, briefly_trained(trial, 8, 1):
        pass
    assert "take no part in the loss" in last_line(error.value)
    assert "extra.weight, extra.bias" in last_line(error.value)
    assert "launch.log" not in str(error.value)


def test_a_crash_of_a_rank_is_named_by_its_signal(own):
    trial = own("Aborts", engine="ddp", processes=2)
    with pytest.raises(InterruptedTrialError, match=r"rank \d was ended by SIGABRT") as error:
        run_trial(trial)
    assert "own_faults.py" in str(error.value)  # the Python frame that crashed
    assert trial_state(dsstudy.Record(trial.folder)) == "unfinished"


def test_a_crash_at_the_same_place_is_a_failure_the_second_time(own):
    normal, states = own("Aborts"), []
    for _ in range(2):
        run_notebook(normal)
        states.append(trial_state(dsstudy.Record(normal.folder)))
    assert states == ["unfinished", "failed"]
    reason = last_line(dsstudy.Record(normal.folder).result()["error"])
    assert reason.startswith("the notebook's kernel was ended by SIGABRT (aborted) in epoch 1")
    assert "at the same place before" in reason


@pytest.mark.parametrize(
    ("engine", "victim"), [("deepspeed", "1"), ("ddp", "1"), ("ddp", "launcher")]
)
def test_a_killed_rank_or_launcher_ends_the_trial_within_seconds(short, engine, victim):
    trial = short(engine=engine, processes=2, epochs=1000)
    killed_at = []

    def kill() -> None:
        wait_for_training(trial)
        processes_of(trial)[victim].kill()
        killed_at.append(time.monotonic())

    threading.Thread(target=kill).start()
    with pytest.raises(TrialError, match="ended from outside"):
        run_trial(trial)
    assert time.monotonic() - killed_at[0] < 10
    assert not processes_of(trial)


@pytest.mark.parametrize(
    ("engine", "sign"),
    [
        ("deepspeed", signal.SIGINT),
        ("deepspeed", signal.SIGTERM),
        ("deepspeed", signal.SIGKILL),
        ("ddp", signal.SIGINT),
        ("ddp", signal.SIGKILL),
    ],
)
def test_no_process_is_left_behind(short, engine, sign):
    trial = short(engine=engine, processes=2, epochs=1000)
    code = f"import dsstudy; dsstudy.run_trial(dsstudy.Trial(**{trial.model_dump()!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    ranks = wait_for_training(trial)
    assert len(ranks) == 2
    parent.send_signal(sign)
    assert parent.wait(timeout=15) != 0
    wait_until(lambda: not processes_of(trial), 5)
