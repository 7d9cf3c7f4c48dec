"""Chains of trials, each step compared with the one before: on records whose numbers are known."""

import json
import math
from pathlib import Path

import pytest
from studies import write_record
from tables import read_table

from dsstudy.analysis.chains import (
    CANDIDATES,
    chain_names,
    chain_steps,
    load_chains,
    null_deviations,
)
from dsstudy.errors import InputError
from dsstudy.pages.bridge import (
    answer_text,
    beside_paper_text,
    chain_figure,
    chain_table,
    chains_text,
    equality_text,
    noise_text,
)
from dsstudy.paths import project_root
from dsstudy.spec.study import load_study

STUDY = """
defaults: {epochs: 25}
matrix:
  - seed: [0, 1, 2]
    SGD:
      normal training: {}
      clipped: {gradient_clipping: 1.0}
      DeepSpeed: {gradient_clipping: 1.0, engine: deepspeed, processes: 2}
  - seed: [0, 1, 2]
    SGD candidates:
      no momentum: {momentum: 0}
"""
ACCURACY = {"normal training": 65, "clipped": 56, "DeepSpeed": 57, "no momentum": 60}
SPREAD = {"DeepSpeed": (-3, 0, 3)}  # by seed; the other steps share one spread


@pytest.fixture
def folder(planned) -> Path:
    """Return a study of one chain, with a record of every trial."""
    study = planned(STUDY)
    for trial in study.trials:
        (step,) = study.labels[trial.name].values()
        accuracy = 1.0 * ACCURACY[step] + trial.seed + SPREAD.get(step, (0, 0, 0))[trial.seed]
        write_record(study.folder, trial, best_accuracy=accuracy, final_accuracy=accuracy - 1)
    return study.folder


def test_a_step_is_compared_with_the_one_before_seed_by_seed(folder):
    steps = chain_steps(load_chains(folder), "SGD", "best_accuracy")
    assert list(steps.index) == ["normal training", "clipped", "DeepSpeed"]
    assert list(steps["mean"]) == [66, 57, 58]
    assert list(steps["value"]) == [0, -9, 1]
    assert steps.loc["clipped", "low"] == pytest.approx(-9 - 3.4004, abs=1e-4)
    # The two changes share a deviation, sqrt((2 * 0 + 2 * 9) / 4): Student's t with 4 degrees.
    half = 2.77645 * 4.5**0.5 / 3**0.5
    assert steps.loc["DeepSpeed", "low"] == pytest.approx(1 - half, abs=1e-4)


def test_a_candidate_is_compared_with_the_chains_first_step(folder):
    trials = load_chains(folder)
    assert chain_names(trials) == ["SGD"]
    alone = chain_steps(trials, "SGD candidates", "best_accuracy")
    assert list(alone["value"]) == [-5]


def test_the_table_shows_both_epochs_and_marks_what_is_beyond_chance(folder):
    table = read_table(chain_table(load_chains(folder), "SGD").to_html())
    clipped = table.loc["clipped"]
    assert (clipped["best epoch"], clipped["last epoch"]) == ("57.00 ± 1.00", "56.00 ± 1.00")
    assert clipped["change, best"].startswith("−9.00*")
    assert table.loc["normal training", "change, best"] == "–"
    assert "*" not in table.loc["DeepSpeed", "change, last"]


def test_a_change_that_changes_nothing_says_so(folder):
    trials = load_chains(folder)
    candidate = trials["step"] == "no momentum"
    trials.loc[candidate, "best_accuracy"] = 65.0 + trials.loc[candidate, "seed"]
    table = read_table(chain_table(trials, "SGD candidates").to_html())
    assert table.loc["no momentum", "change, best"] == "none: the same numbers"


def test_a_study_without_labels_is_refused(folder):
    study = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(study | {"labels": {}}))
    with pytest.raises(InputError, match="has no labels: set study to one"):
        load_chains(folder)


def test_a_chain_that_the_study_lacks_is_named(folder):
    with pytest.raises(InputError, match="has no chain Adam: its chains are SGD$"):
        chain_table(load_chains(folder), "Adam")


