"""Hundreds of records, published and loaded: nothing lost, nothing stale, all in order."""

import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dsstudy import paths
from dsstudy.analysis.load import load_epochs, load_results
from dsstudy.errors import InputError
from dsstudy.records.published_copy import publish_study
from dsstudy.records.record import Record
from dsstudy.records.study_folder import study_states
from dsstudy.spec.study import load_study

MANY = """\
defaults: {epochs: 3, data_dir: /home/somebody/images}
matrix: {model: [vit, lenet], engine: [deepspeed, normal], seed: SEEDS}
"""


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Return the folder of a study with 400 records; some lack whatever a record can lack."""
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "results_folder", lambda: tmp_path / "published")
    file = tmp_path / "many.yaml"
    file.write_text(MANY.replace("SEEDS", str(list(range(100)))))
    for number, trial in enumerate(load_study(file).trials):
        parameters = trial.model_dump()
        if number % 5 == 0:
            del parameters["beta2"]  # as written before the parameter existed
        epochs = [] if number % 7 == 0 else [{"epoch": n, "test_loss": None} for n in (1, 2, 3)]
        result = {
            "status": "completed",
            "best_accuracy": number / 7,
            "environment": {"commit": "1"},
        }
        if number % 7 == 0:
            result = {"status": "failed", "error": "no such file: \udce9t\udce9.png"}  # not UTF-8
        trial.folder.mkdir(parents=True)
        (trial.folder / "trial.json").write_text(json.dumps(parameters))
        if epochs:
            lines = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
            (trial.folder / "epochs.jsonl").write_text(lines)
        if number % 11:
            (trial.folder / "result.json").write_text(json.dumps(result))
    folder = trial.folder.parent
    (folder / "study.json").write_text('{"study": "many"}')
    trial.folder.rename(folder / "a folder of another name")
    return folder


def test_what_is_published_is_what_each_record_says(runs):
    target = publish_study(runs)
    rows, epochs = [], []
    for record in map(Record, runs.glob("*/")):
        trial, result = record.trial(), record.result()
        if result:
            places = {"output_dir": "none", "data_dir": "images", "hostfile": "none"}
            rows.append({"name": trial.name} | trial.model_dump() | places | result)
            epochs += [{"name": trial.name} | epoch for epoch in record.epochs()]
    rows.sort(key=lambda row: row["name"])
    epochs.sort(key=lambda row: (row["name"], row["epoch"]))
    for name, expected in (("trials", rows), ("epochs", epochs)):
        lines = (target / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == expected
    assert "somebody" not in (target / "trials.jsonl").read_text()


def test_a_folder_named_after_another_trial_is_not_published_under_its_name(runs):
    target = publish_study(runs)
    before = (target / "trials.jsonl").read_bytes()
    planned, renamed = [r for r in map(Record, sorted(runs.glob("*/"))) if r.finished][:2]
    name, its_own = planned.trial().name, renamed.trial().name
    (runs / "study.json").write_text(json.dumps({"study": "many", "trials": [name]}))
    shutil.rmtree(planned.folder)
    renamed.folder.rename(runs / name)
    with pytest.raises(InputError, match=f"belongs to another trial.* name the folder {its_own}$"):
        publish_study(runs)
    assert (target / "trials.jsonl").read_bytes() == before


def test_published_and_run_folders_load_alike(runs):
    target = publish_study(runs)
    for load in (load_results, load_epochs):
        both = load(runs)  # where most trials are in both, and count once
        assert len(both) == len(both.drop_duplicates([c for c in ("name", "epoch") if c in both]))
        finished = both[both["name"].isin(load(target)["name"])].reset_index(drop=True)
        ours, published = (
            frame.drop(columns=["output_dir", "data_dir"]) for frame in (finished, load(target))
        )
        pd.testing.assert_frame_equal(ours, published, check_like=True)


def test_trials_that_another_machine_published_stay_as_they_are(runs):
    target = publish_study(runs)
    before = {name: (target / name).read_bytes() for name in ("trials.jsonl", "epochs.jsonl")}
    for folder in sorted(runs.glob("*/"))[::2]:
        shutil.rmtree(folder)
    publish_study(runs)
    assert before == {name: (target / name).read_bytes() for name in before}
    # A merge by hand may mix up the lines: publishing loses none and sorts them.
    for name, text in before.items():
        lines = text.splitlines()
        random.Random(0).shuffle(lines)
        (target / name).write_bytes(b"\n".join(lines))
    publish_study(runs)
    assert before == {name: (target / name).read_bytes() for name in before}


def test_times_that_another_machine_published_stay(runs):
    target = publish_study(runs)
    time = {"timing": "exclusive", "seconds_per_step": [0.2], "steps_per_epoch": 10,
            "seconds_per_epoch_estimate": 2.0, "steps": 9}  # fmt: skip
    for place, names in ((target, "ab"), (runs, "bc")):
        rows = [{"name": name, **time, "place": place.parent.name} for name in names]
        (place / "times.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    publish_study(runs)
    rows = map(json.loads, (target / "times.jsonl").read_text().splitlines())
    found = [(row["name"], row["place"]) for row in rows]
    assert found == [("a", "published"), ("b", "runs"), ("c", "runs")]


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_trial_that_fails_here_leaves_the_published_one_as_it_is(runs, interrupted):
    target = publish_study(runs)
    before = {name: (target / name).read_bytes() for name in ("trials.jsonl", "epochs.jsonl")}
    record = next(r for r in map(Record, sorted(runs.glob("*/"))) if r.finished)
    (record.folder / "epochs.jsonl").unlink()
    record.fail("killed", interrupted)
    names = {"study": "many", "trials": [record.trial().name]}
    (runs / "study.json").write_text(json.dumps(names))
    assert study_states(runs) == {record.trial().name: "published"}
    publish_study(runs)
    assert before == {name: (target / name).read_bytes() for name in before}


def test_a_trial_that_is_run_again_takes_the_place_of_its_published_row(runs):
    target = publish_study(runs)
    record = next(r for r in map(Record, sorted(runs.glob("*/"))) if r.finished)
    record.finish(record.result() | {"best_accuracy": 99.0})
    publish_study(runs)
    results = load_results(target).set_index("name")
    assert results.loc[record.trial().name, "best_accuracy"] == 99.0
    assert (results["best_accuracy"] == 99.0).sum() == 1
