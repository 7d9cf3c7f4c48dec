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
from dsstudy.launching.launcher import TrialError
from dsstudy.launching.run import run_trial
from dsstudy.spec.engines import LAUNCHED


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
def test_a_failing_ranks_own_error_reaches_the_user(short, engine):
    # With one image per rank, ResNet's last batch normalisation has one value per channel.
    trial = short(
        engine=engine, processes=2, model="resnet18", image_size=32, batch_size=2,
        train_images=20,
    )  # fmt: skip
    with pytest.raises(TrialError, match="Expected more than 1 value per channel") as error:
        run_trial(trial)
    assert "of 2 failed with ValueError" in str(error.value).splitlines()[-1]
    assert "batch_norm" in str(error.value)  # from the rank's own traceback
    result = dsstudy.Record(trial.folder).result()
    assert result["status"] == "failed"
    assert "Expected more than 1 value" in result["error"]


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
