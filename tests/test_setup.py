"""The project's own files agree with one another."""

import subprocess
import sys
import tomllib
from pathlib import Path

from click.testing import CliRunner

from dsstudy.cli import main

ROOT = Path(__file__).parents[1]


def test_lock_names_every_dependency_and_no_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {line.split("==")[0] for line in lines if "==" in line}
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {name.split(">")[0] for name in wanted} <= locked
    assert not [line for line in lines if "/" in line or line.startswith("-")]


def test_the_library_is_quick_to_import():
    heavy = "import sys, dsstudy, dsstudy.cli, dsstudy.launching.machine, dsstudy.records.record, dsstudy.spec.trial; " \
            "sys.exit(bool({'torch', 'deepspeed', 'pandas'} & set(sys.modules)))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", heavy]).returncode == 0


def test_judging_does_not_import_training():
    code = "import sys, dsstudy.pages.results, dsstudy.pages.cost_model.figures, dsstudy.report.phase_figures, " \
           "dsstudy.pages.compare; " \
           "sys.exit('torch' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_doctor_says_what_this_machine_can_run():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "yes  engine ddp, two processes, fp32" in result.output
    assert "yes  engine deepspeed, two processes, fp32" in result.output
    assert "download it with 'make cifar10'" in result.output
