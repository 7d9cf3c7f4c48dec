"""Interrupted trials resume and end bit for bit as if they had not been interrupted."""

import dataclasses
import json
import multiprocessing
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from interrupted import SMALL, assert_same, forget_the_end, train_until

import dsstudy
from dsstudy.launching import run
from dsstudy.launching.machine import Machine
from dsstudy.launching.notebook import _note_failure, _notebook_failure
from dsstudy.launching.run import _Clock, run_trial
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial
from dsstudy.training.checkpoint import checkpoint_name, newest_checkpoints, read_facts

DROPOUT = {"model": "squeezenet1_0", "image_size": 21, "epochs": 2}
"""A model whose training draws random numbers."""

STATISTICS = {"model": "torchvision/mobilenet_v3_small", "image_size": 32, "epochs": 2}
"""A model with batch normalisation, whose statistics each rank keeps; it draws numbers too."""


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"optimizer": "adam", "scheduler": "cyclic", "cycle_steps": 7, **DROPOUT},
        {"engine": "ddp", "processes": 3, "batch_size": 15, "learning_rate": 0.05, **STATISTICS},
        {"engine": "deepspeed", "processes": 2, "optimizer": "adam", "scheduler": "warmup"},
        {"engine": "deepspeed", "processes": 2, "zero_stage": 2, "scheduler": "cyclic",
         "cycle_steps": 7},
        pytest.param({"engine": "deepspeed", "processes": 2, **DROPOUT}, marks=pytest.mark.slow),
        pytest.param({"engine": "deepspeed", "zero_stage": 1, "optimizer": "adam"},
                     marks=pytest.mark.slow),
        pytest.param({"engine": "deepspeed", "processes": 2, "zero_stage": 3},
                     marks=pytest.mark.slow),
    ],
    ids=str,
)  # fmt: skip
def test_a_trial_resumes_from_a_checkpoint_within_an_epoch(
    parameters, tmp_path, capsys, monkeypatch
):
    # A sum of three gradients depends on their order, unlike a sum of two: allow three ranks even
    # on two cores.
    here = dataclasses.replace(Machine.here(), cores=max(3, Machine.here().cores))
    monkeypatch.setattr(Machine, "here", lambda: here)
    trial = Trial(**(SMALL | parameters), output_dir=str(tmp_path / "whole"))
    whole = run_trial(trial)
    shutil.copytree(whole.folder, tmp_path / "interrupted")
    interrupted = Record(tmp_path / "interrupted")
    forget_the_end(interrupted, epochs=trial.epochs - 1, checkpoints=1)
    kept = interrupted.epochs()

    run_trial(trial.model_copy(update={"output_dir": str(interrupted.folder)}))
    assert "Resuming from checkpoint" in capsys.readouterr().out
    assert interrupted.epochs()[: len(kept)] == kept
    assert_same(interrupted, whole)
    assert interrupted.result()["timing"] == "shared"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Record:
    """Return the record of an uninterrupted training."""
    return run_trial(Trial(**SMALL, output_dir=str(tmp_path_factory.mktemp("whole") / "trial")))


