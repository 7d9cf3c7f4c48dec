"""Ways of training over sizes, on records whose memory and times are known."""

import json

import numpy as np
import pandas as pd
import pytest
from studies import write_record

from dsstudy.analysis.capacity import (
    MIB,
    held_per_parameter,
    less_from,
    load_capacity,
    memory_growth,
    model_sizes,
    time_ratios,
    zero_theory,
)
from dsstudy.launching.machine import Machine, describe_environment
from dsstudy.pages.capacity import (
    answer_text,
    peaks_figure,
    peaks_table,
    ratios_figure,
    ratios_table,
    stage_figure,
)
from dsstudy.paths import project_root
from dsstudy.report.origin import origin_facts
from dsstudy.spec.model_counts import model_counts
from dsstudy.spec.study import Study, load_study

STUDY = """
defaults: {image_size: 64, optimizer: adam, epochs: 2}
matrix:
  model: [timm/vit_tiny_patch16_224, timm/vit_base_patch16_224]
  line:
    normal: {}
    DDP: {engine: ddp, processes: 2}
    ZeRO 1: {engine: deepspeed, processes: 2, zero_stage: 1}
    ZeRO 1, small buckets: {engine: deepspeed, processes: 2, zero_stage: 1, bucket_size: 1000}
"""
TINY, BASE = "timm/vit_tiny_patch16_224", "timm/vit_base_patch16_224"
BYTES = {"normal": 18, "DDP": 22, "ZeRO 1": 26, "ZeRO 1, small buckets": 14}  # bytes per parameter
DATASET = {"name": "synthetic", "train_images": 64, "test_images": 10, "classes": 10}
LIBRARIES = {"normal": 500, "ddp": 500, "deepspeed": 700}  # MiB
RATIOS = {"DDP": {TINY: 1.2, BASE: 1.1}, "ZeRO 1": {TINY: 1.5, BASE: 0.8}}


@pytest.fixture
def study(planned) -> Study:
    """Return a study with a record of every trial, and no times."""
    study = planned(STUDY)
    for trial in study.trials:
        own = parameters(trial.model) * BYTES[line_of(study, trial.name)] / MIB
        memory = {"peak_memory_mb": LIBRARIES[trial.engine] + own, "held_memory_mb": own / 2}
        sums = {name: trial.processes * value for name, value in memory.items()}
        write_record(study.folder, trial, sums, best_accuracy=10.0, seconds_per_epoch=9.0)
    return study


def line_of(study: Study, name: str) -> str:
    return study.labels[name]["line"]


def parameters(model: str) -> int:
    return model_counts()[model, 64].parameters


def write_times(study: Study, timing: str = "exclusive") -> None:
    """Write times of three rounds; the machine slows down from round to round, equally for all."""
    rows = []
    for trial in study.trials:
        ratio = RATIOS.get(line_of(study, trial.name), {}).get(trial.model, 1.0)
        seconds = [ratio * drift for drift in (1.0, 1.5, 2.0)]
        rows.append(
            {
                "name": trial.name,
                "timing": timing,
                "seconds_per_step": seconds,
                "steps_per_epoch": 4,
                "seconds_per_epoch_estimate": 4 * seconds[1],
                "steps": 4,
            }
        )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (study.folder / "times.jsonl").write_text(text)


def test_memory_is_per_rank_and_its_growth_excludes_the_libraries(study):
    trials = load_capacity(study.folder)
    held = held_per_parameter(trials)
    assert list(held.columns) == [TINY, BASE]
    growth = memory_growth(trials)
    for line, bytes_each in BYTES.items():
        np.testing.assert_allclose(held.loc[line], bytes_each / 2)
        assert growth.loc[line, "bytes"] == pytest.approx(bytes_each)
        engine = trials.loc[trials["line"] == line, "engine"].iloc[0]
        assert growth.loc[line, "rest"] == pytest.approx(LIBRARIES[engine] * MIB)


