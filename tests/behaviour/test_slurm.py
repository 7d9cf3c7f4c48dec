"""A study as Slurm job arrays on two nodes, one of which is lost in the middle of a trial."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from interrupted import assert_same
from slurmnodes import left, slurm_nodes, wait_until, why_not

from dsstudy.paths import project_root
from dsstudy.records.files import whole_file
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.spec.study import load_study

BIN = Path(sys.executable).parent
STUDY = """
defaults: {epochs: 12, train_images: 1600, test_images: 100}
matrix: {engine: [deepspeed, normal], seed: [0, 1]}
overrides:
  - {when: {engine: deepspeed}, set: {processes: 2}}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    monkeypatch.chdir(project_root())
    file = tmp_path / "arrayed.yaml"
    file.write_text(STUDY)
    return load_study(file)


@pytest.mark.parametrize(
    ("task", "arguments", "said"),
    [
        (None, "", "SLURM_ARRAY_TASK_ID: is not set: submit this with sbatch --array="),
        ("5", "", "the study has no trial number 5"),
        ("1", "--only engine=nothing", "--only: engine=nothing is not allowed: set engine to"),
    ],
)
def test_a_task_without_a_trial_fails_and_says_why(study, task, arguments, said):
    # Otherwise Slurm would count the trial as done.
    given = {"SLURM_CPUS_PER_TASK": "1"} | ({"SLURM_ARRAY_TASK_ID": task} if task else {})
    command = ["sh", "cluster/slurm.sh", study.file, *arguments.split()]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True)
    assert done.returncode != 0
    assert said in done.stderr


def test_an_offset_reaches_the_trials_beyond_the_largest_array(study):
    # MaxArraySize allows task numbers up to 1,000; the first task of a second array is any trial.
    given = {"SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": "1"}
    for offset in ("3", "4"):
        command = ["sh", "cluster/slurm.sh", study.file, "--set", "epochs=1"]
        environment = os.environ | given | {"OFFSET": offset}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if offset == "3":
            assert done.returncode == 0, done.stderr
            (folder,) = Path(os.environ["DSSTUDY_RUNS"]).glob("*/*normal*seed1*")
            assert Record(folder).finished
    assert done.returncode != 0
    assert "the study has no trial number 5" in done.stderr


def test_processes_of_one_number_on_two_machines_write_one_file(tmp_path, monkeypatch):
    # Every task notes the study when it starts: study.json, on storage that the nodes share.
    with whole_file(tmp_path / "study.json") as one:
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
        with whole_file(tmp_path / "study.json") as other:
            other.write(b"other")
        one.write(b"one")
    assert (tmp_path / "study.json").read_text() == "one"


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_lost_nodes_trial_is_queued_again_and_resumes_from_its_checkpoint(study, tmp_path):
    records = [Record(trial.folder) for trial in study.trials]
    with slurm_nodes(one=4, two=2) as nodes:

        def submit(cores: int, *only: str) -> None:
            """Submit as the script's first lines say; but the log goes elsewhere."""
            own = [str(study.file), *only]
            count = f"$(dsstudy trials {' '.join(own)} --commands | wc -l)"
            options = f"--cpus-per-task={cores} --output={tmp_path}/%A_%a.log"
            line = f"sbatch {options} --array=1-{count} cluster/slurm.sh {' '.join(own)}"
            assert "Submitted batch job" in nodes.run("sh", "-c", line)

        submit(2, "--only", "engine=deepspeed")
        submit(1, "--only", "engine=normal")

        def midway_on_two() -> Record | None:
            for record in records:
                who = folder_holder(record.folder)
                if who and who["host"] == "two" and len(record.epochs()) >= 2:
                    return record
            return None

        record = wait_until(midway_on_two, 300)
        nodes.lose("two")
        recorded = record.epochs()
        assert len(recorded) < 12
        wait_until(lambda: not nodes.run("squeue", "--noheader"), 400)
        ends = (nodes.folder / "jobs.log").read_text()
        assert "JobState=NODE_FAIL" in ends
        assert ends.count("JobState=COMPLETED") == 4
    assert not left(nodes.folder)
    assert "Resuming from checkpoint" in (record.folder / "trial.ipynb").read_text()
    assert record.epochs()[: len(recorded)] == recorded
    status = subprocess.run(["dsstudy", "status", study.folder], capture_output=True, text=True)
    assert status.returncode == 0, status.stdout
    assert "4 completed" in status.stdout
    # Both arrays gave each process one thread.
    alone = os.environ | {"DSSTUDY_RUNS": str(tmp_path / "alone"), "OMP_NUM_THREADS": "1"}
    subprocess.run(["dsstudy", "run", study.file], env=alone, check=True, capture_output=True)
    for record in records:
        here = Record(tmp_path / "alone" / study.name / record.folder.name)
        assert_same(record, here)
