"""Property-based tests: any content of a file or a parameter works, or is refused in one sentence.

The examples are the same in every run, so that none fails by chance. HYPOTHESIS_PROFILE=search
tries new ones, and more of them.
"""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from strategies import (
    HOSTILE,
    NAMES,
    SCALARS,
    STUDY,
    damaged,
    damaged_arrays,
    like_a_study,
    mutated,
    number,
    valid,
)
from studies import profile_row, trial_of, write_record

from dsstudy import paths
from dsstudy.analysis.load import load_epochs, load_results
from dsstudy.analysis.step_phases import load_profiles
from dsstudy.cli import main
from dsstudy.errors import InputError
from dsstudy.launching.notebook import trial_command
from dsstudy.paths import published_folder
from dsstudy.records.published_copy import publish_study
from dsstudy.records.record import Record
from dsstudy.records.study_folder import (
    read_study_json,
    records_outside_study,
    study_states,
    write_study,
)
from dsstudy.spec.study import load_study, select
from dsstudy.spec.trial import PLACES, SWITCHES, Trial, parameter_value

slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
settings.register_profile(
    "same", max_examples=60, derandomize=True, database=None, deadline=None,
    suppress_health_check=slow,
)  # fmt: skip
settings.register_profile("search", max_examples=2000, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """Return a folder whose runs/ and book/results/ the library uses during the test."""
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    (tmp_path / "runs").mkdir()
    return tmp_path


def result_of(function, *arguments, naming: str = ""):
    """Return what a function returns, or None if it refuses its input in a proper sentence."""
    try:
        return function(*arguments)
    except InputError as error:
        check_sentence(str(error), naming)
        return None


def check_sentence(sentence: str, naming: str) -> None:
    assert len(sentence.splitlines()) == 1
    assert len(sentence) < 1000
    assert sentence.isprintable()
    assert naming in sentence


# Study files


@given(st.text() | st.binary() | mutated() | like_a_study())
def test_any_study_file_is_a_study_or_refused_in_a_sentence(places, content):
    file = places / "any.yaml"
    if isinstance(content, dict):
        content = yaml.safe_dump(content, allow_unicode=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    study = result_of(load_study, file, naming=str(file))
    if study is not None:
        assert study.trials
        assert len({trial.name for trial in study.trials}) == len(study.trials)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:40])
def test_a_hostile_study_file_is_refused_at_once(places, monkeypatch, text):
    monkeypatch.chdir(places)
    file = places / "hostile.yaml"
    file.write_text(text)
    assert result_of(load_study, file, naming=str(file)) is None
    assert not (places / "executed").exists()


# Parameters


def identity(trial: Trial) -> dict:
    return trial.model_dump(exclude=set(PLACES))


@given(st.dictionaries(NAMES, SCALARS, max_size=3))
@example({"model": b"lenet"})
@example({"data_dir": True})
@example({"output_dir": ""})
@example({"data_dir": "a\0b"})
@example({"model": "timm/x\n"})
@example({"a\nb": 1})
@example({"self": 1})
def test_any_parameters_are_a_trial_or_refused_in_a_sentence(parameters):
    trial = result_of(lambda: Trial(**parameters))
    if trial is not None:
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*", trial.name)
        flags = {name for name, value in parameters.items() if isinstance(value, bool)}
        assert flags <= {*SWITCHES}
        assert not any(isinstance(value, bytes) for value in parameters.values())


@given(valid())
@example({"model": f"torchvision/{'x' * 88}", "engine": "deepspeed", "scheduler": "warmup"})
def test_a_valid_trial_has_a_name_that_is_a_folder(parameters):
    trial = Trial(**parameters)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", trial.name)
    assert len(trial.name) <= 120
    for folder in ("folder", "data_folder"):
        path = result_of(getattr, trial, folder)
        assert path is None or path.is_absolute()


@given(valid())
@example({"architecture": "1e5", "data_dir": "2026", "output_dir": "True"})
def test_a_valid_trial_survives_json_text_and_papermill(parameters):
    from papermill.cli import _resolve_type

    trial = Trial(**parameters)
    dumped = trial.model_dump()
    through_text = {name: str(value) for name, value in dumped.items()}
    for copy in (dumped, json.loads(json.dumps(dumped)), through_text):
        assert Trial(**copy) == trial
        assert Trial(**copy).name == trial.name
    command = result_of(trial_command, trial)
    if command:
        words, read = command[3:], {"-p": _resolve_type, "-r": str}
        given = zip(words[::3], words[1::3], words[2::3], strict=True)
        assert Trial(**{name: read[option](value) for option, name, value in given}) == trial


@given(valid(), valid(), st.sampled_from(sorted(set(Trial.model_fields) - set(PLACES))))
@example({"momentum": 0.0}, {"momentum": -0.0}, "momentum")
def test_names_differ_just_where_trials_do(first, second, changed):
    one, other = Trial(**first), Trial(**second)
    parameters = one.model_dump() | {changed: other.model_dump()[changed]}
    third = result_of(lambda: Trial(**parameters))
    for another in filter(None, (other, third)):
        assert (one.name == another.name) == (identity(one) == identity(another))