def test_a_way_with_slower_growth_takes_less_from_some_size_on():
    found = pd.DataFrame({"bytes": [18, 12], "rest": [600e6, 900e6]}, index=["normal", "ZeRO"])
    assert less_from(found, "ZeRO", "normal") == pytest.approx(50e6)
    assert less_from(found, "normal", "ZeRO") == np.inf


@pytest.mark.parametrize(
    ("stage", "each"), [(0, 16), (1, 8 + 8 / 64), (2, 4 + 12 / 64), (3, 16 / 64)]
)
def test_theory_is_that_of_the_paper_on_zero(stage, each):
    assert zero_theory(stage, 64) == each


def test_times_are_compared_round_by_round(study):
    write_times(study)
    ratios = time_ratios(load_capacity(study.folder))
    for line, by_model in RATIOS.items():
        for model, ratio in by_model.items():
            row = ratios.loc[line, model]
            assert (row["n"], row["state"]) == (3, "completed")
            assert (row["low"], row["high"]) == pytest.approx((ratio, ratio))
    answer = answer_text(load_capacity(study.folder))
    assert "way is 1.00 (95 %: 1.00 to 1.00) for vit_tiny (ZeRO 1, small" in answer
    assert "and 0.80 (95 %: 0.80 to 0.80) for vit_base (ZeRO 1): this favours the larger" in answer
    assert "DeepSpeed pays in 1 of 4 comparisons" in answer
    assert "normal 18.0; DDP 22.0; with DeepSpeed's own buckets 26.0 at stage 1" in answer
    assert "below that of normal from 52 million parameters on" in answer  # 200 MiB / 4 bytes
    assert "below that of DDP from 26 million parameters on." in answer


@pytest.mark.parametrize("timing", [None, "shared"])
def test_a_time_that_was_not_measured_alone_is_never_a_ratio(study, timing):
    if timing:
        write_times(study, timing)
    trials = load_capacity(study.folder)
    ratios = time_ratios(trials)
    assert set(ratios["state"]) == {"not timed alone"}
    assert ratios["value"].isna().all()
    assert (ratios["rough"] == 1).all()
    assert "saves time with larger models is undecided" in answer_text(trials)
    assert "not timed alone" in ratios_table(trials).to_html()
    crosses = [line for line in ratios_figure(trials).axes[0].lines
               if line.get_marker() == "x"]  # fmt: skip
    assert sum(np.isfinite(line.get_ydata()).sum() for line in crosses) == len(ratios)


def test_what_is_missing_is_said_and_left_out(study):
    for trial in study.trials:
        if trial.model == BASE or line_of(study, trial.name) == "ZeRO 1":
            (study.folder / trial.name / "trial.json").unlink()
    trials = load_capacity(study.folder)
    assert list(model_sizes(trials).index) == [TINY]
    assert memory_growth(trials)["bytes"].isna().all()
    assert time_ratios(trials).loc[("ZeRO 1", TINY), "state"] == "missing"
    assert "missing" in peaks_table(trials).to_html()
    assert "Memory is undecided: its growth needs two sizes" in answer_text(trials)
    stage_figure(trials)
    peaks_figure(trials)
    ratios_figure(trials)


def test_the_study_has_every_way_and_size_and_its_models_are_counted():
    study = load_study(project_root() / "parameters" / "capacity.yaml")
    models = {trial.model for trial in study.trials}
    labels = {label["line"] for label in study.labels.values()}
    assert len(study.trials) == len(models) * len(labels)
    assert {(trial.model, trial.image_size) for trial in study.trials} <= set(model_counts())


def test_a_record_states_how_the_allocator_was_set(study, monkeypatch):
    assert origin_facts(study.folder)["allocator"] == "none"
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    found = describe_environment(Machine.here())
    write_record(study.folder, study.trials[0].model_copy(update={"overwrite": True}),
                 environment=found | {"device": "cpu", "dataset": DATASET})  # fmt: skip
    assert origin_facts(study.folder)["allocator"] == "MALLOC_MMAP_THRESHOLD_=65536"
