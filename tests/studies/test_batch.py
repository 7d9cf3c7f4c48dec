"""A tiny study end to end, as a researcher runs it: killed, resumed, published, read."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

import dsstudy
from dsstudy import paths
from dsstudy.errors import last_line
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.published_copy import publish_study
from dsstudy.records.record import Record
from dsstudy.records.study_folder import study_states, write_study
from dsstudy.spec.study import load_study
from dsstudy.studies.batch import _running_text, run_study

TINY = """\
defaults: {train_images: 320, test_images: 100, epochs: 1}
matrix:
  seed: [0, 1, 2]
overrides:
  - {when: {seed: 1}, set: {epochs: 400}}
"""

FAILING = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))
        self.steps = 0

    def forward(self, images):
        self.steps += self.training and torch.is_grad_enabled()
        if self.steps == 3:
            raise ValueError("no such value in step 3\\n\\na hint")
        return self.net(images)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of three trials, in folders of its own; the second trial takes long."""
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "results_folder", lambda: tmp_path / "published")
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return load_study(file)


def dsstudy_command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "dsstudy"), *arguments]


def test_a_study_is_killed_resumed_and_read(study):
    command = dsstudy_command("run", str(study.file))
    first, second, third = (Record(trial.folder) for trial in study.trials)
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(second.progress)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    trained = (first.folder / "result.json").read_bytes()
    wait_until(lambda: not folder_holder(second.folder), 10)

    states = study_states(study.folder)
    assert [states[t.name] for t in study.trials] == ["completed", "unfinished", "left"]
    shown = subprocess.run(dsstudy_command("status", str(study.folder)), capture_output=True)
    assert shown.returncode == 1
    assert b"1 completed, 1 unfinished, 1 left" in shown.stdout

    # The user sees how long the long trial takes, and shortens it.
    study.file.write_text(TINY.replace("epochs: 400", "epochs: 2"))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 completed" in done.stdout
    assert "1 records there belong to no trial of the study" in done.stdout
    assert (first.folder / "result.json").read_bytes() == trained
    assert third.finished
    assert (third.folder / "trial.ipynb").exists()
    assert "trial" in done.stderr  # the bar over trials


def test_a_failed_trial_is_passed_over_and_run_again_when_asked(study, tmp_path, monkeypatch):
    (tmp_path / "own_failing.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    study.file.write_text(
        "defaults: {train_images: 64, test_images: 10, epochs: 1, image_size: 32}\n"
        "matrix: {model: ['own_failing:Net', lenet]}\n"
    )
    study = load_study(study.file)
    broken, fine = study.trials
    states = run_study(study, study.trials)
    assert states == {broken.name: "failed", fine.name: "completed"}
    file = broken.folder / "result.json"
    # The whole reason is on the last line, whatever lines the message has.
    error = json.loads(file.read_text())["error"]
    assert last_line(error) == "ValueError: no such value in step 3 a hint"
    written = file.stat().st_mtime_ns
    assert run_study(study, study.trials) == states
    assert file.stat().st_mtime_ns == written
    assert run_study(study, study.trials, rerun_failed=True) == states
    assert file.stat().st_mtime_ns > written


def test_a_study_is_checked_whole_before_its_first_trial(study):
    study.file.write_text("matrix: {image_size: [32, 8]}\n")
    study = load_study(study.file)
    with pytest.raises(dsstudy.InputError, match="image_size=8 is not possible"):
        run_study(study, study.trials)
    assert not study.folder.exists()


def test_published_trials_count_as_done_and_read_the_same(study):
    for trial in study.trials[:1]:
        dsstudy.run_trial(trial)
    write_study(study)
    target = publish_study(study.folder)
    assert json.loads((target / "study.json").read_text())["study"] == "tiny"
    assert str(study.folder) not in (target / "trials.jsonl").read_text()
    results, committed = dsstudy.load_results(study.folder), dsstudy.load_results(target)
    shared = [c for c in results if c not in ("output_dir", "data_dir")]
    assert committed[shared].equals(results[shared])
    assert len(dsstudy.load_epochs(target)) == 1
    # On another machine, which has only the repository:
    study.folder.rename(study.folder.with_name("away"))
    write_study(study)
    states = study_states(study.folder)
    assert [states[t.name] for t in study.trials] == ["published", "left", "left"]
    assert publish_study(study.folder) == target
    assert len(dsstudy.load_results(target)) == 1
    dsstudy.run_trial(study.trials[2])
    assert list(dsstudy.load_results(study.folder)["seed"]) == [0, 2]
    assert set(dsstudy.load_epochs(study.folder)["seed"]) == {0, 2}


def test_the_bar_names_every_trial_that_runs(study):
    first, second, _ = study.trials
    for trial, step in ((first, 5), (second, 15)):
        record = Record(trial.folder)
        record.folder.mkdir(parents=True)
        about = {"epoch": 2, "epochs": 2, "steps": 20, "loss": 1.0, "accuracy": None}
        record.set_progress(about | {"step": step})
    assert _running_text([first]).startswith(f"{first.name}: epoch 2/2  step 5/20")
    assert _running_text([first, second]) == f"{first.name} 62 %, {second.name} 88 %"
    assert _running_text([]) == ""