# Folders


@given(
    st.sampled_from(
        [".yaml", "..yaml", "...yaml", "....yaml", ".hidden.yaml", "-x.yaml", "a b.yaml", "é.yaml",
         "a\nb.yaml", "a..b.yaml", f"{'x' * 101}.yaml", f"{'x' * 300}.yaml", "a/../../b.yaml",
         "../b.yaml", "é" * 60 + ".yaml", "", ".", "..", "a\0b.yaml", "\udcff.yaml"]
    )
    | st.text(st.characters(exclude_characters="/")).map("{}.yaml".format)
)  # fmt: skip
def test_no_file_name_leads_out_of_the_folder_for_studies(places, name):
    file = places / "files" / "a" / name
    (places / "files" / "a").mkdir(parents=True, exist_ok=True)
    try:
        file.write_text(STUDY)
    except (OSError, ValueError):
        assert result_of(load_study, file) is None
        return
    study = result_of(load_study, file)
    file.unlink()
    if study is not None:
        assert inside(study.folder, places / "runs")
        assert inside(published_folder(study.name), places / "book" / "results")
        assert all(inside(trial.folder, study.folder) for trial in study.trials)


def inside(path: Path, folder: Path) -> bool:
    """Return whether a path is a folder's direct child for the file system."""
    return Path(os.path.normpath(path)).parent == folder and path.name not in (".", "..")


@given(st.sampled_from(["..", ".", "", "../x", "/etc", "a/b", "a\0b"]) | st.text())
def test_no_study_that_a_file_names_leads_out(places, name):
    for study, trials in ((name, []), ("fine", [name])):
        content = json.dumps({"study": study, "trials": trials})
        (places / "runs" / "study.json").write_text(content)
        known = result_of(read_study_json, places / "runs", naming="study.json")
        for trial in known["trials"] if known else []:
            assert inside(places / "runs" / trial, places / "runs")
    result = result_of(published_folder, name)
    assert result is None or inside(result, places / "book" / "results")


def test_a_study_from_elsewhere_publishes_nowhere_else(places):
    write_record(places / "runs" / "x", trial_of(("lenet", "normal", "SGD")))
    note = places / "runs" / "x" / "study.json"
    note.write_text(json.dumps({"study": "../../../stolen", "trials": []}))
    assert result_of(publish_study, note.parent, naming=str(note)) is None
    note.write_text(json.dumps({"study": "x", "trials": ["../../secret"]}))
    assert result_of(study_states, note.parent, naming=str(note)) is None
    assert sorted(path.name for path in places.iterdir()) == ["runs"]


# Records


