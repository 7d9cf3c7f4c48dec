"""The table of all trials and their curves: what the records state, with or without gaps."""

import json
from pathlib import Path

import pandas as pd
import pytest
from site_checks import watch
from studies import write_record

from dsstudy.errors import InputError
from dsstudy.pages.results import (
    load_curves,
    load_table_rows,
    synthetic_studies_warning,
    trials_explorer,
)
from dsstudy.records.reading import read_lines
from dsstudy.spec.trial import Trial

DEMO = Path(__file__).parents[1] / "records" / "demo"


@pytest.fixture
def odd(tmp_path) -> Path:
    """Return a study of three incomplete records: failed, diverged, and just started."""
    folder = tmp_path / "odd"
    error = "Traceback\n<img src=x> is no image"
    failed = write_record(folder, Trial(seed=1), status="failed", error=error, environment=None)
    (failed.folder / "epochs.jsonl").unlink()
    lost = write_record(folder, Trial(seed=2), status="diverged", best_accuracy=12.5)
    lines = [
        {"epoch": 1, "train_loss": 2.123456, "test_accuracy": 12.5, "learning_rate": 1e-3},
        {"epoch": 2, "train_loss": None, "test_accuracy": 10.0, "learning_rate": 1e-3},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (lost.folder / "epochs.jsonl").write_text(text)
    begun = folder / "begun"
    begun.mkdir()
    (begun / "trial.json").write_text(json.dumps(Trial(seed=3).model_dump()))
    return folder


def test_every_trial_is_in_the_table_as_its_line_states_it(odd):
    trials = load_table_rows([DEMO, odd]).set_index("name")
    for line in read_lines(DEMO / "trials.jsonl"):
        row = trials.loc[line["name"]]
        for name in ("model", "engine", "processes", "seed", "best_accuracy", "timing", "status"):
            assert row[name] == line[name]
        assert row["train_images"] == line["environment"]["dataset"]["train_images"]
        assert line["environment"]["commit"].startswith(row["commit"])
        assert row["study"] == "demo"
    assert len(trials) == 42 + 3
    failed, diverged, begun = (trials[trials["seed"] == seed].iloc[0] for seed in (1, 2, 3))
    assert failed["error"] == "<img src=x> is no image"
    assert (diverged["status"], diverged["best_accuracy"]) == ("diverged", 12.5)
    assert begun["status"] == "unfinished"
    assert pd.isna(begun["best_accuracy"])
    assert begun["timing"] == begun["commit"] == ""


def test_times_measured_alone_take_precedence(tmp_path):
    published = tmp_path / "timed"
    published.mkdir()
    (line, *_) = (DEMO / "trials.jsonl").read_text().splitlines()
    (published / "trials.jsonl").write_text(line + "\n")
    time = {"name": json.loads(line)["name"], "timing": "exclusive", "steps_per_epoch": 10,
            "seconds_per_step": [0.1, 0.2], "steps": 5,
            "seconds_per_epoch_estimate": 1.5}  # fmt: skip
    (published / "times.jsonl").write_text(json.dumps(time) + "\n")
    (row,) = load_table_rows([published]).to_dict("records")
    assert (row["seconds_per_epoch"], row["timing"]) == (1.5, "alone, repeated")


def test_curves_are_the_epochs_of_each_row(odd):
    trials = load_table_rows([odd, DEMO])
    curves = load_curves([odd, DEMO], trials)
    found = dict(zip(trials["name"], curves, strict=True))
    for line in read_lines(DEMO / "epochs.jsonl"):
        for name in ("train_loss", "test_accuracy"):
            kept = found[line["name"]][name]
            kept = kept[line["epoch"] - 1] if isinstance(kept, list) else kept
            assert kept == pytest.approx(line[name], abs=5e-3)
    assert found[trials.loc[trials["seed"] == 2, "name"].item()] == {
        "epochs": 2,
        "train_loss": [2.1235, None],
        "test_loss": None,
        "test_accuracy": [12.5, 10.0],
        "learning_rate": 1e-3,
    }
    assert found[trials.loc[trials["seed"] == 3, "name"].item()] == {}


def test_what_a_record_says_is_shown_as_text(browser, odd, tmp_path):
    trials = load_table_rows([odd])
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html>{trials_explorer([odd], trials).data}")
    page = watch(browser.new_page(), file.as_uri())
    page.goto(file.as_uri())
    page.get_by_role("searchbox").fill("no image")
    page.locator("#trials tbody tr").click()
    assert "<img src=x> is no image" in page.locator("#trial-curves").inner_text()
    assert "no epoch is recorded" in page.locator("#trial-curves").inner_text()
    assert not page.errors
    assert not page.away
    page.close()


def test_synthetic_studies_are_named(odd):
    assert (
        "demo: These numbers come from synthetic images"
        in synthetic_studies_warning(load_table_rows([DEMO])).data
    )
    photographed = load_table_rows([odd]).assign(dataset="cifar10")
    assert synthetic_studies_warning(photographed) is None


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(InputError, match=f"study={tmp_path} holds no records"):
        load_table_rows([DEMO, tmp_path])
