"""What a study of very many trials costs to list, to look at, to publish and to load.

Usage: python benchmarks/many.py [--records 1000 10000] [--rounds 3]

Finished records of 25 epochs each are written into a temporary folder. Every call then runs in a
process of its own, which measures the time of the whole process, its CPU time (which depends less
on other programs), the time of the call alone (without Python's start and the imports) and the
peak memory. Two sizes show what grows.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import save

from dsstudy.launching.machine import Machine, describe_environment
from dsstudy.records.study_folder import write_study
from dsstudy.spec.study import load_study

STUDY = """\
defaults: {{epochs: {epochs}, dataset: cifar10, learning_rate: 1e-3}}
matrix:
  model: [lenet, alexnet, vgg11_bn, resnet18, densenet121]
  engine: [deepspeed, normal]
  seed: {seeds}
overrides:
  - when: {{engine: deepspeed}}
    set: {{processes: 2, gradient_clipping: 1.0, precision: fp16}}
"""
EPOCHS = 25

CALLS = {
    "dsstudy --version": "main(['--version'])",
    "dsstudy trials many.yaml": "main(['trials', 'many.yaml'])",
    "dsstudy status runs/many": "main(['status', 'runs/many'])",
    "load_results('runs/many')": "load_results('runs/many')",
    "load_epochs('runs/many')": "load_epochs('runs/many')",
    "dsstudy publish runs/many": "main(['publish', 'runs/many'])",
    "dsstudy publish runs/many, again": "main(['publish', 'runs/many'])",
    "load_results('published/many')": "load_results('published/many')",
    "load_epochs('published/many')": "load_epochs('published/many')",
}
"""What is measured, in this order, each in the folder of the study."""

COLUMNS = ("process_seconds", "cpu_seconds", "call_seconds", "peak_mib")

CHILD = """
import sys, time
from pathlib import Path
from dsstudy import paths
paths.results_folder = lambda: Path('published').absolute()  # not the project's own
{imports}
started = time.perf_counter()
try:
    {call}
except SystemExit:  # a command ends with it
    pass
seconds = time.perf_counter() - started
(peak,) = (line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(time.process_time(), seconds, int(peak) / 1024, file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results = {}
    for count in options.records:
        with tempfile.TemporaryDirectory() as folder:
            write_records(Path(folder), count)
            results[f"{count} records"] = {
                name: measured(folder, name, options.rounds) for name in CALLS
            }
    save("many", results)


def measured(folder: str, name: str, rounds: int) -> dict[str, list[float]]:
    """Return what `process` returns, for each round."""
    rows = []
    for _ in range(rounds):
        if name.endswith("publish runs/many"):  # for the first time
            shutil.rmtree(Path(folder, "published"), ignore_errors=True)
        rows.append(process(folder, CALLS[name]))
    columns = [list(column) for column in zip(*rows, strict=True)]
    print(f"{name:34}", *(f"{statistics.median(column):8.2f}" for column in columns))
    return dict(zip(COLUMNS, columns, strict=True))


def process(folder: str, call: str) -> list[float]:
    """Run a call in a process of its own and return the `COLUMNS`."""
    imports = "import dsstudy.studies.batch; from dsstudy.cli import main"
    if call.startswith("load"):
        imports = "from dsstudy.analysis.load import load_epochs, load_results"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(call=call, imports=imports)],
        cwd=folder,
        env=os.environ | {"DSSTUDY_RUNS": f"{folder}/runs"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - started
    return [round(float(number), 3) for number in (seconds, *done.stderr.split())]


def write_records(folder: Path, count: int) -> None:
    """Write a study of `count` trials with records; every fiftieth trial has failed."""
    os.environ["DSSTUDY_RUNS"] = f"{folder}/runs"
    file = folder / "many.yaml"
    file.write_text(STUDY.format(epochs=EPOCHS, seeds=list(range(count // 10))))
    study, here = load_study(file), describe_environment(Machine.here())
    write_study(study)
    for number, trial in enumerate(study.trials):
        trial.folder.mkdir()
        epochs = [epoch(n) for n in range(1, EPOCHS + 1)]
        result = json.dumps(finished(epochs, here, failed=number % 50 == 49), indent=1)
        lines = "".join(json.dumps(line) + "\n" for line in epochs)
        (trial.folder / "trial.json").write_text(json.dumps(trial.model_dump(), indent=1))
        (trial.folder / "epochs.jsonl").write_text(lines)
        (trial.folder / "result.json").write_text(result)


def epoch(number: int) -> dict[str, Any]:
    """Return an epoch as `dsstudy.training.session` writes it, with numbers of real length."""
    seconds = random.uniform(3, 4)
    return {
        "epoch": number,
        "train_loss": random.uniform(1, 2),
        "test_loss": random.uniform(1, 2),
        "test_accuracy": round(random.uniform(40, 60), 2),
        "learning_rate": 0.001,
        "train_seconds": seconds,
        "eval_seconds": seconds / 10,
        "images_per_second": 50000 / seconds,
        "peak_memory_mb": 683.671875,
        "skipped_steps": 0,
        "started_at": 1795343617.9403622 + 4 * number,
    }


def finished(epochs: list[dict[str, Any]], here: dict[str, Any], failed: bool) -> dict[str, Any]:
    """Return a result as `dsstudy.launching.run` writes it."""
    return {
        "status": "failed" if failed else "completed",
        "best_accuracy": max(each["test_accuracy"] for each in epochs),
        "final_accuracy": epochs[-1]["test_accuracy"],
        "seconds_per_epoch": statistics.median(each["train_seconds"] for each in epochs[1:]),
        "wall_seconds": random.uniform(90, 110),
        "startup_seconds": random.uniform(2, 3),
        "timing": "exclusive",
        "error": "Traceback (most recent call last): ...\nRuntimeError: no" if failed else None,
        "finished_at": f"2026-11-22T10:49:{random.randrange(10, 60)}+00:00",
        "environment": here
        | {
            "device": "cpu",
            "dataset": {
                "name": "cifar10",
                "fingerprint": "bbbb7aa7519d0b13",
                "train_images": 50000,
                "test_images": 10000,
                "classes": 10,
            },
        },
    }


if __name__ == "__main__":
    main()
