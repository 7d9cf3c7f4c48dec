"""The project's own files agree with one another."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    "module",
    ["dsstudy", "dsstudy.spec.trial", "dsstudy.spec.study", "dsstudy.records.record",
     "dsstudy.launching.machine", "dsstudy.paper.printed", "dsstudy.cli"],
)  # fmt: skip
def test_the_library_is_quick_to_import(module):
    code = f"import sys, {module}; print({{'torch', 'pandas', 'deepspeed'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_doctor_says_what_this_machine_can_run():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "yes  engine ddp, two processes, fp32" in result.output
    assert "yes  engine deepspeed, two processes, fp32" in result.output
    assert "download it with 'make cifar10'" in result.output