def train_in_a_process(trial: Trial, operation: int) -> bool:
    """Train in a process that dies at an operation; return whether it survived to the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "dsstudy.launching.run"])
    process = context.Process(target=train_until, args=(trial.model_dump(), operation))
    process.start()
    process.join()
    return process.exitcode == 0


OPERATIONS = random.Random(0).sample(range(1, 120), 8)
"""A sample of the moments of `test_killed_at_any_write`; all of them take minutes."""


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param(OPERATIONS, id="some"),
        pytest.param(range(1, 1000), id="all", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_write(operations, whole, tmp_path):
    for operation in operations:
        folder = tmp_path / str(operation)
        trial = Trial(**SMALL, output_dir=str(folder))
        lived = train_in_a_process(trial, operation)
        if not lived:
            assert train_in_a_process(trial, operation=0)
        assert_same(Record(folder), whole)
        if lived:
            break
    else:
        assert len(operations) < 100, "a training has fewer operations than that"


def test_recorded_epochs_are_kept_if_no_checkpoint_is_left(whole, tmp_path, capsys):
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=2, checkpoints=2)
    kept = record.epochs()
    run_trial(Trial(**SMALL, output_dir=str(record.folder)))
    said = capsys.readouterr().out
    assert "no sound checkpoint" in said
    assert "had to be trained again" not in said  # it came out the same
    assert record.epochs()[:2] == kept
    assert_same(record, whole)


def test_an_epoch_with_another_result_is_reported(whole, tmp_path, capsys):
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=1, checkpoints=2)
    line = (record.folder / "epochs.jsonl").read_text()
    other = line.replace('"train_loss": 2.', '"train_loss": 3.')
    (record.folder / "epochs.jsonl").write_text(other)
    run_trial(Trial(**SMALL, output_dir=str(record.folder)))
    assert "epoch 1 had to be trained again" in capsys.readouterr().out
    assert (record.folder / "epochs.jsonl").read_text().startswith(other)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("file", ["training.pt", "rank0.pt", "manifest.json"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage, file, whole, tmp_path, capsys):
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=2, checkpoints=0)
    newest, before = newest_checkpoints(record.checkpoints)
    damage(newest / file)
    run_trial(Trial(**SMALL, output_dir=str(record.folder)))
    said = capsys.readouterr().out
    if (damage, file) != (Path.unlink, "manifest.json"):  # without it, it was never complete
        assert f"checkpoint {newest.name} is damaged (" in said
        assert "falling back to the one before it" in said
    assert f"Resuming from checkpoint {before.name}" in said
    assert_same(record, whole)


def test_a_damaged_manifest_is_not_taken_for_other_images(whole, tmp_path, capsys):
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=2, checkpoints=0)
    newest, _ = newest_checkpoints(record.checkpoints)
    text = (newest / "manifest.json").read_text()
    (newest / "manifest.json").write_text(text.replace('"fingerprint": "', '"fingerprint": "0'))
    run_trial(Trial(**SMALL, output_dir=str(record.folder)))
    assert f"{newest.name} is damaged (manifest.json is not what" in capsys.readouterr().out
    assert_same(record, whole)


def test_the_last_two_checkpoints_are_kept(whole):
    assert [folder.name for folder in newest_checkpoints(whole.checkpoints)] == [
        checkpoint_name(epoch=3, step=20),
        checkpoint_name(epoch=3, step=12),
    ]


def test_a_finished_trial_keeps_no_checkpoint_unless_asked(short):
    trial = short(epochs=2, keep_checkpoint=False)
    run_trial(trial)
    assert not Record(trial.folder).checkpoints.exists()


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        ({"fingerprint": "other"}, "have changed since this trial started"),
        ({"device": "cuda"}, "device=cpu is not the device that this trial started on"),
    ],
)
def test_other_images_or_devices_than_at_its_start_are_refused(fact, sentence, whole, tmp_path):
    record = interrupted_with(fact, whole, tmp_path)
    trial = Trial(**SMALL, output_dir=str(record.folder))
    with pytest.raises(dsstudy.InputError, match=sentence):
        run_trial(trial)
    assert len(record.epochs()) == 2


def interrupted_with(fact: dict, whole: Record, tmp_path: Path) -> Record:
    """Return a copy of a record, interrupted after two epochs, with a fact of its start changed."""
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=2, checkpoints=0)
    for folder in newest_checkpoints(record.checkpoints):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["facts"] |= fact
        manifest.pop("facts_sha256")
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return record


def test_a_trial_resumes_with_as_many_threads_as_it_began_with(whole, tmp_path):
    # Sums over other numbers of threads are rounded differently. The trial may resume where it
    # has fewer cores, as on another machine or beside other trials.
    first = Machine.here().cores + 1
    record = interrupted_with({"threads": first}, whole, tmp_path)
    trial = Trial(**SMALL, output_dir=str(record.folder))
    with pytest.raises(dsstudy.InputError, match=f"threads=1 is not .* set threads to {first} or"):
        run_trial(trial.model_copy(update={"threads": 1}))
    threads = run_trial(trial).result()["environment"]["threads"]
    assert (threads["number"], threads["reason"]) == (first, "auto: as many as at the start")
    newest = read_facts(newest_checkpoints(record.checkpoints)[0])
    assert newest["threads"] == first


def test_a_trial_that_another_process_finishes_meanwhile_is_left_as_it_is(
    whole, tmp_path, monkeypatch
):
    trial = Trial(**SMALL, output_dir=str(tmp_path / "trial"))

    def data_facts(trial: Trial):
        shutil.copytree(whole.folder, trial.folder)

    monkeypatch.setattr(run, "data_facts", data_facts)
    run_trial(trial)
    for name in ("result.json", "trial.json"):
        assert (trial.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_kernel_killed_while_it_overwrites_leaves_what_it_has_recorded(whole, tmp_path):
    from nbclient.exceptions import DeadKernelError

    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=2, checkpoints=0)
    trial = Trial(**SMALL, output_dir=str(record.folder), overwrite=True)
    failure = _notebook_failure(DeadKernelError("Kernel died"), out_of_memory=False)
    _note_failure(failure, trial, record, None)
    assert record.result()["interrupted"] is True
    assert len(record.epochs()) == 2
    assert len(newest_checkpoints(record.checkpoints)) == 2


def test_overwriting_starts_again_if_checkpoints_are_linked_to_another_disk(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    record.checkpoints.rename(tmp_path / "scratch")
    record.checkpoints.symlink_to(tmp_path / "scratch")
    other = {"learning_rate": 0.01, "overwrite": True, "output_dir": str(record.folder)}
    record.start(Trial(**(SMALL | other)))
    assert not newest_checkpoints(record.checkpoints)


def test_checkpoints_that_are_not_to_be_kept_go_before_the_trial_is_finished(
    whole, tmp_path, monkeypatch, capsys
):
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=3, checkpoints=0)
    trial = Trial(**SMALL, keep_checkpoint=False, output_dir=str(record.folder))

    def interrupted(*arguments, **options) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_trial(trial)
    assert run_trial(trial).finished
    assert not record.checkpoints.exists()
    (record.folder / "result.json").unlink()  # as if the kill had come a moment later
    capsys.readouterr()
    assert run_trial(trial).finished
    assert "no sound checkpoint" not in capsys.readouterr().out
    assert record.epochs() == whole.epochs()


def test_times_are_shared_where_an_earlier_attempt_trained_a_part_of_an_epoch(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(_Clock, "_cpu_seconds_of_others", staticmethod(lambda: 0.0))
    trial = Trial(**(SMALL | {"epochs": 1}), output_dir=str(tmp_path / "trial"))
    record = run_trial(trial)
    assert record.result()["timing"] == "exclusive"
    forget_the_end(record, epochs=0, checkpoints=1)
    assert run_trial(trial).result()["timing"] == "shared"


def test_steps_that_were_lost_leave_a_gap_and_the_others_in_their_places(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "trial")
    record = Record(tmp_path / "trial")
    forget_the_end(record, epochs=2, checkpoints=0)
    (record.folder / "steps.npz").unlink()
    run_trial(Trial(**SMALL, output_dir=str(record.folder)))
    for name, values in whole.steps().items():
        np.testing.assert_array_equal(record.steps()[name][40:], values[40:])
        assert np.isnan(record.steps()[name][:40]).all()


def test_file_names_survive_a_power_loss_as_contents_do(tmp_path, monkeypatch):
    record, synced = Record(tmp_path / "trial"), []
    record.start(Trial())

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    record.add_epoch({"epoch": 1})
    assert synced[-1] == str(record.folder)
    assert len(synced) == 2
