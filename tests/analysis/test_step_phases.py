"""Profiles: measured for real, compared phase by phase, and shown, on numbers that are known."""

import json
from pathlib import Path

import pytest
from studies import profile_row

from dsstudy.analysis.step_phases import compare_phases, is_shared, load_profiles
from dsstudy.errors import InputError
from dsstudy.pages.step_time import answer_text, engine_differences_table, phases_table
from dsstudy.records.schema import PHASES
from dsstudy.report.phase_figures import phases_figure, step_figure
from dsstudy.studies.profiling import profile_study
from dsstudy.studies.trace import read_trace, timeline

# Milliseconds a step by phase: data, forward, backward, communication, optimizer, rest.
MILLISECONDS = {
    ("lenet", 16, "normal"): (0.2, 1.0, 2.0, 0.0, 0.4, 0.4),
    ("lenet", 16, "ddp"): (0.2, 0.8, 1.6, 2.4, 0.4, 0.6),
    ("lenet", 16, "deepspeed"): (0.2, 0.9, 1.6, 2.6, 0.5, 4.2),
    ("alexnet", 128, "normal"): (0.2, 400.0, 800.0, 0.0, 90.0, 0.4),
    ("alexnet", 128, "ddp"): (0.2, 200.0, 400.0, 50.0, 90.0, 0.6),
}


def row(model: str, batch_size: int, engine: str, **fields) -> dict:
    key = (model, batch_size, engine)
    return profile_row(*key, MILLISECONDS[key], **fields)


def written(folder: Path, rows: list[dict]) -> Path:
    (folder / "profiles.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


@pytest.fixture
def profiles(tmp_path):
    return load_profiles(written(tmp_path, [row(*key) for key in MILLISECONDS]))


def test_a_step_is_that_of_the_middle_round_and_adds_up(profiles):
    lenet = profiles.loc["LeNet", 16, "ddp"]
    assert [1e3 * lenet[phase] for phase in PHASES] == pytest.approx([0.2, 0.8, 1.6, 2.4, 0.4, 0.6])
    assert lenet["profiled"] == pytest.approx(6.0e-3)
    assert lenet["plain"] == pytest.approx(6.0e-3 / 1.25)
    assert lenet["overhead"] == pytest.approx(0.25)
    assert (lenet["low"], lenet["high"]) == pytest.approx((0.9 * 4.8e-3, 3 * 4.8e-3))


def test_ranks_have_equal_weight(tmp_path):
    one = row("lenet", 16, "ddp")
    waiting = {phase: 0.0 for phase in PHASES} | {"communication": 6e-3}
    one["ranks"] = [one["ranks"][0], one["ranks"][0] | {"rounds": [waiting] * 3}]
    (found,) = load_profiles(written(tmp_path, [one])).to_dict("records")
    assert found["communication"] == pytest.approx((2.4e-3 + 6e-3) / 2)
    assert found["profiled"] == pytest.approx(6e-3)


def test_engines_are_compared_where_both_were_profiled(profiles):
    frame = compare_phases(profiles, "ddp", "normal")
    assert list(frame.index) == [("LeNet", 16), ("AlexNet", 128)]
    assert list(frame["ratio"]) == pytest.approx([6.0 / 4.0, 740.8 / 1290.6])
    plain = profiles["plain"].to_dict()  # the profiler adds more to one engine than to another
    expected = plain["LeNet", 16, "ddp"] / plain["LeNet", 16, "normal"]
    assert frame["plain_ratio"].iloc[0] == pytest.approx(expected)
    assert list(frame["most"]) == ["communication", "backward"]  # added, and saved
    assert list(1e3 * frame["difference"]) == pytest.approx([2.0, 740.8 - 1290.6])
    assert list(compare_phases(profiles, "deepspeed", "ddp")["most"]) == ["rest"]


def test_the_answer_says_what_each_engine_adds(profiles):
    answer = answer_text(profiles)
    assert (
        "**A step with DDP takes 1.04 times as long as with normal training** (median of 2; longer "
        "in 1). Under the profiler, most of the added time is communication in 1."
    ) in answer
    assert "takes 1.67 times as long as with DDP** (one comparison; longer in 1)." in answer
    assert answer.endswith("Under the profiler, most of the added time is rest in 1.")


def test_times_that_were_shared_are_marked_and_said(tmp_path):
    rows = [row(*key, timing="shared") for key in MILLISECONDS]
    profiles = load_profiles(written(tmp_path, rows))
    assert is_shared(profiles)
    assert phases_table(profiles).to_html().count("<em>shared</em>") == len(rows)
    assert answer_text(profiles).endswith("other programs used the machine meanwhile.")


def test_one_profile_alone_is_shown_without_comparison(tmp_path):
    alone = load_profiles(written(tmp_path, [row("lenet", 16, "ddp")]))
    assert engine_differences_table(alone) is None
    assert answer_text(alone).startswith("Undecided")
    assert "4.80" in phases_table(alone).to_html()
    texts = [text.get_text() for text in phases_figure(alone).axes[0].texts]
    assert texts == [" not profiled"] * 2
    assert step_figure(alone, "ResNet-18", 16) is None


def test_bars_are_as_long_as_the_steps(profiles):
    figure = phases_figure(profiles)
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == "LeNet, 16 images")
    ends = {}
    for bar in axes.patches:
        y = round(bar.get_y() + bar.get_height() / 2)
        ends[y] = max(ends.get(y, 0), bar.get_x() + bar.get_width())
    assert ends == pytest.approx({0: 4.0, 1: 6.0, 2: 10.0})


