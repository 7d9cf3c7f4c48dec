"""Records as frames and tables: 42 cells always, and nothing dropped in silence."""

import json
import re

import pandas as pd
import pytest
from studies import profile_row, trial_of, write_record, write_study
from tables import LENET, bold_cells, read_table

from dsstudy.analysis.cells import paper_cells, study_architectures
from dsstudy.analysis.load import load_epochs, load_results
from dsstudy.errors import InputError
from dsstudy.launching.run import run_trial
from dsstudy.pages.figure1 import accuracy_explorer, ahead_text, panels_figure
from dsstudy.pages.table1 import accuracies_text, accuracy_table
from dsstudy.pages.table2 import ratios_text, seconds_table
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.records.record import Record
from dsstudy.records.study_folder import find_study
from dsstudy.report.origin import origin_box, origin_facts, synthetic_warning


def publish(study, target):
    """Write a study's published copy."""
    trials, epochs = [], []
    for record in map(Record, sorted(study.glob("*/"))):
        name = record.trial().name
        parameters = record.trial().model_dump() | {"output_dir": "none"}
        trials.append({"name": name} | parameters | (record.result() or {}))
        epochs += [{"name": name} | epoch for epoch in record.epochs()]
    target.mkdir()
    for file, rows in (("trials", trials), ("epochs", epochs)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (target / f"{file}.jsonl").write_text(lines)
    return target


def test_folder_and_published_copy_give_the_same_frames(short, tmp_path):
    for engine_seed in (0, 1):
        run_trial(short(f"study/{engine_seed}", seed=engine_seed))
    Record(tmp_path / "study" / "2").start(short("study/2", seed=2))
    study, copy = tmp_path / "study", publish(tmp_path / "study", tmp_path / "copy")
    for load in (load_results, load_epochs):
        ours, published = (load(path).drop(columns="output_dir") for path in (study, copy))
        pd.testing.assert_frame_equal(ours, published)
    assert list(load_results(copy)["status"]) == ["completed", "completed", "unfinished"]
    assert len(load_epochs(copy)) == 2


def test_every_architecture_of_a_study_has_its_six_cells(tmp_path):
    write_record(tmp_path, trial_of(LENET))
    for column in ("best_accuracy", "seconds_per_epoch"):
        frame = paper_cells(load_results(tmp_path), column)
        assert [tuple(row) for row in frame[CELL].to_numpy()] == list(printed.CELLS[:6])
        assert frame["state"].value_counts().to_dict() == {"missing": 5, "completed": 1}


def test_bold_and_differences_of_a_study_with_the_papers_numbers(tmp_path):
    results = load_results(write_study(tmp_path))
    html = accuracy_table(results).to_html()
    in_bold = {  # as in the paper: normal training only
        "LeNet": "SGD",
        "AlexNet": "SGD",
        "VGG11_BN": "SGD",
        "ResNet-18": "Adam+S",
        "DenseNet-121": "Adam+S",
        "SqueezeNet-v1.0": "Adam+S",
        "ViT": "SGD+S",
    }
    assert bold_cells(html) == {(row, ("Normal training", best)) for row, best in in_bold.items()}
    table1 = read_table(html)
    assert table1.size == 42
    assert table1.at["LeNet", ("DeepSpeed training", "SGD")] == "58.41 paper 58.41 +0.00"
    html = seconds_table(results).to_html()
    by_deepspeed = {row for row, column in bold_cells(html) if column == "DeepSpeed (s)"}
    vit = {("ViT", setting) for setting in printed.SETTINGS}
    assert by_deepspeed == {("DenseNet-121", "Adam+S")} | vit
    assert len(bold_cells(html)) == 21
    assert read_table(html).loc[("LeNet", "SGD")].to_dict() == {
        "DeepSpeed (s)": "16.63",
        "normal (s)": "11.97",
        "DeepSpeed / normal": "1.39",
        "in the paper": "1.39",
    }


@pytest.mark.parametrize("status", ["failed", "diverged", "unfinished"])
def test_a_trial_without_a_number_shows_its_status(tmp_path, status):
    write_study(tmp_path, leave_out=(LENET,))
    if status == "unfinished":
        Record(tmp_path / "begun").start(trial_of(LENET))
    else:
        write_record(tmp_path, trial_of(LENET), status=status)
    results = load_results(tmp_path)
    table1 = read_table(accuracy_table(results).to_html())
    assert table1.at["LeNet", ("Normal training", "SGD")] == f"{status} paper 65.62"
    table2 = seconds_table(results).to_html()
    row = read_table(table2).loc[("LeNet", "SGD")]
    assert (row["normal (s)"], row["DeepSpeed / normal"]) == (status, "–")
    assert (("LeNet", "SGD"), "DeepSpeed (s)") not in bold_cells(table2)
    assert "1 " + status in origin_facts(tmp_path)["trials"]


def test_shared_times_are_shown_but_do_not_count(tmp_path):
    write_study(tmp_path, leave_out=(LENET,))
    write_record(tmp_path, trial_of(LENET), timing="shared")
    html = seconds_table(load_results(tmp_path)).to_html()
    row = read_table(html).loc[("LeNet", "SGD")]
    assert (row["normal (s)"], row["DeepSpeed / normal"]) == ("11.97 shared", "–")
    assert ("LeNet", "SGD") not in {row for row, _ in bold_cells(html)}


def test_seeds_give_mean_and_deviation_and_say_which_do_not_count(tmp_path):
    for seed, accuracy in enumerate((60.0, 62.0, 64.0)):
        write_record(tmp_path, trial_of(LENET, seed=seed), best_accuracy=accuracy)
    write_record(tmp_path, trial_of(LENET, seed=3), status="failed")
    table = read_table(accuracy_table(load_results(tmp_path)).to_html())
    assert table.at["LeNet", ("Normal training", "SGD")].startswith("62.00 ± 2.00, n = 3")
    assert "1 of 4 failed" in table.at["LeNet", ("Normal training", "SGD")]


def test_trials_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path):
    write_record(tmp_path, trial_of(LENET))
    write_record(tmp_path, trial_of(LENET, momentum=0.5))
    with pytest.raises(InputError, match="differ in momentum and not in the seed alone"):
        accuracy_table(load_results(tmp_path))


