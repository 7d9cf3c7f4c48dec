"""A comparison of the engines: measured once, otherwise computed from known numbers."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from studies import profile_row

from dsstudy.analysis.advice import advise
from dsstudy.analysis.comparison import (
    DEFAULT_BANDWIDTH,
    efficiency,
    load_comparison,
    measured_break_even,
    predict_epochs,
)
from dsstudy.cli import main
from dsstudy.errors import InputError
from dsstudy.launching.machine import Gpu, Machine
from dsstudy.pages.compare import assumptions_text, comparison_json, report_text
from dsstudy.records.reading import read_lines
from dsstudy.studies.compare_engines import measure_engines, plan_comparison

NET = """\
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, num_classes))

def one_size(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num_classes))

def scores_of_seven(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))

def no_module(num_classes):
    return num_classes

def no_classes():
    return tiny(10)
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """The current folder, with a user's own modules in it."""
    (tmp_path / "own_nets.py").write_text(NET)
    (tmp_path / "own_broken.py").write_text("import nothing_like_it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_nets", None)


def test_a_model_of_ones_own_is_measured_under_every_engine(own):
    # As a newcomer types it; the ranks of DDP and DeepSpeed import the module too.
    command = [str(Path(sys.executable).parent / "dsstudy"), "compare", "--model", "own_nets:tiny",
               "--image-size", "32", "--steps", "3", "--rounds", "1", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["left_out"] == []
    assert result["parameters"] == 3 * 4 * 9 + 4 + 4 * 10 + 10
    timed = {(one["engine"], one["processes"]): one for one in result["timed"]}
    assert set(timed) == {("normal", 1), ("ddp", 1), ("ddp", 2), ("deepspeed", 1), ("deepspeed", 2)}
    for one in timed.values():
        assert len(one["seconds_per_step"]) == 1
        assert 0 < one["seconds_per_epoch"]["value"] < math.inf
        assert one["peak_memory_mb"] > 0
    assert set(result["phase_seconds"]) == {"normal", "ddp", "deepspeed"}
    assert len(result["predictions"]) == 1 + 4 + 4
    assert result["recommendation"]["engine"] in result["phase_seconds"]

    (folder,) = (own / "runs" / "comparisons").iterdir()
    shown = report_text(load_comparison(folder))
    assert result["recommendation"]["sentence"] in shown
    batches = {row["name"]: row["steps_per_epoch"] for row in read_lines(folder / "times.jsonl")}
    assert len(batches) == 8
    assert len(set(batches.values())) == 2  # of 16 images, and of 2
    # The records of its trials are removed; none appears among the other trials.
    assert not (own / "runs" / "trials").exists()


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model": "own_missing:net"}, "cannot be imported (No module named 'own_missing')"),
        ({"model": "own_broken:net"}, "cannot be imported (No module named 'nothing_like_it')"),
        ({"model": "own_nets:absent"}, "cannot be imported (module 'own_nets' has no attribute"),
        ({"model": "own_nets:no_module"}, "returns int, not a torch.nn.Module"),
        ({"model": "own_nets:no_classes"}, "fails when it is called with num_classes=10"),
        ({"model": "own_nets:one_size", "image_size": 32}, "float32 of shape (2, 3, 32, 32)"),
        ({"model": "own_nets:scores_of_seven"}, "numbers of shape (2, 10); have its forward"),
        ({"engine": "ddp"}, "engine cannot be set for a comparison"),
        ({"batch_size": 3}, "batch_size=3 is too small for a comparison"),
        ({"processes": 3, "batch_size": 12}, "processes=3 is more than this machine's 2 CPU cores"),
        ({"dataset": "imagefolder", "data_dir": "/nowhere"}, "/nowhere does not exist"),
        ({"modle": "lenet"}, "did you mean model?"),
    ],
)
def test_bad_input_ends_before_anything_is_trained(own, monkeypatch, parameters, sentence):
    monkeypatch.setattr(Machine, "here", lambda: Machine("CPU", 2, 8, False, False))
    with pytest.raises(InputError) as error:
        measure_engines(parameters)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not (own / "runs").exists()