def test_the_text_names_the_steps_that_are_beyond_chance(folder):
    trials = load_chains(folder)
    text = chains_text(trials, "best_accuracy")
    assert "goes from 66.00 to 58.00, by −8.00 points: “clipped” −9.00, “DeepSpeed” +1.00." in text
    assert "Beyond chance: “clipped”." in text
    answer = answer_text(trials)
    assert answer.startswith(
        "**The largest step is “clipped”, in 1 of 1 chains**: −9.00 of −8.00 points with SGD."
    )
    # One chain, three pairs: -2, 1 and 4; Student's t at 90 % with 2 degrees is 2.920.
    assert "LeNet +1.00 points over 3 pairs (90 %: −4.06 to +6.06), which shows neither" in answer
    last = trials["step"] == "DeepSpeed"
    for more, said in ((0.1, "so the two are equal within 0.5 points"), (1, "is a difference")):
        trials.loc[last, "best_accuracy"] = 56 + more + trials.loc[last, "seed"] * 1.01
        assert said in equality_text(trials)


def test_a_change_is_beyond_chance_only_among_all_that_are_tested(folder):
    steps = chain_steps(load_chains(folder), "SGD", "best_accuracy")
    # t = 9 / (2.1213 / sqrt(3)) = 7.348 with 4 degrees: p = 0.0018; the second t is 0.816: 0.460.
    # A third test, the candidate's, is certain; so the first is multiplied by 2, the second by 1.
    assert steps["chance"]["clipped"] == pytest.approx(2 * 0.00183, abs=2e-5)
    assert steps["chance"]["DeepSpeed"] == pytest.approx(0.460, abs=1e-3)
    assert math.isnan(steps["chance"]["normal training"])


def test_the_noise_floor_is_what_another_engine_alone_changes(folder):
    trials = load_chains(folder)
    assert null_deviations(trials, "best_accuracy") == [3.0]  # -2, 1, 4
    assert "1 step of LeNet changed only who computes" in noise_text(trials)


def test_the_papers_run_is_compared_with_where_one_more_seed_would_lie(folder):
    trials = load_chains(folder)
    text = beside_paper_text(trials)
    # 58.41 in the paper; ours 54, 58 and 62, whose deviation is 4: 4.30265 * 4 * sqrt(1 + 1 / 3)
    assert "reached 58.41 %, ours 58.00 % on average" in text
    assert "between 38.13 and 77.87 (95 %). The paper's number is inside" in text
    last = trials["step"] == "DeepSpeed"
    trials.loc[last, "best_accuracy"] = 63.0 + trials.loc[last, "seed"]
    text = beside_paper_text(trials)
    enclosed = (
        "between the last and the best epoch of “DeepSpeed” (57.00 % and 64.00 %, n = 3) only"
    )
    assert enclosed in text
    trials.loc[last, "final_accuracy"] = trials.loc[last, "best_accuracy"]
    text = beside_paper_text(trials)
    assert "is outside, so no step of this chain explains it" in text
    assert text.endswith("tried: “clipped” with 57.00 ± 1.00 % in its best epoch (n = 3).")


def test_an_incomplete_chain_says_what_is_missing(folder):
    trials = load_chains(folder)
    for name in trials.loc[trials["step"] == "clipped", "name"]:
        (folder / name / "trial.json").unlink()
    trials = load_chains(folder)
    assert "missing: clipped" in chains_text(trials, "best_accuracy")
    assert answer_text(trials) == "Undecided with SGD: trials are missing."
    figure = chain_figure(trials, "best_accuracy")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][1] == "clipped"


def test_chains_lead_from_the_papers_normal_trials_to_its_deepspeed_ones():
    """At the scale of lenet-full, whose trials are each chain's two ends."""
    parameters = project_root() / "parameters"
    study = load_study(parameters / "bridge.yaml")
    ends = {trial.name for trial in load_study(parameters / "lenet-full.yaml").trials}
    chains: dict[str, list[str]] = {}
    for trial in study.trials:
        if trial.seed == 0 and trial.model == "lenet":
            ((chain, _),) = study.labels[trial.name].items()
            chains.setdefault(chain, []).append(trial.name)
    assert ends <= {trial.name for trial in study.trials}
    for chain, names in chains.items():
        if not chain.endswith(CANDIDATES):
            assert {names[0], names[-1]} <= ends
            assert not ends & set(names[1:-1])
