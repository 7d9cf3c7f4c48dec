"""What a study costs as a Slurm job array, and what the loss of a node costs.

Usage: python benchmarks/slurm.py parameters/demo.yaml, as root, in the project's folder, with Slurm
(Debian: apt install --no-install-recommends slurmctld slurmd slurm-client munge).

The study is run once by dsstudy run, one trial after the other, and once as an array over two nodes
(`slurmnodes.py`), which share this machine's cores. One is lost as soon as it is in the middle
of a trial of several epochs; the other does the rest, one trial after the other too. Slurm puts the
lost trial behind the waiting ones of the array, so the remaining node runs all of those first.

While the committed results were measured, other trainings used the same cores, and during dsstudy
run also tests. The two whole times cannot be compared.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import save
from slurmnodes import HELD_BACK, SILENCE, SlurmNodes, slurm_nodes, wait_until

from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.records.study_folder import states_text, study_states
from dsstudy.spec.study import load_study

MEASURED = ("train_loss", "test_loss", "test_accuracy")
HOUR = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here = records(file, folder / "here")
        began = time.time()
        subprocess.run(["dsstudy", "run", file], check=True, capture_output=True)
        alone = time.time() - began
        array = records(file, folder / "array")
        with slurm_nodes(one=2, two=2) as nodes:
            found = as_array(nodes, file, array, folder)
        save(
            "slurm",
            {
                "study": file.stem,
                "trials": len(array),
                "dsstudy_run_seconds": round(alone, 1),
                "array": found,
                "trials_with_equal_numbers": sum(map(same, here, array)),
                "slurm": subprocess.check_output(["slurmctld", "-V"], text=True).strip(),
                "nodes": "two of 2 cores each, which are the same two",
                "settings": {"SlurmdTimeout": SILENCE, "cred_expire": HELD_BACK},
            },
        )


def records(file: Path, runs: Path) -> list[Record]:
    """Let records go below a folder from now on; return the records of a study's trials."""
    os.environ["DSSTUDY_RUNS"] = str(runs)
    return [Record(trial.folder) for trial in load_study(file).trials]


def as_array(nodes: SlurmNodes, file: Path, array: list[Record], folder: Path) -> dict[str, Any]:
    """Run a study as an array, and lose a node; return the commands, and how long all took."""
    count = f"$(dsstudy trials {file} --commands | wc -l)"
    command = f"sbatch --array=1-{count} cluster/slurm.sh {file}"
    log = f"--output={folder}/%A_%a.log"
    asked = time.time()
    said = nodes.run("sh", "-c", command.replace("sbatch", f"sbatch {log}")).strip()
    submitted = time.time()
    first = wait_until(lambda: min(map(born, folder.glob("*.log")), default=0))
    record, lost = wait_until(lambda: midway(array, "two"), HOUR / 4), time.time()
    nodes.lose("two")
    print(f"node two is lost, with {record.folder.name} after epoch {len(record.epochs())}")
    seconds = after_loss(nodes, record, lost)
    wait_until(lambda: not nodes.run("squeue", "--noheader"), HOUR)
    ended = time.time()
    states = study_states(record.folder.parent)
    nodes.run("sbatch", "--wait", log, "--array=1", "cluster/slurm.sh", str(file))
    return {
        "command": command,
        "said": said,
        "states": states_text(states),
        "seconds": {
            "to submit": round(submitted - asked, 1),
            "until the first task starts": round(first - submitted, 1),
            "until the first step": round(min(steps_began(array)) - submitted, 1),
            "whole study": round(ended - submitted, 1),
            "a task of a finished trial": duration(nodes),
        },
        "lost": {"trial": record.folder.name, "seconds": seconds},
    }


def born(log: Path) -> float:
    return log.stat().st_mtime


def midway(array: list[Record], node: str) -> Record | None:
    """Return a record that a node is writing and that has some of its epochs, but not all."""
    for record in array:
        who, trial = folder_holder(record.folder), record.trial()
        if who and trial and who["host"] == node and 2 <= len(record.epochs()) < trial.epochs:
            return record
    return None


def after_loss(nodes: SlurmNodes, record: Record, lost: float) -> dict[str, float]:
    """Return what happens to a lost node's trial, in seconds after the loss."""
    kept = record.epochs()
    wait_until(lambda: "down" in nodes.run("sinfo", "-h", "-N", "-n", "two", "-o", "%T"), 300)
    noticed = time.time()
    wait_until(lambda: folder_holder(record.folder), HOUR)
    again = time.time()
    wait_until(lambda: len(record.epochs()) > len(kept), HOUR)
    (epoch, last) = record.epochs()[len(kept)], kept[-1]
    since = last["started_at"] + last["train_seconds"] + last["eval_seconds"]
    return {
        "until Slurm takes the node for lost": round(noticed - lost, 1),
        "until the trial runs again": round(again - lost, 1),
        "until it trains again": round(epoch["started_at"] - lost, 1),
        "trained in vain": round(lost - since, 1),
    }


def steps_began(array: list[Record]) -> list[float]:
    return [epoch["started_at"] for record in array for epoch in record.epochs()[:1]]


def duration(nodes: SlurmNodes) -> float:
    """Return the whole seconds of the job that ended last, as Slurm reports them."""
    line = (nodes.folder / "jobs.log").read_text().splitlines()[-1]
    facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
    began, ended = (
        time.mktime(time.strptime(facts[at], "%Y-%m-%dT%H:%M:%S"))
        for at in ("StartTime", "EndTime")
    )
    return ended - began


def same(one: Record, other: Record) -> bool:
    """Say whether two records have the same losses and accuracies, bit for bit."""
    ours, theirs = (
        [[epoch[name] for name in MEASURED] for epoch in record.epochs()] for record in (one, other)
    )
    return ours == theirs


if __name__ == "__main__":
    main()