def test_the_command_ends_in_the_sentence(own):
    done = CliRunner().invoke(main, ["compare", "--model", "own_nets:no_module"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: model=own_nets:no_module returns int")


def test_all_engines_train_with_the_same_settings():
    gpus = (Gpu("A", 80, True),) * 3
    machine = Machine("CPU", 8, 64, True, True, gpus)
    trials, left_out = plan_comparison(
        {"batch_size": 32, "precision": "bf16", "zero_stage": 2}, machine
    )
    assert not left_out
    assert [(t.engine, t.processes, t.batch_size) for t in trials] == [
        ("normal", 1, 32), ("normal", 1, 4),
        ("ddp", 1, 32), ("ddp", 1, 4), ("ddp", 2, 32),
        ("deepspeed", 1, 32), ("deepspeed", 1, 4), ("deepspeed", 2, 32),
    ]  # fmt: skip
    differ = {"engine", "processes", "batch_size", "zero_stage"}
    assert len({json.dumps(t.model_dump(exclude=differ)) for t in trials}) == 1
    assert {t.zero_stage for t in trials if t.engine == "deepspeed"} == {2}


def test_an_engine_that_cannot_run_here_is_left_out_with_the_reason():
    machine = Machine("CPU", 2, 8, False, False, compiler=False)
    trials, left_out = plan_comparison({}, machine)
    assert {trial.engine for trial in trials} == {"normal", "ddp"}
    ((engine, reason),) = ((one["engine"], one["reason"]) for one in left_out)
    assert engine == "deepspeed"
    assert "C++ compiler" in reason


# From known numbers

NEAR = (0.99, 1.0, 1.01)


def written(folder: Path, seconds: dict, device: str = "cuda", **about) -> Path:
    """Write a comparison with given seconds per step, by engine, ranks and images: three rounds."""
    settings = {"batch_size": 64, "precision": "fp32", "image_size": 32, "optimizer": "sgd"}
    hardware = {"processor": "EPYC", "cores": 2, "memory_gib": 8.0, "gpus": [{"name": "A"}] * 2}
    timed, times = [], []
    for (engine, processes, images), step in seconds.items():
        steps = [step * f for f in NEAR] if isinstance(step, float) else list(step)
        name = f"{engine}-{processes}-{images}"
        timed.append({"name": name, "engine": engine, "processes": processes, "batch_size": images})
        times.append({
            "name": name, "timing": "exclusive", "seconds_per_step": steps,
            "steps_per_epoch": 6400 // images, "seconds_per_epoch_estimate": 1.0,
            "steps": 5,
            "peak_memory_mb": 1000.0 * processes, "environment": {"hardware": hardware},
        })  # fmt: skip
    ranks = {engine: processes for engine, processes, _ in seconds}  # the largest number is last
    profiles = [
        profile_row(
            "lenet", 64, engine, (1.0, 2.0, 3.0, {"normal": 0.0}.get(engine, 5.0), 1, 1),
            processes=processes,
        )
        for engine, processes in ranks.items()
    ]  # fmt: skip
    content = {"model": "lenet", "dataset": "mine", "settings": settings, "device": device,
               "parameters": 10**6, "timed": timed, "left_out": []}  # fmt: skip
    for name, rows in {"times": times, "profiles": profiles}.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "comparison.json").write_text(json.dumps(content | about))
    return folder


# 2 ms of rest, and 0.1 ms per image, for each engine.
ALONE = {
    ("normal", 1, 64): 8.4e-3, ("normal", 1, 8): 2.8e-3,
    ("ddp", 1, 64): 8.9e-3, ("ddp", 1, 8): 3.3e-3,
    ("deepspeed", 1, 64): 9.4e-3, ("deepspeed", 1, 8): 3.8e-3,
}  # fmt: skip
TWO = {("ddp", 2, 64): 6.0e-3, ("deepspeed", 2, 64): 7.0e-3}


def advice_of(folder: Path, seconds: dict, **about):
    return advise(load_comparison(written(folder, seconds, **about)))


def test_the_fastest_is_recommended_if_it_is_measurably_so(tmp_path):
    advice = advice_of(tmp_path, ALONE | TWO)
    assert (advice.choice.engine, advice.choice.processes, advice.certain) == ("ddp", 2, True)
    assert advice.sentence == "Train with DDP on 2 ranks: it is the fastest here, measurably."
    normal, deepspeed, scaling, memory = advice.reasons
    assert "normal training takes 1.40 times as long as with DDP on 2 ranks" in normal
    assert "DeepSpeed on 2 ranks takes 1.17 times" in deepspeed
    assert scaling.startswith("Its 2 devices reach 70 % of 2 times the speed")
    assert "1,000 MiB" in memory


def test_normal_training_is_recommended_where_it_is_the_fastest(tmp_path):
    advice = advice_of(tmp_path, ALONE)
    assert (advice.choice.engine, advice.certain) == ("normal", True)
    assert "most of the difference is communication" in advice.reasons[0]


def test_of_engines_that_do_not_differ_measurably_the_simplest_is_recommended(tmp_path):
    noisy = (7e-3, 9e-3, 8e-3)
    advice = advice_of(tmp_path, ALONE | {("deepspeed", 1, 64): noisy, ("ddp", 1, 64): noisy})
    assert (advice.choice.engine, advice.certain) == ("normal", False)
    assert "DDP was the fastest here, but not measurably so" in advice.sentence
    assert "no measurable difference" in advice.reasons[0]
    assert any(doubt.startswith("Not all engines are measurably") for doubt in advice.doubts)


def test_times_that_scatter_decide_nothing(tmp_path):
    advice = advice_of(tmp_path, ALONE | TWO | {("deepspeed", 2, 64): (1e-3, 9e-2, 8e-3)})
    assert advice.sentence.startswith("Undecided, as the times scatter too much")


def test_an_engine_is_judged_on_the_ranks_on_which_it_is_fastest(tmp_path):
    advice = advice_of(tmp_path, ALONE | TWO | {("deepspeed", 1, 64): 2e-3}, device="cpu")
    assert advice.sentence == "Train with DeepSpeed: it is the fastest here, measurably."
    against = next(reason for reason in advice.reasons if "with DDP on 2 ranks" in reason)
    assert "most of the difference" not in against  # only DeepSpeed on two ranks was profiled
    # Of everything that was timed: two ranks take 2,000 MiB together, one takes 1,000.
    assert any("1,000 MiB" in reason for reason in advice.reasons)


def test_the_fastest_stays_where_only_a_less_simple_one_comes_near(tmp_path):
    advice = advice_of(tmp_path, ALONE | TWO | {("deepspeed", 2, 64): (5e-3, 8e-3, 6e-3)})
    assert (advice.choice.engine, advice.certain) == ("ddp", False)
    assert "no other engine is measurably faster, and those that may be as fast" in advice.sentence


def test_one_round_decides_nothing(tmp_path):
    one = {key: (step,) for key, step in (ALONE | TWO).items()}
    advice = advice_of(tmp_path, one)
    assert (advice.choice.engine, advice.certain) == ("normal", False)
    assert "one round has no spread" in advice.sentence
    # The page and the JSON can be made from it, too.
    found = load_comparison(tmp_path)
    assert "one round" in report_text(found)
    first = json.loads(json.dumps(comparison_json(found), allow_nan=False))["timed"][0]
    assert first["seconds_per_epoch"]["low"] is None


def test_what_was_left_out_is_said_and_alone_normal_training_wins_nothing(tmp_path):
    alone = {key: step for key, step in ALONE.items() if key[0] == "normal"}
    missing = [{"engine": "ddp", "reason": "it is broken"}]
    advice = advice_of(tmp_path, alone, left_out=missing, device="cpu")
    assert advice.sentence == "Train with normal training: no other engine runs here."
    assert not advice.certain
    assert advice.doubts[0] == "DDP was left out: it is broken."
    assert any("on a CPU" in doubt for doubt in advice.doubts)


def test_unequal_shares_of_a_cpu_are_said(tmp_path):
    doubts = advice_of(tmp_path, ALONE | TWO, device="cpu").doubts
    assert any("normal 1 × 1, DDP 2 × 1, DeepSpeed 2 × 1" in doubt for doubt in doubts)
    assert not any("threads" in doubt for doubt in advice_of(tmp_path, ALONE | TWO).doubts)


def test_engines_that_might_use_equal_cores_are_compared_fairly(tmp_path):
    # Normal training of a small network leaves a core unused: it would gain nothing there.
    folder = written(tmp_path, ALONE | TWO, device="cpu")
    file = folder / "profiles.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for cores, said in (((2, 2, 2), False), ((1, 2, 2), True)):
        for row, number in zip(rows, cores, strict=True):
            threads = {"number": row["threads"], "cores": number, "reason": "auto"}
            row["environment"] = {"threads": threads}
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        doubts = advise(load_comparison(folder)).doubts
        assert any("OMP_NUM_THREADS" in doubt for doubt in doubts) == said


def test_more_devices_are_predicted_from_two_batch_sizes(tmp_path):
    found = load_comparison(written(tmp_path, ALONE | TWO))
    frame = predict_epochs(found, bandwidth=4e9).set_index(["engine", "devices"])
    assert frame.loc[("normal", 1), "seconds"] == pytest.approx(100 * 8.4e-3)
    # 2.5 ms of rest, 3.2 ms of arithmetic, and 1 ms in which each of two ranks sends 4 MB.
    assert frame.loc[("ddp", 2), "seconds"] == pytest.approx(100 * 6.7e-3)
    assert frame.loc[("ddp", 2), "measured"] == pytest.approx(100 * 6.0e-3)
    assert frame.loc[("ddp", 8), "seconds"] == pytest.approx(100 * (2.5e-3 + 0.8e-3 + 1.75e-3))
    assert frame.loc[("ddp", 2), "speedup"] == pytest.approx(8.4 / 6.7, rel=1e-3)
    assert math.isnan(frame.loc[("ddp", 4), "measured"])
    # (0.5 ms more rest and 1 ms of gradients) / (0.05 ms saved per image)
    assert measured_break_even(found, "ddp", 4e9) == pytest.approx(30)
    assert efficiency(found.timed[2], found.normal) == pytest.approx(0.7)


def test_a_prediction_names_its_link_and_how_to_give_another(tmp_path):
    found = load_comparison(written(tmp_path, ALONE | TWO))
    said = assumptions_text(found)
    assert "at 5.6 GB/s, fitted to the paper's two cards." in said
    assert "(the option `--bandwidth`, or the notebook's parameter)" in said
    assert "32 is the peak of PCIe 4.0 x16" in said
    assert "at 32 GB/s, the peak of PCIe 4.0 x16." in assumptions_text(found, 32e9)
    assert "at 4 GB/s. To predict" in assumptions_text(found, 4e9)
    links = [comparison_json(found)["link"], comparison_json(found, 4e9)["link"]]
    assert links == ["fitted to the paper's two cards", None]


def test_the_command_and_the_notebook_predict_with_the_fitted_link():
    (option,) = (one for one in main.commands["compare"].params if one.name == "bandwidth")
    assert 1e9 * option.default == pytest.approx(DEFAULT_BANDWIDTH)
    notebook = Path(__file__).parents[2] / "notebooks" / "compare.ipynb"
    assert f"bandwidth = {DEFAULT_BANDWIDTH / 1e9} " in notebook.read_text()


def test_ranks_on_one_cpu_are_no_devices(tmp_path):
    found = load_comparison(written(tmp_path, ALONE | TWO, device="cpu"))
    frame = predict_epochs(found).set_index(["engine", "devices"])
    assert math.isnan(frame.loc[("ddp", 2), "measured"])
    assert efficiency(found.timed[2], found.normal) == pytest.approx(1.4)


def test_a_folder_without_a_comparison_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no comparison"):
        load_comparison(tmp_path)
    file = written(tmp_path, ALONE) / "comparison.json"
    for bad in ("{", "{}", file.read_text().replace('"timed": [', '"timed": [], "x": [')):
        file.write_text(bad)
        with pytest.raises(InputError, match=r"comparison\.json cannot be read"):
            load_comparison(tmp_path)