@settings(max_examples=settings.default.max_examples // 3)
@given(
    st.lists(st.dictionaries(st.text(), number, max_size=5), max_size=4),
    st.lists(st.integers(0, 20).flatmap(lambda n: st.tuples(
        arrays.arrays(np.float32, n), arrays.arrays(np.float64, n))), min_size=1, max_size=3),
    arrays.arrays(st.sampled_from([np.int64, np.int32]), st.integers(0, 20)),
)  # fmt: skip
def test_a_record_gives_back_what_it_was_given(places, epochs, steps, predicted):
    shutil.rmtree(places / "record", ignore_errors=True)
    record = Record(places / "record")
    record.start(Trial())
    written = [values | {"epoch": index} for index, values in enumerate(epochs, 1)]
    for epoch in written:
        record.add_epoch(epoch)
    first = 0
    for loss, rates in steps:
        record.add_steps(first, loss, rates)
        first += len(loss)
    record.set_predictions(predicted)
    record.set_progress(PROGRESS)
    assert record.trial() == Trial()
    assert record.progress() == PROGRESS
    assert record.epochs() == written
    np.testing.assert_array_equal(record.steps()["loss"], np.concatenate([a for a, _ in steps]))
    rates = np.concatenate([b for _, b in steps])
    np.testing.assert_array_equal(record.steps()["learning_rate"], rates)
    np.testing.assert_array_equal(record.predictions(), predicted)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A study of one trial, run, timed and published: files to be copied and damaged."""
    root = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSSTUDY_RUNS", str(root / "runs"))
        patch.setattr(paths, "project_root", lambda: root)
        (root / "x.yaml").write_text("matrix: {dataset: [cifar10]}")
        study = load_study(root / "x.yaml")
        write_study(study)
        record = write_record(study.folder, study.trials[0])
        record.add_steps(0, np.ones(9, np.float32), np.ones(9))
        record.set_predictions(np.arange(9))
        row = {"name": record.folder.name, "timing": "exclusive", "seconds_per_step": [0.2],
               "steps_per_epoch": 10, "seconds_per_epoch_estimate": 2.0, "steps": 5}  # fmt: skip
        (study.folder / "times.jsonl").write_text(json.dumps(row) + "\n")
        profile = profile_row("lenet", 16, "ddp", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
        (study.folder / "profiles.jsonl").write_text(json.dumps(profile) + "\n")
        publish_study(study.folder)
        record.set_progress(PROGRESS)
    return root


PROGRESS = {"epoch": 1, "epochs": 3, "step": 5, "steps": 9, "loss": None, "accuracy": 9.5}
TRIAL = f"runs/x/{Trial(dataset='cifar10').name}"
FILES = (
    f"{TRIAL}/trial.json", f"{TRIAL}/result.json", f"{TRIAL}/epochs.jsonl",
    f"{TRIAL}/progress.json", f"{TRIAL}/steps.npz", f"{TRIAL}/predictions.npy",
    "runs/x/study.json", "runs/x/times.jsonl", "runs/x/profiles.jsonl", "book/results/x/study.json",
    "book/results/x/trials.jsonl", "book/results/x/epochs.jsonl", "book/results/x/times.jsonl",
    "book/results/x/profiles.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=settings.default.max_examples // 3)
@given(st.data())
def test_a_damaged_file_of_a_record_is_named(places, written, monkeypatch, name, data):
    monkeypatch.chdir(places)
    content = (written / name).read_bytes()
    if name.endswith(("npz", "npy")):
        bad = data.draw(damaged_arrays(content))
    else:
        bad = data.draw(damaged(content, name.endswith("jsonl")))
    for folder in ("runs", "book"):
        shutil.rmtree(places / folder, ignore_errors=True)
        shutil.copytree(written / folder, places / folder)
    file = places / name
    file.write_bytes(bad)
    read_everything(places / "runs" / "x", places / TRIAL, file)
    read_everything(places / "book" / "results" / "x", places / TRIAL, file)
    assert not Path("executed").exists()


def read_everything(study: Path, trial: Path, damaged: Path) -> None:
    """Read a study in every way: each works, or its error names the damaged file."""
    record = Record(trial)
    for read in (record.trial, record.epochs, record.result, record.steps, record.predictions,
                 record.progress, record.__repr__, lambda: record.finished):  # fmt: skip
        result_of(read, naming=str(damaged))
    for load in (load_results, load_epochs, records_outside_study,
                 load_profiles):  # fmt: skip
        try:
            load(study)
        except InputError as error:
            check_sentence(str(error), "")
            # Publishing may have copied a line that is wrong only together with another one.
            assert damaged.name in str(error) or re.search(
                r"holds no (records|profiles)", str(error)
            )
    if study.parent.name == "runs":
        for command in ("status", "publish"):
            shown = CliRunner().invoke(main, [command, str(study)])
            assert shown.exception is None or isinstance(shown.exception, SystemExit), shown
            if shown.output.startswith("Error"):
                check_sentence(shown.output.strip(), str(damaged))


SPELLINGS = {
    "learning_rate": [0.001, "1e-3", "0.0010", 0.5, "5e-1", "1"],
    "epochs": [1, "1", 2, "2", "007", 3],
    "precision": ["fp32", "bf16", "fp16"],
    "engine": ["normal"],
    "reshuffle": [True, "true", "no", False],
    "gradient_clipping": ["none", 1, "1.0", 2.5],
    "train_images": ["all", 100, "100", 200],
    "momentum": [0.9, "0.90", 0, "-0.0", 0.0],
    "image_size": [32, "32", 64],
    "beta2": ["9.99e-1", 0.999, 0.9],
}
"""Values of parameters, some of them the same value written in several ways."""


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_condition_selects_the_trials_of_which_it_is_true(places, data):
    name = data.draw(st.sampled_from(sorted(SPELLINGS)))
    values = st.lists(st.sampled_from(SPELLINGS[name]), min_size=1, max_size=3)
    varied, wanted = data.draw(values, "varied"), data.draw(values, "wanted")
    distinct = {parameter_value(name, value): value for value in varied}
    content = {
        "matrix": {name: list(distinct.values())},
        "overrides": [{"when": {name: wanted}, "set": {"seed": 7}}],
    }
    if data.draw(st.booleans(), "default"):  # then the default of the trials counts
        content["matrix"] = {"batch_size": [8, 16]}
    (places / "x.yaml").write_text(yaml.safe_dump(content))
    trials = load_study(places / "x.yaml").trials
    true = [
        getattr(trial, name) in [parameter_value(name, one) for one in wanted] for trial in trials
    ]
    assert [trial.seed == 7 for trial in trials] == true
    one = str(wanted[0])
    chosen = [trial for trial in trials if getattr(trial, name) == parameter_value(name, one)]
    if chosen:
        assert select(trials, {name: one}) == chosen
    else:
        with pytest.raises(InputError, match="selects none"):
            select(trials, {name: one})
