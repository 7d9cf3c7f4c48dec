"""Bars on a terminal, and the lines that stand for them in a log."""

import subprocess
import sys

import pytest

from dsstudy import terminal
from dsstudy.launching import progress
from dsstudy.launching.progress import StudyBar, TrialBar
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial

STEP = {"epoch": 1, "epochs": 2, "step": 3, "steps": 20, "loss": 1.5, "accuracy": None}


@pytest.fixture
def shell(monkeypatch):
    """Let the bars of this process be those of a shell's process, which has no notebook."""
    for module in (terminal, progress):
        monkeypatch.setattr(module, "in_notebook", lambda: False)


@pytest.fixture
def recorded(short):
    """Return a function that makes a trial and the record of its two epochs."""

    def make(name: str, **result) -> Trial:
        trial = short(name, epochs=2)
        record = Record(trial.folder)
        record.start(trial)
        for epoch, accuracy in ((1, 10.0), (2, 61.25)):
            record.add_epoch({"epoch": epoch, "test_accuracy": accuracy})
        record.finish({"status": "completed", "error": None} | result)
        return trial

    return make


def test_a_study_writes_a_line_a_trial_where_there_is_no_terminal(shell, recorded, capsys):
    with StudyBar("small", 3) as bar:
        for trial, note in (
            (recorded("a"), ""),
            (recorded("b", status="failed", error="details\nValueError: no"), ""),
            (recorded("c"), "its notebook failed"),
        ):
            bar.set_postfix_str("beside the bar")
            bar.finish_trial(trial, note)
    name, said = Trial(train_images=320, test_images=100, epochs=2).name, capsys.readouterr()
    assert said.err.splitlines() == [
        f"small: trial 1 of 3: {name}: completed, 2 of 2 epochs, test accuracy 61.25 %",
        f"small: trial 2 of 3: {name}: failed: ValueError: no",
        f"small: trial 3 of 3: {name}: completed, 2 of 2 epochs, test accuracy 61.25 %",
    ]
    assert said.out == f"{name}: its notebook failed\n"


def test_a_trial_writes_one_line_where_there_is_no_terminal(shell, recorded, capsys):
    trial = recorded("a")
    bar = TrialBar(trial)
    for step in range(20):
        bar.show(STEP | {"step": step})
    bar.close()
    bar.close()  # as tqdm does once more
    del bar
    assert capsys.readouterr().err == f"{trial.name}: 2 of 2 epochs, test accuracy 61.25 %\n"


def test_bars_are_drawn_on_a_terminal(shell, recorded, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    trial = recorded("a")
    bar = TrialBar(trial)
    bar.show(STEP)
    bar.close()
    with StudyBar("small", 1) as bar:
        bar.finish_trial(trial, "its notebook failed")
    said = capsys.readouterr()
    assert "step 3/20" in said.err
    assert "1/1" in said.err
    assert "trial 1 of 1" not in said.err
    assert f"{trial.name}: its notebook failed" in said.out


def test_a_notebook_keeps_its_bars(monkeypatch):
    # A kernel's output is no terminal, but no log either.
    monkeypatch.setattr(terminal, "in_notebook", lambda: True)
    assert not terminal.writes_a_log()
    with StudyBar("small", 1) as bar:
        assert not bar.disable


def test_a_run_in_a_log_is_one_line(short):
    # As cron, CI and nohup run it: no line is drawn over, and none is written for every step.
    trial = short(epochs=2)
    code = f"from dsstudy import Trial, run_trial; run_trial(Trial(**{trial.model_dump()!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\r" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "epoch" in line)
    assert line.startswith(f"{trial.name}: 2 of 2 epochs, test accuracy")
