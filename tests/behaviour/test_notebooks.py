"""The trial notebook run by papermill, as a researcher runs it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from dsstudy.cli import main
from dsstudy.records.record import Record
from dsstudy.spec.study import load_study
from dsstudy.spec.trial import Trial

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "trial.ipynb"


def papermill(tmp_path: Path, **parameters) -> subprocess.CompletedProcess:
    """Run the command line that the README gives."""
    command = [str(Path(sys.executable).parent / "papermill"), str(NOTEBOOK)]
    command.append(str(tmp_path / "out.ipynb"))
    for name, value in ({"output_dir": tmp_path / "record"} | parameters).items():
        command += ["-p", name, str(value)]
    return subprocess.run(command, capture_output=True, text=True)


def test_parameters_cell_holds_every_parameter_with_its_default():
    (cell,) = (
        cell
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    given = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(cell.source).body
    }
    assert given == {name: field.default for name, field in Trial.model_fields.items()}


def test_the_command_line_of_a_trial_runs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path))
    few = "train_images: 320, test_images: 100, epochs: 2"
    file = tmp_path / "one.yaml"
    file.write_text(f"defaults: {{{few}, engine: deepspeed}}\nmatrix: {{processes: [2]}}\n")
    command = CliRunner().invoke(main, ["trials", str(file), "--commands"]).output
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=NOTEBOOK.parents[1],
        # A machine without a display may have that backend set: the notebook keeps its figures.
        env=os.environ | {"PATH": tools, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (trial,) = load_study(file).trials
    assert Record(trial.folder).result()["status"] == "completed"
    outputs = [
        output
        for cell in nbformat.read(trial.folder / "trial.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    # The ranks' progress is one output, which keeps its last state.
    bars = [
        output.data["text/plain"]
        for output in outputs
        if "epoch 2/2" in output.get("data", {}).get("text/plain", "")
    ]
    assert len(bars) == 1
    assert "step 20/20" in bars[0]
    assert "100 %" in bars[0]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"epoch": 2}, "InputError: epoch is not a parameter of a trial: did you mean epochs?"),
        (
            {"engine": "deepspeed", "processes": 4096, "batch_size": 4096},
            "InputError: processes=4096 is more than this machine's",
        ),
        # Before any cell that needs the model, whose summary would fail in torchinfo's words.
        (
            {"model": "alexnet", "image_size": 32},
            "InputError: image_size=32 is not possible for model=alexnet",
        ),
    ],
)
def test_bad_input_ends_with_its_sentence(tmp_path, parameters, sentence):
    done = papermill(tmp_path, **parameters)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(sentence)
    assert not (tmp_path / "record").exists()
