"""Real training: all engines must do the same thing in different ways."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from interrupted import weights as weights_of

import dsstudy
from dsstudy.images.data import Split
from dsstudy.launching.machine import Machine
from dsstudy.launching.run import run_trial
from dsstudy.training.checkpoint import newest_checkpoints
from dsstudy.training.memory import held_memory
from dsstudy.training.models import count_model
from dsstudy.training.session import evaluate

SMALL_VIT = {"model": "timm/vit_tiny_patch16_224", "image_size": 16}
"""A model whose gradients have norms of 5 and more, so that clipping changes them."""

DDP = {"engine": "ddp", "processes": 2}
DEEPSPEED = {"engine": "deepspeed", "processes": 2}
SMALL_BUCKETS = {"bucket_size": 10_000}  # LeNet has 48,000 weights in one tensor


@pytest.mark.parametrize(
    ("parameters", "engine"),
    [
        ({"optimizer": "adam"}, {"engine": "ddp"}),
        ({"optimizer": "adam", "scheduler": "warmup", "warmup_steps": 10}, DDP),
        ({"scheduler": "cyclic", "cycle_steps": 8, "gradient_clipping": 1.0, **SMALL_VIT}, DDP),
        (
            {"optimizer": "adam", "scheduler": "warmup", "warmup_steps": 10},
            {"engine": "deepspeed"},
        ),
        ({"scheduler": "cyclic", "cycle_steps": 8, **SMALL_VIT}, DEEPSPEED),
        ({"gradient_clipping": 1.0, **SMALL_VIT}, DEEPSPEED | {"zero_stage": 1}),
        ({"optimizer": "adam", "weight_decay": 1.0}, DEEPSPEED | {"zero_stage": 2} | SMALL_BUCKETS),
        ({"optimizer": "adam", "weight_decay": 10, "decoupled_weight_decay": True}, DDP),
        (
            {"optimizer": "adam", "weight_decay": 10, "decoupled_weight_decay": True},
            {"engine": "deepspeed"},
        ),
        ({"learning_rate": 0.05}, DEEPSPEED | {"zero_stage": 3} | SMALL_BUCKETS),
    ],
    ids=str,
)
def test_every_engine_follows_normal_training(short, parameters, engine):
    """Same precision, optimizer and seed; no batch normalisation, no dropout: same losses."""
    normal = run_trial(short("normal", **parameters)).steps()
    steps = run_trial(short("other", **parameters, **engine)).steps()
    assert len(steps["loss"]) == 20
    assert np.ptp(normal["loss"]) > 0.05  # the weights did move
    np.testing.assert_allclose(steps["learning_rate"], normal["learning_rate"], rtol=1e-9)
    np.testing.assert_allclose(steps["loss"], normal["loss"], rtol=1e-4)


needs_fp16 = pytest.mark.skipif(
    not (Machine.here().gpus or Machine.here().cpu_fp16),
    reason="DeepSpeed refuses fp16 on this CPU, which has none in hardware",
)


@needs_fp16
@pytest.mark.parametrize("zero_stage", [0, 1])
def test_deepspeed_learns_in_fp16_what_it_learns_in_fp32(short, zero_stage):
    """Without ZeRO, version 0.19 unscales the gradients of a loss that it has not scaled."""
    own = DEEPSPEED | SMALL_VIT | {"zero_stage": zero_stage, "learning_rate": 0.01}
    single = run_trial(short("single", **own)).steps()["loss"]
    half = run_trial(short("half", precision="fp16", **own)).steps()["loss"]
    assert np.ptp(single) > 0.5  # the weights did move
    np.testing.assert_allclose(half, single, atol=0.1)


def test_all_ranks_of_ddp_skip_the_same_steps(short, monkeypatch):
    """At this high learning rate, some confident predictions are wrong, which overflows fp16.

    With one image per rank, only one of the ranks overflows.
    """
    # fp16 is refused on a CPU without hardware for it, as it is slow; this trial is short.
    here = dataclasses.replace(Machine.here(), cpu_fp16=True)
    monkeypatch.setattr(Machine, "here", lambda: here)
    half = {"precision": "fp16", "device": "cpu", "learning_rate": 0.5}
    record = run_trial(short(**DDP, **half, batch_size=2, train_images=40))
    (epoch,) = record.epochs()
    assert 0 < epoch["skipped_steps"] < 20
    for rank in (0, 1):
        file = newest_checkpoints(record.checkpoints)[0] / f"rank{rank}.pt"
        assert torch.load(file, weights_only=True)["skipped_steps"] == epoch["skipped_steps"]


def test_without_a_scheduler_or_clipping_deepspeed_has_none_either():
    from dsstudy.training.loops.deepspeed import deepspeed_config

    settings = deepspeed_config(dsstudy.Trial(engine="deepspeed"))
    assert settings["gradient_clipping"] == 0.0  # without this setting, DeepSpeed clips at 1.0
    assert "scheduler" not in settings


def test_record_holds_what_the_contract_says(short):
    trial = short(epochs=2)
    record = run_trial(trial)
    assert record.trial() == trial
    first, second = record.epochs()
    assert set(first) >= {
        "epoch", "train_loss", "test_loss", "test_accuracy", "learning_rate", "train_seconds",
        "eval_seconds", "images_per_second", "peak_memory_mb", "held_memory_mb", "skipped_steps",
    }  # fmt: skip
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert first["train_loss"] == pytest.approx(record.steps()["loss"][:20].mean(), rel=1e-6)
    assert 50 < first["peak_memory_mb"] < 100_000
    result = record.result()
    assert result["status"] == "completed"
    assert result["seconds_per_epoch"] == second["train_seconds"]
    assert result["best_accuracy"] == max(e["test_accuracy"] for e in record.epochs())
    assert result["timing"] in ("exclusive", "shared")
    assert result["environment"]["dataset"]["train_images"] == 320
    correct = record.predictions() == dsstudy.load_data(trial).test.labels.numpy()
    assert 100 * correct.mean() == pytest.approx(result["final_accuracy"])
    assert not (record.folder / "progress.json").exists()


@pytest.mark.parametrize(
    ("engine", "bytes_each"),
    [
        ({}, 16),  # weights and gradients 4 each, Adam's two states 8
        (DEEPSPEED | {"zero_stage": 2}, 12),  # weights 4; half of a copy, gradients and states
        (DEEPSPEED | {"zero_stage": 3} | SMALL_BUCKETS, 10),  # half of all of them
    ],
    ids=str,
)
def test_held_memory_is_that_of_a_ranks_tensors(short, engine, bytes_each):
    trial = short(optimizer="adam", train_images=32, **SMALL_VIT, **engine)
    # Normal training shares this process with what earlier tests may have left.
    before = 0 if engine else held_memory(torch.device("cpu"))
    (epoch,) = run_trial(trial).epochs()
    held = epoch["held_memory_mb"] * 2**20 / trial.processes - before
    assert held / count_model(trial).parameters == pytest.approx(bytes_each, rel=0.04)


def test_tables_read_a_folder_of_records(short):
    records = [run_trial(short(f"study/{seed}", seed=seed)) for seed in (0, 1)]
    study = records[0].folder.parent
    results, epochs = dsstudy.load_results(study), dsstudy.load_epochs(study)
    assert list(results["seed"]) == [0, 1]
    assert set(dsstudy.Trial.model_fields) | {"setting", "status", "timing"} <= set(results)
    assert list(epochs["test_accuracy"]) == [r.result()["final_accuracy"] for r in records]
    with pytest.raises(dsstudy.InputError, match="holds no records"):
        dsstudy.load_results(study / "none")


def test_a_loss_that_is_not_finite_is_recorded_not_raised(short):
    record = run_trial(short(learning_rate=1e9, epochs=2))
    result = record.result()
    assert result["status"] == "diverged"
    assert record.finished
    assert len(record.epochs()) == 2
    assert record.epochs()[-1]["train_loss"] is None
    assert "NaN" not in (record.folder / "epochs.jsonl").read_text()


def test_a_finished_trial_is_shown_and_not_overwritten_unless_asked(short, capsys):
    trial = short()
    record = run_trial(trial)
    before = (record.folder / "result.json").read_text()
    run_trial(trial)
    assert "it is not trained again" in capsys.readouterr().out
    with pytest.raises(dsstudy.InputError, match="already holds another trial"):
        run_trial(short(seed=5))
    assert (record.folder / "result.json").read_text() == before
    run_trial(short(seed=5, overwrite=True))
    assert json.loads((record.folder / "trial.json").read_text())["seed"] == 5
    assert len(record.steps()["loss"]) == 20


@pytest.mark.parametrize("reshuffle", [True, False])
def test_each_epoch_has_another_order_of_images_unless_reshuffle_is_off(short, reshuffle):
    """At this rate the weights do not change, so the same order gives the same losses."""
    losses = run_trial(short(epochs=2, learning_rate=1e-30, reshuffle=reshuffle)).steps()["loss"]
    assert np.array_equal(losses[:20], losses[20:]) != reshuffle


@pytest.mark.parametrize(
    "model", [{"model": "squeezenet1_0", "image_size": 21}, {"model": "timm/test_resnet"}]
)
def test_evaluation_in_train_mode_differs_and_leaves_training_alone(short, model):
    """One model has dropout, the other has batch normalisation."""
    few = {"train_images": 64, "epochs": 2, "image_size": 32, **model}
    one = run_trial(short("eval", **few))
    other = run_trial(short("train", evaluation="train", **few))
    np.testing.assert_array_equal(one.steps()["loss"], other.steps()["loss"])
    assert one.epochs()[0]["test_loss"] != other.epochs()[0]["test_loss"]
    for name, weights in weights_of(one).items():
        np.testing.assert_array_equal(weights, weights_of(other)[name], err_msg=name)


def test_evaluation_in_train_mode_mixes_the_classes_of_an_image_folder():
    """A folder lists its images by class; each prediction must still belong to its image."""
    labels = torch.arange(4).repeat_interleave(16)
    gray = (labels * 60).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    mixed = []

    class KnowsByGray(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            classes = ((images[:, 0, 0, 0] + 1) * 127.5 / 60).round().long()
            mixed.append(len(classes.unique()) > 1)
            return torch.nn.functional.one_hot(classes, 4)

    trial = dsstudy.Trial(evaluation="train", image_size=8)
    _, predicted = evaluate(KnowsByGray(), Split(gray, labels), trial)
    assert mixed == [True] * 4
    assert predicted.tolist() == labels.tolist()


def test_fp32_on_a_gpu_is_fp32_in_convolutions_too(short):
    """By itself PyTorch rounds the factors of a convolution, and not those of a matrix product."""
    torch.backends.cudnn.allow_tf32 = True
    run_trial(short())
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_bf16_trains(short):
    record = run_trial(short(precision="bf16"))
    assert record.result()["status"] == "completed"