def test_one_step_has_a_line_for_each_rank(profiles):
    (axes,) = step_figure(profiles, "LeNet", 16).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [
        "normal, rank 0", "DDP, rank 0", "DDP, rank 1", "DeepSpeed, rank 0", "DeepSpeed, rank 1",
    ]  # fmt: skip


@pytest.mark.parametrize("damage", [
    {"plain_seconds": []},
    {"plain_seconds": [1.0, 0.0, 1.0]},
    {"ranks": []},
    {"ranks": [{"rounds": [{"data": 1.0}], "step": []}]},
    {"engine": "horovod"},
])  # fmt: skip
def test_damaged_profiles_are_refused_in_a_sentence(tmp_path, damage):
    folder = written(tmp_path, [row("lenet", 16, "ddp") | damage])
    with pytest.raises(InputError, match=r"profiles\.jsonl cannot be read"):
        load_profiles(folder)


def test_two_trials_that_would_share_a_bar_are_refused(tmp_path):
    rows = [row("lenet", 16, "ddp"), row("lenet", 16, "ddp", name="another")]
    with pytest.raises(InputError, match="two profiles of LeNet, 16 images, engine ddp"):
        load_profiles(written(tmp_path, rows))


def test_a_study_without_profiles_says_how_to_measure_them(tmp_path):
    with pytest.raises(InputError, match="dsstudy profile parameters/"):
        load_profiles(tmp_path)


@pytest.mark.parametrize("engine", ["normal", "ddp", "deepspeed"])
def test_a_profile_is_measured_under_the_engines_own_launcher(planned, engine):
    processes = 1 if engine == "normal" else 2
    study = planned(
        f"defaults: {{train_images: 320, test_images: 50, processes: {processes}}}\n"
        f"matrix: {{engine: [{engine}]}}\n"
    )
    (trial,) = study.trials
    lines = profile_study(study, study.trials, steps=4, rounds=2).read_text().splitlines()
    (profile,) = map(json.loads, lines)
    assert profile["name"] == trial.name
    assert len(profile["plain_seconds"]) == len(profile["profiled_seconds"]) == 2
    assert [len(rank["rounds"]) for rank in profile["ranks"]] == [2] * processes
    for rank in profile["ranks"]:
        for phases in rank["rounds"]:
            exchanged = phases.pop("communication")
            assert (exchanged > 0) == (engine != "normal")
            assert min(phases.values()) > 0  # every phase was found in the trace
    # The numbers are those of the traces that are kept: those of the middle round.
    middle = profile["profiled_seconds"].index(min(profile["profiled_seconds"]))
    for rank in range(processes):
        trace = read_trace(study.folder / trial.name / f"trace-rank{rank}.json.gz")
        line = timeline(trace["traceEvents"])
        assert trace["threads"] == profile["threads"]
        assert len(line.bounds) == 4 + 1
        means = dict(zip(PHASES, line.seconds().mean(axis=0), strict=True))
        assert profile["ranks"][rank]["rounds"][middle].items() <= means.items()
    # The trial's own record is not touched: it still has to run.
    assert not (study.folder / trial.name / "trial.json").exists()
    assert len(load_profiles(study.folder)) == 1
