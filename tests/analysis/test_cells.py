"""Cells over seeds: paired differences, verdicts from intervals, missing values."""

import json

import pytest
from studies import trial_of, write_record
from tables import LENET, bold_cells, read_table

from dsstudy.analysis.cells import (
    adam_over_sgd,
    compare_engines,
    counted_values,
    load_trials,
    study_architectures,
)
from dsstudy.analysis.load import load_epochs, load_results
from dsstudy.analysis.provenance import timing_machines
from dsstudy.pages.lenet_full import (
    BELOW,
    INSIDE,
    UNKNOWN,
    accuracies_figure,
    accuracies_table,
    gaps_table,
    last_epoch_table,
    learning_curves_figure,
    lenet_cells,
    lenet_gaps,
    lenet_text,
)
from dsstudy.pages.study import unfinished_reasons
from dsstudy.pages.table1 import accuracy_table, differences_table
from dsstudy.pages.table2 import adam_table, adam_text, seconds_table
from dsstudy.paper import printed
from dsstudy.report.origin import study_progress_text


def seeds(root, normal, deepspeed, setting="SGD", **result):
    """Write LeNet's records in one setting, one seed per accuracy."""
    for engine, accuracies in (("normal", normal), ("deepspeed", deepspeed)):
        for seed, accuracy in enumerate(accuracies):
            trial = trial_of(("lenet", engine, setting), seed=seed)
            write_record(root, trial, best_accuracy=accuracy, **result)
    return load_results(root)


@pytest.mark.parametrize(
    ("deepspeed", "verdict"),
    [
        ((64.0, 66.0, 68.0), "the same in every pair"),
        ((60.0, 62.1, 63.9), "normal higher"),  # -4, -3.9, -4.1
        ((68.0, 70.1, 71.9), "DeepSpeed higher"),
        ((60.0, 66.1, 70.0), "undecided: the interval includes zero"),  # -4, 0.1, 2
    ],
)
def test_differences_are_paired_by_seed(tmp_path, deepspeed, verdict):
    trials = seeds(tmp_path, (64.0, 66.0, 68.0), deepspeed)
    found = compare_engines(trials, "best_accuracy").loc["lenet", "SGD"]
    assert (found["verdict"], found["n"]) == (verdict, 3)
    assert found["published"] == pytest.approx(58.41 - 65.62)
    # Unpaired, deviations of two points within each engine would hide a difference of four.
    if verdict == "normal higher":
        assert found["value"] == pytest.approx(-4)
        assert found["high"] - found["low"] == pytest.approx(2 * 4.3027 * 0.1 / 3**0.5, abs=1e-4)


def test_one_seed_gives_no_verdict_and_seeds_that_only_one_side_has_do_not_pair(tmp_path):
    trials = seeds(tmp_path, (64.0, 66.0, 68.0), (50.0,))
    found = compare_engines(trials, "best_accuracy").loc["lenet", "SGD"]
    assert (found["verdict"], found["n"]) == ("one seed: no interval", 1)
    assert found["value"] == -14
    assert compare_engines(trials, "best_accuracy").loc["lenet", "Adam+S"]["verdict"] == "no pair"
    shown = read_table(differences_table(trials).to_html()).loc[("LeNet", "SGD")]
    assert shown.to_dict() == {
        "DeepSpeed − normal": "−14.00",
        "in the paper": "−7.21",
        "n": "1",
        "verdict": "one seed: no interval",
    }


def test_a_best_is_bold_only_if_it_is_distinguishable(tmp_path):
    sure = seeds(tmp_path / "sure", (70.0, 70.2, 70.1), (60.0, 60.2, 60.1))
    unsure = seeds(tmp_path / "unsure", (70.0, 60.0, 65.0), (60.0, 69.0, 65.5))
    single = seeds(tmp_path / "single", (70.0,), (69.9,))
    best = {("LeNet", ("Normal training", "SGD"))}
    assert bold_cells(accuracy_table(sure).to_html()) == best
    assert bold_cells(accuracy_table(unsure).to_html()) == set()
    assert bold_cells(accuracy_table(single).to_html()) == best  # as in the paper