def test_records_of_another_study_are_left_out_and_named(tmp_path):
    trial, stranger = trial_of(LENET), trial_of(LENET, momentum=0.5)
    for each in (trial, stranger):
        write_record(tmp_path, each)
    note = {"study": "x", "file": "x.yaml", "overrides": {"epochs": "2"}, "trials": [trial.name]}
    (tmp_path / "study.json").write_text(json.dumps(note))
    assert list(load_results(tmp_path)["name"]) == [trial.name]
    assert set(load_epochs(tmp_path)["name"]) == {trial.name}
    facts = origin_facts(tmp_path)
    assert stranger.name in facts["left out"]
    assert facts["overrides"] == "epochs=2"


def test_provenance_says_where_the_numbers_come_from(tmp_path):
    write_study(tmp_path, leave_out=(LENET,))
    write_record(tmp_path, trial_of(("vit", "normal", "SGD"), optimizer="adam"))
    facts = origin_facts(tmp_path)
    assert facts["hardware"] == "EPYC, 2 cores, 24 GiB, no GPU"
    assert facts["images"] == "cifar10: 50,000 for training, 10,000 for testing, 10 classes"
    assert "in 41 of the paper's 42 cells; outside these cells: vit-normal-adam" in facts["trials"]
    assert facts["dates"] == "2026-11-22"
    assert "abc1234" in origin_box(tmp_path).to_html()


def test_provenance_names_the_machines_of_times_and_profiles_too(tmp_path):
    """These may be other machines than those that trained."""
    record = write_record(tmp_path, trial_of(LENET))
    environment = record.result()["environment"]
    environment["hardware"]["processor"] = "Xeon"
    known = {"name": record.folder.name, "timing": "exclusive", "environment": environment}
    time = {"seconds_per_epoch_estimate": 1.0, "steps_per_epoch": 1, "seconds_per_step": [1.0],
            "steps": 1}  # fmt: skip
    (tmp_path / "times.jsonl").write_text(json.dumps(known | time) + "\n")
    row = profile_row("lenet", 16, "normal", (1, 1, 1, 1, 1, 1), environment=environment)
    (tmp_path / "profiles.jsonl").write_text(json.dumps(row) + "\n")
    facts = origin_facts(tmp_path)
    assert facts["hardware"].startswith("EPYC")
    assert facts["times"] == (
        "of 1 trials measured alone, estimated from 1 rounds of 1 steps each (dsstudy time), on "
        "Xeon, 2 cores, 24 GiB, no GPU"
    )
    assert facts["profiles"] == "1 exclusive, on Xeon, 2 cores, 24 GiB, no GPU"


def test_only_synthetic_images_raise_the_banner(tmp_path):
    write_record(tmp_path / "real", trial_of(LENET))
    write_record(tmp_path / "drawn", trial_of(LENET, dataset="synthetic"))
    real, drawn = (load_results(tmp_path / name) for name in ("real", "drawn"))
    assert synthetic_warning(real) is None
    assert "synthetic images" in synthetic_warning(drawn).data


def test_a_study_is_found_or_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path))
    with pytest.raises(InputError, match="'dsstudy run parameters/demo.yaml'"):
        find_study("runs/demo")
    write_record(tmp_path / "demo", trial_of(LENET))
    assert find_study("runs/demo") == tmp_path / "demo"
    assert find_study(tmp_path / "demo") == tmp_path / "demo"


def test_the_figure_names_what_is_missing(tmp_path):
    write_study(tmp_path, leave_out=(LENET,))
    figure = panels_figure(load_epochs(tmp_path))
    assert len(figure.axes) == 28
    assert "No curve: normal LeNet, SGD." in [text.get_text() for text in figure.texts]


def test_a_study_that_has_just_started_can_be_shown(tmp_path):
    Record(tmp_path / "begun").start(trial_of(LENET))
    results, epochs = load_results(tmp_path), load_epochs(tmp_path)
    figure = panels_figure(epochs, study_architectures(results))
    assert any("No curve" in text.get_text() for text in figure.texts)
    assert "unfinished" in accuracy_table(results).to_html()
    assert accuracies_text(results).startswith("0 of 6 cells")
    assert "nothing to compare" in ratios_text(results)
    assert "0 of 0" in ahead_text(epochs)


def test_interactive_figure_needs_no_network(tmp_path):
    html = accuracy_explorer(load_epochs(write_study(tmp_path))).data
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", html)
    assert html.count("plotly.js v") == 1
    for name in ("ResNet-18", "DeepSpeed Adam+S", "d) both SGD+S"):
        assert name in html
