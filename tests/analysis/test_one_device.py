"""Steps on one device, compared round by round: on records whose numbers are known."""

import json

import pytest
from studies import write_record

from dsstudy.analysis.load import load_results
from dsstudy.pages.one_device import answer_text, ratios_figure, ratios_table, step_ratios
from dsstudy.spec.trial import Trial

STEPS = {"normal": (1.0, 2.0), "ddp": (1.0, 2.0), "deepspeed": (1.5, 4.0)}
"""Milliseconds of a step, by engine and round."""


@pytest.fixture
def ratios(tmp_path):
    """Return the ratios of LeNet's and ResNet-18's steps, and leave out those of two processes."""
    times = []
    for model, factor in (("lenet", 1), ("resnet18", 10)):
        for engine, milliseconds in STEPS.items():
            for processes in (1, 2) if engine == "ddp" else (1,):
                trial = Trial(model=model, engine=engine, processes=processes, train_images=1600)
                write_record(tmp_path, trial)
                seconds = [factor * processes * one / 1e3 for one in milliseconds]
                times.append({"name": trial.name, "timing": "exclusive", "steps": 10,
                              "steps_per_epoch": 100, "seconds_per_step": seconds,
                              "seconds_per_epoch_estimate": 100 * seconds[0]})  # fmt: skip
    lines = "".join(json.dumps(time) + "\n" for time in times)
    (tmp_path / "times.jsonl").write_text(lines)
    return step_ratios(load_results(tmp_path))


def test_an_engine_is_compared_with_normal_training_round_by_round(ratios):
    lenet = ratios.xs("lenet", level="model").droplevel(["batch_size", "optimizer"])
    lenet = lenet.droplevel("architecture")
    assert list(lenet.index) == ["ddp", "deepspeed"]
    assert lenet.loc["ddp", "value"] == pytest.approx(1)
    assert lenet.loc["deepspeed", "value"] == pytest.approx((1.5 * 2) ** 0.5)
    assert lenet.loc["deepspeed", "normal_ms"] == pytest.approx(1.5)
    assert list(lenet["n"]) == [2, 2]


def test_without_times_nothing_is_decided(tmp_path):
    write_record(tmp_path, Trial(model="lenet"))
    none = step_ratios(load_results(tmp_path))
    assert answer_text(none).startswith("Undecided: no step was timed alone")
    assert ratios_table(none).to_html()
    assert ratios_figure(none).axes


def test_the_page_says_what_deepspeed_adds(ratios):
    answer = answer_text(ratios)
    assert answer.startswith("**No: in none of 2 cases is a step measurably faster.** Under")
    assert "takes 1.73 times as long as in plain PyTorch" in answer
    assert answer.endswith("is measurably slower in 0 (1.73 with SGD).")
    assert "ResNet-18, SGD, 16 images" in ratios_table(ratios).to_html()
    assert len(ratios_figure(ratios).axes[0].get_yticklabels()) == 2
