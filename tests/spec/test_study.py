from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from dsstudy.cli import main
from dsstudy.errors import InputError
from dsstudy.spec.study import load_study, select
from dsstudy.spec.trial import ARCHITECTURES

PARAMETERS = Path(__file__).parents[2] / "parameters"
QUICK = ("lenet", "squeezenet1_0")  # these have more seeds in the study small


def study_file(tmp_path, text: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("study", ["paper", "demo", "small"])
def test_every_study_of_the_paper_has_its_42_combinations(study):
    trials = load_study(PARAMETERS / f"{study}.yaml").trials
    combinations = Counter((t.architecture, t.engine, t.setting) for t in trials)
    assert set(combinations) == {
        (architecture, engine, setting)
        for architecture in ARCHITECTURES
        for engine in ("normal", "deepspeed")
        for setting in ("SGD", "SGD+S", "Adam+S")
    }
    seeds = {cell: 3 if study == "small" and cell[0] in QUICK else 1 for cell in combinations}
    assert combinations == seeds
    assert [trial.seed for trial in trials[:42]] == [0] * 42  # one whole study first
    schedulers = {(t.engine, t.setting): t.scheduler for t in trials}
    assert schedulers["deepspeed", "SGD+S"] == schedulers["deepspeed", "Adam+S"] == "warmup"
    assert schedulers["normal", "SGD+S"] == schedulers["normal", "Adam+S"] == "cyclic"


def test_paper_has_the_papers_settings():
    """The paper, section 3.1, and the example that it follows."""
    for trial in load_study(PARAMETERS / "paper.yaml").trials:
        assert (trial.dataset, trial.epochs, trial.batch_size) == ("cifar10", 25, 16)
        assert trial.learning_rate == 1e-3
        assert trial.image_size == (32 if trial.model == "lenet" else 224)
        expected = (2, "fp16", 1.0) if trial.engine == "deepspeed" else (1, "fp32", "none")
        assert (trial.processes, trial.precision, trial.gradient_clipping) == expected
        assert trial.reshuffle == (trial.engine == "normal")


MINIMAL = """\
defaults:
  train_images: 100
matrix:
  engine: [normal]
  seed: [0, 1]
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MINIMAL.replace("train_images", "train_image"), ":2: train_image is not a parameter"),
        (MINIMAL.replace("100", "few"), ":2: train_images=few is not allowed"),
        (MINIMAL.replace("[normal]", "[norml]"), ":4: engine=norml is not allowed"),
        (MINIMAL.replace("matrix:", "matrx:"), ":3: matrx is not a key of a study"),
        (MINIMAL + "title: [One, Two]\n", ":6: title must be one line of text"),
        (MINIMAL + "title: |\n  One\n  Two\n", ":6: title must be one line of text"),
        (MINIMAL.replace("[0, 1]", "7"), ":5: seed must be a list of values"),
        (MINIMAL.replace("[0, 1]", "[1, 1]"), "the same trial"),
        (MINIMAL + "  engine: [deepspeed]\n", ":6: engine occurs twice"),
        (MINIMAL + "overrides:\n- when: {engine: normal}\n", ":6: each override needs"),
        (MINIMAL + "overrides:\n- {when: {engin: x}, set: {seed: 3}}\n", ":7: engin is neither"),
        ("matrix: [{seed: [0]}, 3]\n", ":1: matrix must hold names with values"),
        ("matrix:\n- seed: [0]\n- seed: 1\n", ":3: seed must be a list of values"),
        ("matrix:\n- seed: [0]\n- seed: [1, 0]\n", "the same trial"),
        ("- a\n- b\n", "holds no study"),
        ("a: [1\n", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("defaults: {}\n", "has no matrix"),
    ],
)
def test_mistakes_are_found_at_their_line(tmp_path, text, sentence):
    file = study_file(tmp_path, text)
    with pytest.raises(InputError) as error:
        load_study(file)
    assert str(error.value).startswith(str(file))
    assert sentence in str(error.value)


def test_axes_may_be_labels_with_parameters(tmp_path):
    file = study_file(
        tmp_path,
        """
matrix:
  clipping:
    with: {gradient_clipping: 1.0}
    without: {}
  seed: [0, 1]
overrides:
- {when: {clipping: with, seed: 1}, set: {momentum: 0}}
""",
    )
    found = [(t.gradient_clipping, t.seed, t.momentum) for t in load_study(file).trials]
    assert found == [(1.0, 0, 0.9), (1.0, 1, 0.0), ("none", 0, 0.9), ("none", 1, 0.9)]


def test_matrices_follow_one_another(tmp_path):
    file = study_file(
        tmp_path,
        """
matrix:
- {seed: [0], engine: [normal, deepspeed], momentum: &momenta [0, 0.5]}
- {seed: [1, 2], momentum: *momenta}
overrides:
- {when: {seed: 2}, set: {epochs: 9}}
""",
    )
    found = [(t.seed, t.engine, t.momentum, t.epochs) for t in load_study(file).trials]
    assert found == [
        (0, "normal", 0, 3), (0, "normal", 0.5, 3), (0, "deepspeed", 0, 3),
        (0, "deepspeed", 0.5, 3), (1, "normal", 0, 3), (1, "normal", 0.5, 3),
        (2, "normal", 0, 9), (2, "normal", 0.5, 9),
    ]  # fmt: skip


def test_set_wins_and_is_kept(tmp_path):
    study = load_study(study_file(tmp_path, MINIMAL), {"train_images": "50", "momentum": "0"})
    assert {(t.train_images, t.momentum) for t in study.trials} == {(50, 0.0)}
    assert study.overrides == {"train_images": "50", "momentum": "0"}
    with pytest.raises(InputError, match="--set: momentum=x is not allowed"):
        load_study(study.file, {"momentum": "x"})


def test_trials_lie_in_the_studys_folder(tmp_path):
    study = load_study(study_file(tmp_path, MINIMAL))
    assert study.name == "mine"
    assert [trial.folder for trial in study.trials] == [
        study.folder / trial.name for trial in study.trials
    ]


def test_select_by_parameter_and_setting():
    trials = load_study(PARAMETERS / "demo.yaml").trials
    assert len(select(trials, {"architecture": "vit", "setting": "SGD+S"})) == 2
    with pytest.raises(InputError, match="selects none"):
        select(trials, {"model": "vit"})
    with pytest.raises(InputError, match="--only modl is not possible: use a parameter"):
        select(trials, {"modl": "lenet"})


def test_commands_are_papermills(tmp_path):
    file = study_file(tmp_path, yaml.safe_dump({"matrix": {"seed": [0, 1]}}))
    listed = CliRunner().invoke(main, ["trials", str(file)])
    assert listed.output.splitlines() == [trial.name for trial in load_study(file).trials]
    commands = CliRunner().invoke(main, ["trials", str(file), "--commands"]).output.splitlines()
    assert len(commands) == 2
    assert " && papermill notebooks/trial.ipynb " in commands[1]
    assert " -p seed 1 " in commands[1]


def test_no_trial_is_listed_of_a_study_with_a_mistake_in_its_last(tmp_path):
    file = study_file(tmp_path, "matrix: {seed: [0, 1, -1]}")
    listed = CliRunner().invoke(main, ["trials", str(file)])
    assert listed.exit_code == 1
    assert listed.output.startswith("Error: ")
    assert "seed=-1 is not allowed" in listed.output


def test_command_line_mistakes_end_in_one_sentence(tmp_path):
    result = CliRunner().invoke(main, ["run", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "cannot be read" in result.output
    file = str(study_file(tmp_path, MINIMAL))
    result = CliRunner().invoke(main, ["run", file, "--set", "seed"])
    assert result.exit_code == 1
    assert "not of the form name=value" in result.output


RULES = """
defaults: {epochs: 1}
matrix:
  learning_rate: [1e-3, 0.01]
  way: {plain: {}, two: {engine: ddp, processes: 2}}
overrides:
- {when: {CONDITION}, set: {seed: 7}}
"""


@pytest.mark.parametrize(
    ("condition", "meets"),
    [
        ("precision: fp32", lambda trial: True),  # a default
        ("learning_rate: 0.001", lambda trial: trial.learning_rate == 1e-3),  # written differently
        ("learning_rate: [1e-2, 5]", lambda trial: trial.learning_rate == 0.01),
        ("image_size: 32", lambda trial: True),  # what auto stands for
        ("engine: ddp", lambda trial: trial.engine == "ddp"),
        ("way: two", lambda trial: trial.processes == 2),
        ("way: two, learning_rate: '0.01'", lambda trial: trial.processes == 2
         and trial.learning_rate == 0.01),
    ],
)  # fmt: skip
def test_a_condition_holds_for_the_trials_that_have_its_value(tmp_path, condition, meets):
    (tmp_path / "x.yaml").write_text(RULES.replace("CONDITION", condition))
    trials = load_study(tmp_path / "x.yaml").trials
    assert [trial.seed == 7 for trial in trials] == [meets(trial) for trial in trials]


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("engine: deepsped", "engine=deepsped is not allowed: set engine to normal, ddp or"),
        ("seed: 1.5", "seed=1.5 is not allowed"),
        ("image_size: auto", "image_size=auto is not possible here"),
        ("way: three", "three is not a label of axis way: its labels are plain, two"),
        ("seed: 3, learning_rate: fast", "learning_rate=fast is not allowed"),  # not the first
    ],
)
def test_a_condition_that_no_trial_can_meet_is_refused(tmp_path, condition, sentence):
    (tmp_path / "x.yaml").write_text(RULES.replace("CONDITION", condition))
    with pytest.raises(InputError, match=r"x.yaml:7: ") as error:
        load_study(tmp_path / "x.yaml")
    assert sentence in str(error.value)


def test_a_condition_compares_what_the_command_line_sets(tmp_path):
    (tmp_path / "x.yaml").write_text(RULES.replace("CONDITION", "precision: bf16"))
    trials = load_study(tmp_path / "x.yaml", {"precision": "bf16"}).trials
    assert {trial.seed for trial in trials} == {7}


def test_only_selects_by_value_not_by_spelling(tmp_path):
    (tmp_path / "x.yaml").write_text(RULES.replace("CONDITION", "seed: 0"))
    trials = load_study(tmp_path / "x.yaml").trials
    assert len(select(trials, {"learning_rate": "1e-3", "reshuffle": "true"})) == 2
    with pytest.raises(InputError, match="--only: engine=deepsped is not allowed: set engine to"):
        select(trials, {"engine": "deepsped"})
