import json

import pytest

from dsstudy.analysis.cells import values_with_states
from dsstudy.analysis.load import load_results
from dsstudy.launching.run import run_trial
from dsstudy.records.study_folder import write_study
from dsstudy.spec.study import load_study
from dsstudy.studies.timing import time_study

OTHERS = {
    "name": "another",
    "timing": "exclusive",
    "seconds_per_step": [0.2],
    "steps_per_epoch": 10,
    "seconds_per_epoch_estimate": 2.0,
    "steps": 5,
}


def test_times_alone_are_repeated_and_win_over_a_trials_own(tmp_path, monkeypatch):
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "two.yaml"
    file.write_text(
        "defaults: {train_images: 320, test_images: 50, epochs: 1}\nmatrix: {optimizer: [sgd]}\n"
    )
    study = load_study(file)
    others = json.dumps(OTHERS)
    study.folder.mkdir(parents=True)
    (study.folder / "times.jsonl").write_text(others + "\n")
    times = time_study(study, study.trials, steps=5, rounds=2)
    before, after = times.read_text().splitlines()
    assert before == others  # rows of trials that are not timed stay
    row = json.loads(after)
    assert row["name"] == study.trials[0].name
    assert len(row["seconds_per_step"]) == 2
    assert row["steps_per_epoch"] == 20
    assert row["seconds_per_epoch_estimate"] == pytest.approx(20 * row["median"])
    assert row["seconds_per_epoch_min"] <= row["seconds_per_epoch_max"]

    run_trial(study.trials[0])
    write_study(study)
    times.write_text(json.dumps(row | {"timing": "exclusive"}) + "\n")
    results = load_results(study.folder)
    assert results["timed_seconds_per_epoch"].tolist() == [row["seconds_per_epoch_estimate"]]
    counted = values_with_states(results, "seconds_per_epoch")
    assert counted["value"].tolist() == [20 * seconds for seconds in row["seconds_per_step"]]
    assert (counted["state"] == "completed").all()

    times.write_text(json.dumps(row | {"timing": "shared"}) + "\n")
    assert "timed_seconds_per_epoch" not in load_results(study.folder)