def timed(root, normal, deepspeed):
    """Write LeNet's records with one seed and times that were measured in rounds."""
    trials = seeds(root, (64.0,), (60.0,), timing="shared")
    sides = zip(trials.sort_values("engine")["name"], (deepspeed, normal), strict=True)
    lines = [
        {
            "name": name,
            "seconds_per_step": [second / 100 for second in rounds],
            "steps_per_epoch": 100,
            "seconds_per_epoch_estimate": sorted(rounds)[1],
            "steps": 20,
            "timing": "exclusive",
        }
        for name, rounds in sides
    ]
    (root / "times.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_results(root)


def test_times_in_rounds_give_ratios_with_intervals(tmp_path):
    trials = timed(tmp_path / "a", (10.0, 20.0, 30.0), (20.0, 40.4, 59.4))
    found = compare_engines(trials, "seconds_per_epoch").loc["lenet", "SGD"]
    assert found["value"] == pytest.approx((2 * 2.02 * 1.98) ** (1 / 3))
    assert (found["n"], found["verdict"]) == (3, "normal faster")
    html = seconds_table(trials).to_html()
    shown = read_table(html).loc[("LeNet", "SGD")]
    assert shown["normal (s)"] == "20.00 ± 10.00, n = 3"
    assert shown["DeepSpeed / normal"].split()[0] == "2.00"
    assert bold_cells(html) == {(("LeNet", "SGD"), "normal (s)")}
    # Another seed's training, on another machine, must not be mixed in.
    other = write_record(tmp_path / "a", trial_of(LENET, seed=1), seconds_per_epoch=500.0)
    environment = other.result()["environment"]
    environment["hardware"]["processor"] = "another"
    other.finish(other.result() | {"environment": environment})
    more = load_results(tmp_path / "a")
    assert read_table(seconds_table(more).to_html()).equals(read_table(html))
    assert timing_machines(more) == timing_machines(trials)
    unsure = timed(tmp_path / "b", (10.0, 20.0, 30.0), (5.0, 40.0, 36.0))
    assert bold_cells(seconds_table(unsure).to_html()) == set()
    assert "undecided" in seconds_table(unsure).to_html()


def test_a_round_and_a_trainings_own_time_are_no_pair(tmp_path):
    timed(tmp_path, (10.0, 20.0, 30.0), (20.0, 40.4, 59.4))
    file = tmp_path / "times.jsonl"
    file.write_text(file.read_text().splitlines()[0])
    seeds(tmp_path / "alone", (64.0,), (60.0,))  # exclusive
    file.rename(tmp_path / "alone" / "times.jsonl")
    trials = load_results(tmp_path / "alone")
    counting = counted_values(trials, "seconds_per_epoch")
    assert sorted(counting.groupby(level="engine").size()) == [1, 3]
    assert compare_engines(trials, "seconds_per_epoch")["n"].sum() == 0


def test_what_adam_adds_is_given_for_each_engine(tmp_path):
    for setting, seconds in (("SGD+S", (20.0, 10.0)), ("Adam+S", (19.0, 15.0))):
        for engine, second in zip(printed.PAPER_ENGINES, seconds, strict=True):
            write_record(tmp_path, trial_of(("lenet", engine, setting)), seconds_per_epoch=second)
    trials = load_results(tmp_path)
    found = adam_over_sgd(trials).loc["lenet"]
    assert found["value"].to_dict() == {"deepspeed": 0.95, "normal": 1.5}
    assert found["published"].round(2).to_dict() == {"deepspeed": 0.89, "normal": 1.11}
    assert read_table(adam_table(trials).to_html()).loc["LeNet"].to_dict() == {
        ("DeepSpeed training", "here"): "0.95",
        ("DeepSpeed training", "in the paper"): "0.89",
        ("Normal training", "here"): "1.50",
        ("Normal training", "in the paper"): "1.11",
    }
    text = adam_text(trials)
    assert "normal training takes 1.50 times as long" in text
    assert "one measurement each, without an interval" in text
    assert adam_text(seeds(tmp_path / "sgd", (64.0,), (60.0,))).startswith("No engine has")


def test_what_a_study_plans_and_lacks_is_shown_as_missing(planned):
    study = planned("matrix: {model: [lenet, alexnet], seed: [0, 1], engine: [normal]}")
    write_record(study.folder, study.trials[0])
    write_record(study.folder, study.trials[1], status="failed", error="Traceback\nout of memory")
    trials = load_trials(study.folder)
    assert trials["status"].value_counts().to_dict() == {"completed": 1, "failed": 1, "missing": 2}
    assert study_architectures(trials) == ["lenet", "alexnet"]
    assert study_progress_text(study.folder) == "1 of 4 trials are complete; 2 missing, 1 failed."
    assert unfinished_reasons(study.folder) == {
        study.trials[1].name: "failed: out of memory",
        study.trials[2].name: "not run yet, or not published",
        study.trials[3].name: "not run yet, or not published",
    }
    table = read_table(accuracy_table(trials).to_html())
    assert table.shape == (2, 6)
    assert table.at["LeNet", ("Normal training", "SGD")].startswith("65.62")
    assert "1 of 2 failed" in table.at["LeNet", ("Normal training", "SGD")]
    assert table.at["AlexNet", ("Normal training", "SGD")].startswith("missing")


def test_lenets_page_says_whether_the_papers_number_is_one_of_ours(tmp_path):
    # One more run: 65 ± 4.303 * 1 * sqrt(4 / 3) = 60.03 to 69.97; the paper's 65.62 is inside.
    # DeepSpeed: 66 ± 0.1 * 4.969: 58.41 is far below. The gap: 1 ± ..., the paper's is -7.21.
    trials = seeds(tmp_path, (64.0, 65.0, 66.0), (65.9, 66.0, 66.1))
    row, gaps = lenet_cells(trials), lenet_gaps(trials)
    assert row.loc[("SGD", "normal"), "low"] == pytest.approx(65 - 4.9685, abs=1e-3)
    assert row["where"].to_dict()["SGD", "normal"] == INSIDE
    assert row["where"].to_dict()["SGD", "deepspeed"] == BELOW
    assert row["where"].to_dict()["Adam+S", "normal"] == UNKNOWN
    assert gaps.loc["SGD", "verdict"] == "undecided: the interval includes zero"
    assert gaps.loc["SGD", "where"] == BELOW
    text = lenet_text(trials)
    assert "Within the 95 % interval of one more run of ours: 1 of the paper's 6" in text
    assert "DeepSpeed SGD (58.41; ours 66.00)" in text
    assert (
        "SGD+S: in the paper DeepSpeed is 6.98 points below normal training; here no pair" in text
    )


def test_lenets_page_works_with_whatever_there_is(tmp_path):
    seeds(tmp_path, (64.0,), ())
    trials, epochs = load_trials(tmp_path), load_epochs(tmp_path)
    assert "missing" in accuracies_table(trials).to_html()
    assert "no pair" in gaps_table(trials).to_html()
    assert read_table(last_epoch_table(epochs, trials).to_html()).shape == (1, 6)
    for figure in (accuracies_figure(trials), learning_curves_figure(epochs)):
        assert figure.axes
