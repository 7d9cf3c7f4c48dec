"""A study over a Ray cluster of several nodes, one of which is lost in the middle of a trial."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from interrupted import assert_same, outcome
from waiting import PATIENCE, wait_until

from dsstudy.errors import InputError
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.spec.study import load_study
from dsstudy.spec.trial import Trial
from dsstudy.studies.ray_cluster import RayCluster

BIN = Path(sys.executable).parent
STUDY = """
defaults: {epochs: 12, train_images: 1600, test_images: 100}
matrix: {seed: [0, 1], engine: [normal, deepspeed]}
overrides:
  - {when: {engine: deepspeed}, set: {processes: 2}}
"""
TRAIN = "import dsstudy, json, sys; dsstudy.run_trial(dsstudy.Trial(**json.loads(sys.argv[1])))"


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="^--ray needs Ray, .* install it with 'make ray'$"):
        RayCluster("auto")


@pytest.fixture
def planned(tmp_path, monkeypatch):
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "clustered.yaml"
    file.write_text(STUDY)
    return load_study(file)


def start(study, address: str, *options: str) -> subprocess.Popen:
    command = [BIN / "dsstudy", "run", study.file, "--ray", address, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def alone(trial: Trial, folder: Path) -> Record:
    """Train a trial here, with one thread per process, as in a slot of the cluster."""
    parameters = trial.model_dump() | {"output_dir": str(folder / trial.name)}
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN, json.dumps(parameters)]
    subprocess.run(command, env=one, check=True, capture_output=True)
    return Record(parameters["output_dir"])


@pytest.mark.slow
def test_a_lost_nodes_trial_resumes_elsewhere_from_its_checkpoint(planned, tmp_path):
    from raynodes import NODE, ray_nodes

    with ray_nodes() as nodes:
        for name in ("one", "two"):
            nodes.add(name, slots=2)
        running = start(planned, nodes.address)

        def on_node_two() -> Record | None:
            for record in (Record(trial.folder) for trial in planned.trials):
                who = folder_holder(record.folder)
                far = who and len(record.epochs()) >= 2
                if far and psutil.Process(who["pid"]).environ()[NODE] == "two":
                    return record
            return None

        record = wait_until(on_node_two)
        nodes.lose("two")
        wait_until(lambda: not nodes.left("two"), 30)  # nothing trains there any longer
        recorded = record.epochs()
        assert len(recorded) < 12
        output, _ = running.communicate(timeout=2 * PATIENCE)
        assert running.returncode == 0, output
        assert "4 completed" in output
    assert record.epochs()[: len(recorded)] == recorded
    for trial in planned.trials:
        assert_same(Record(trial.folder), alone(trial, tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a node storage of its own")
def test_records_come_back_from_a_node_with_storage_of_its_own(planned, tmp_path):
    from raynodes import ray_nodes

    planned.folder.parent.mkdir()
    script = f'mount -t tmpfs none {planned.folder.parent} && exec "$@"'
    with ray_nodes() as nodes:
        nodes.add("apart", 1, "unshare", "--mount", "sh", "-c", script, "sh")
        running = start(planned, nodes.address, "--only", "engine=normal")
        output, _ = running.communicate(timeout=2 * PATIENCE)
        assert "2 completed" in output, output
    for trial in (trial for trial in planned.trials if trial.engine == "normal"):
        record, here = Record(trial.folder), alone(trial, tmp_path)
        shutil.copytree(here.checkpoints, record.checkpoints)  # these are not copied back
        assert outcome(record).keys() == outcome(here).keys()
        assert_same(record, here)
        assert (record.folder / "trial.ipynb").exists()


@pytest.mark.slow
def test_what_fits_no_node_is_refused_and_so_is_an_address_without_a_cluster(planned):
    from raynodes import ray_nodes

    with ray_nodes() as nodes:
        nodes.add("one", slots=1)
        output, _ = (running := start(planned, nodes.address)).communicate(timeout=PATIENCE)
        assert running.returncode == 1
        assert "processes=2 is more than the 1 CPU slots of any node of the cluster" in output
        assert not planned.folder.exists()
    output, _ = (running := start(planned, nodes.address)).communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert output.strip().splitlines()[-1].startswith(f"Error: --ray {nodes.address}: no cluster")
