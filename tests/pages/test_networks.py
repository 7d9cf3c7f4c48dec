"""The page on a study's own networks: what its table and its figure show."""

from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from studies import write_record

from dsstudy.analysis.cells import load_trials
from dsstudy.analysis.load import load_epochs
from dsstudy.pages import networks
from dsstudy.report.figure_style import CSS_COLORS
from dsstudy.spec.trial import Trial

NETS = ("nets:wide", "nets:deep")


@pytest.fixture
def study(tmp_path) -> Path:
    """Return a study of two own networks in two engines, two seeds each, and one of the paper's."""
    for model in NETS:
        for seed, accuracy in enumerate((50.0, 54.0)):
            for engine, processes in (("normal", 1), ("ddp", 2)):
                trial = Trial(model=model, engine=engine, processes=processes, seed=seed)
                write_record(tmp_path, trial, best_accuracy=accuracy, seconds_per_epoch=2.0)
    write_record(tmp_path, Trial(model="resnet18"), best_accuracy=99.0, seconds_per_epoch=9.0)
    return tmp_path


def test_a_row_is_a_network_in_one_run_and_its_numbers_are_over_the_seeds(study):
    table = networks.runs_table(load_trials(study)).data
    runs = ["DDP, SGD, processes 2", "normal, SGD, processes 1"]
    assert set(table.index) == {(net, run) for net in NETS for run in runs}
    for cell in table["best test accuracy (%)"]:
        assert "52.00" in cell and "± 2.83" in cell and "n = 2" in cell


def test_each_network_has_a_frame_and_each_engine_its_colour(study):
    figure = networks.accuracy_figure(load_epochs(study))
    assert {axes.get_title() for axes in figure.axes} == set(NETS)
    for axes in figure.axes:
        drawn = {to_hex(line.get_color()) for line in axes.get_lines() if len(line.get_xdata())}
        assert drawn == {CSS_COLORS["normal"], CSS_COLORS["ddp"]}


def test_a_study_of_the_papers_networks_alone_leaves_the_page_empty(tmp_path):
    write_record(tmp_path, Trial(model="resnet18"))
    assert networks.runs_table(load_trials(tmp_path)) is None
    assert networks.accuracy_figure(load_epochs(tmp_path)) is None
    assert networks.counts_text(load_trials(tmp_path)).startswith("This study has no trial outside")


def test_models_that_stand_for_one_architecture_are_not_averaged(tmp_path):
    for model, accuracy in zip(NETS, (40.0, 60.0), strict=True):
        trial = Trial(model=model, architecture="mine")
        write_record(tmp_path, trial, best_accuracy=accuracy, seconds_per_epoch=2.0)
    table = networks.runs_table(load_trials(tmp_path)).data
    assert {net: cell for (net, _), cell in table["best test accuracy (%)"].items()} == {
        "nets:wide": "40.00",
        "nets:deep": "60.00",
    }


def test_a_run_that_was_not_timed_alone_keeps_its_time_beside_one_that_was(tmp_path):
    common = {"model": "nets:wide", "engine": "deepspeed", "processes": 2}
    for stage in (0, 1):
        trial = Trial(zero_stage=stage, **common)
        write_record(tmp_path, trial, best_accuracy=50.0, seconds_per_epoch=2.0)
    trials = load_trials(tmp_path)
    trials["timed_rounds"] = [[3.0, 5.0] if stage else None for stage in trials["zero_stage"]]
    seconds = networks.runs_table(trials).data["seconds per epoch"]
    cells = {run: cell for (_, run), cell in seconds.items()}
    assert cells["DeepSpeed, SGD, zero_stage 0"] == "2.00"
    assert cells["DeepSpeed, SGD, zero_stage 1"].startswith("4.00")
