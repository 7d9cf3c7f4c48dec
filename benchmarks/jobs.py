"""What `dsstudy run --jobs 2` gains: six LeNet trials, two at once and one after the other.

Usage: python benchmarks/jobs.py [--rounds 5] [--images 10000] [--epochs 3] [--dataset synthetic]
       [--jobs 2]

The runs alternate. Each is a process of its own, in a folder of its own, and its time is that of
the whole process. The records of both must be the same, bit for bit; the script ends with an error
if they are not. On two cores the throughput with two jobs should be at least 1.7 times as high.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ratio_table, save

from dsstudy.records.record import Record

STUDY = """\
defaults: {{dataset: {dataset}, train_images: {images}, epochs: {epochs}, keep_checkpoint: false}}
matrix: {{seed: [0, 1, 2, 3, 4, 5]}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    settings = {"dataset": given.dataset, "images": given.images, "epochs": given.epochs}
    seconds: dict[str, list[float]] = {"one": [], "several": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "six.yaml")
        file.write_text(STUDY.format(**settings))
        for turn in range(given.rounds):
            runs = {name: Path(folder, f"{name}-{turn}") for name in seconds}
            seconds["one"].append(run_seconds(file, runs["one"], 1))
            seconds["several"].append(run_seconds(file, runs["several"], given.jobs))
            check_equal(*runs.values())
            print({name: round(times[-1], 1) for name, times in seconds.items()}, flush=True)
    throughput = ratio_table(seconds["one"], seconds["several"])
    about = settings | {"jobs": given.jobs, "seconds": seconds}
    save("jobs", about | {"throughput with several / with one": throughput})


def run_seconds(file: Path, runs: Path, jobs: int) -> float:
    """Run the study into a folder, and return how long the whole process took."""
    command = [Path(sys.executable).parent / "dsstudy", "run", file, "--jobs", str(jobs)]
    started = time.perf_counter()
    subprocess.run(command, env=os.environ | {"DSSTUDY_RUNS": str(runs)}, check=True)
    return time.perf_counter() - started


def check_equal(one: Path, other: Path) -> None:
    """End with an error if any trial's steps or predictions differ."""
    for folder in sorted(one.glob("six/*/")):
        first, second = Record(folder), Record(other / "six" / folder.name)
        same = first.predictions().tobytes() == second.predictions().tobytes()
        for name, values in first.steps().items():
            same = same and values.tobytes() == second.steps()[name].tobytes()
        if not same:
            sys.exit(f"{folder.name}: the records differ")


if __name__ == "__main__":
    main()
