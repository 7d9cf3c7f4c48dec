"""What a user waits for: the import of the library, and DeepSpeed's first training step.

Usage: python benchmarks/startup.py [--rounds 5]
"""

import argparse
import subprocess
import sys
import tempfile
import time

from common import ratio_table, save

from dsstudy.launching.run import run_trial
from dsstudy.spec.trial import Trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    seconds = {"python": [], "import dsstudy": [], "import torch": [], "deepspeed": []}
    for _ in range(rounds):
        seconds["python"].append(interpreter("pass"))
        seconds["import dsstudy"].append(interpreter("import dsstudy; dsstudy.Trial"))
        seconds["import torch"].append(interpreter("import torch"))
        seconds["deepspeed"].append(first_step())
    save(
        "startup",
        {
            "seconds": seconds,
            "import dsstudy / import torch": ratio_table(
                seconds["import dsstudy"], seconds["import torch"]
            ),
            "first step of deepspeed / import torch": ratio_table(
                seconds["deepspeed"], seconds["import torch"]
            ),
        },
    )


def interpreter(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def first_step() -> float:
    """Return the seconds from the `deepspeed` command to the first step of two ranks."""
    with tempfile.TemporaryDirectory() as folder:
        few = {"epochs": 1, "train_images": 160, "test_images": 10}
        trial = Trial(engine="deepspeed", processes=2, output_dir=folder, **few)
        return run_trial(trial).result()["startup_seconds"]


if __name__ == "__main__":
    main()
