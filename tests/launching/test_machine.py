"""What a record says about the machine and the project."""

import subprocess
from pathlib import Path

import pytest

from dsstudy.launching import machine


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return a repository of one committed file, in the project's place."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    (tmp_path / "code.py").write_text("one")
    for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "one")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "project_root", lambda: tmp_path)
    return tmp_path


def stated() -> str:
    return machine.describe_environment(machine.Machine.here())["commit"]


@pytest.mark.parametrize("file", ["book/results/small/times.jsonl", "runs/small/trial.json"])
def test_results_do_not_make_a_commit_a_changed_one(project, file):
    """A study's times are measured after its trials were published, from the same code."""
    (project / file).parent.mkdir(parents=True)
    (project / file).write_text("a record")
    assert len(stated()) == 40


@pytest.mark.parametrize("file", ["code.py", "new.py", "book/page.md"])
def test_any_other_change_is_said(project, file):
    (project / file).parent.mkdir(exist_ok=True)
    (project / file).write_text("two")
    assert stated().endswith("+changes")
