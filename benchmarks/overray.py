"""What a study costs on a Ray cluster, and what the loss of a node costs.

Usage: python benchmarks/overray.py parameters/demo.yaml

The cluster has two nodes (`raynodes.py`), which share this machine's cores. One is lost as soon as
it is in the middle of a trial of several epochs; the other does the rest. The time of one trial
after the other on the same machine is in ``results/slurm.json``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from common import save
from raynodes import NODE, RayNodes, ray_nodes

from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.records.study_folder import states_text, study_states
from dsstudy.spec.study import load_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as runs:
        os.environ["DSSTUDY_RUNS"] = runs
        records = [Record(trial.folder) for trial in load_study(file).trials]
        began = time.time()
        with ray_nodes() as nodes:
            for name in ("one", "two"):
                nodes.add(name, slots=2)
            ready = time.time()
            found = over_ray(nodes, file, records)
            found["seconds"]["to start the cluster"] = round(ready - began, 1)
            found["commands"] = [*nodes.commands, *found["commands"]]
    nodes_text = "two of 2 slots each, on one machine of 2 cores"
    save("ray", {"study": file.stem, "trials": len(records), "nodes": nodes_text, **found})


def over_ray(nodes: RayNodes, file: Path, records: list[Record]) -> dict[str, Any]:
    """Run a study on the cluster, and lose a node."""
    command = ["dsstudy", "run", str(file), "--ray", nodes.address]
    began = time.time()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        while (record := midway(records, "two")) is None:
            time.sleep(0.05)
        kept, lost = record.epochs(), time.time()
        nodes.lose("two")
        print(f"node two is lost, with {record.folder.name} after epoch {len(kept)}")
        again = None
        while len(record.epochs()) <= len(kept):
            if again is None and not nodes.left("two") and folder_holder(record.folder):
                again = time.time()
            time.sleep(0.05)
        further = record.epochs()[len(kept)]["started_at"]
        running.communicate()
    ended, results = time.time(), [record.result() or {} for record in records]
    return {
        "commands": [" ".join(command)],
        "states": states_text(study_states(records[0].folder.parent)),
        "seconds": {
            "until the first step": round(min(e["started_at"] for e in first(records)) - began, 1),
            "whole study": round(ended - began, 1),
            "trials, added up": round(sum(result["wall_seconds"] for result in results), 1),
        },
        "lost": {
            "trial": record.folder.name,
            "epochs kept": len(kept),
            "epochs unchanged": record.epochs()[: len(kept)] == kept,
            "seconds": {
                "until the trial runs again": round((again or further) - lost, 1),
                "until it trains again": round(further - lost, 1),
            },
        },
    }


def first(records: list[Record]) -> list[dict[str, Any]]:
    return [epoch for record in records for epoch in record.epochs()[:1]]


def midway(records: list[Record], node: str) -> Record | None:
    """Return a record that a node is writing and that has some of its epochs, but not all."""
    for record in records:
        who, trial = folder_holder(record.folder), record.trial()
        far = who and trial and 2 <= len(record.epochs()) < trial.epochs
        if far and node_of(who["pid"]) == node:
            return record
    return None


def node_of(pid: int) -> str | None:
    try:
        return psutil.Process(pid).environ().get(NODE)
    except psutil.NoSuchProcess:
        return None


if __name__ == "__main__":
    main()
