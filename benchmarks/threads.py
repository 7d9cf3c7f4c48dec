"""How long a training step takes with one thread and with two, idle and beside a busy process.

Usage: python benchmarks/threads.py [--rounds 5] [--steps 10] [--networks lenet squeezenet1_0 ...]

In every round each network trains in turn with one thread, with two, and, where ``auto`` stands for
another number, with that one: alone, and beside one process that keeps a core busy. A time is the
shortest of the epochs of `steps` steps, as other programs only lengthen it. On two cores, ``auto``
should not be more than 1.1 times slower than the better number alone, and LeNet beside the busy
process at most twice as slow as alone.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from common import ratio_table, save

from dsstudy.launching.machine import Machine
from dsstudy.launching.run import run_trial
from dsstudy.launching.threads import choose_threads
from dsstudy.spec.trial import Trial

NETWORKS = {
    "lenet": {"model": "lenet"},
    "alexnet": {"model": "alexnet", "image_size": 63},
    "vgg11_bn": {"model": "vgg11_bn", "image_size": 32},
    "resnet18": {"model": "resnet18", "image_size": 32},
    "densenet121": {"model": "densenet121", "image_size": 32},
    "squeezenet1_0": {"model": "squeezenet1_0", "image_size": 32},
    "vit": {"model": "timm/vit_tiny_patch16_224", "image_size": 64},
}
"""The paper's networks at the sizes of the study ``small``."""

EPOCHS = 4
"""The first one warms up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    given = parser.parse_args()
    rows = {name: measured(name, given.rounds, given.steps) for name in given.networks}
    save("threads", {"rounds": given.rounds, "steps": given.steps, "networks": rows})


def measured(name: str, rounds: int, steps: int) -> dict:
    """Return a network's milliseconds per step by threads, and what ``auto`` chooses."""
    auto = choose_threads(Trial(**NETWORKS[name]), Machine.here(), 1)
    numbers = sorted({1, 2, auto.number})
    alone: dict[int, list[float]] = {number: [] for number in numbers}
    beside: dict[int, list[float]] = {number: [] for number in numbers}
    for _ in range(rounds):
        for number in numbers:
            alone[number].append(step_ms(name, number, steps))
            with busy_process():
                beside[number].append(step_ms(name, number, steps))
        shortest = {number: min(times) for number, times in alone.items()}
        print(name, "alone", shortest, "beside", {n: min(t) for n, t in beside.items()})
    best = [min(times) for times in zip(*alone.values(), strict=True)]
    return {
        "auto": auto.number,
        "reason": auto.reason,
        "alone_ms": alone,
        "beside_ms": beside,
        "alone_median_ms": {n: round(statistics.median(t), 2) for n, t in alone.items()},
        "beside_median_ms": {n: round(statistics.median(t), 2) for n, t in beside.items()},
        "auto / best, alone": ratio_table(alone[auto.number], best),
        "auto beside / auto alone": ratio_table(beside[auto.number], alone[auto.number]),
    }


def step_ms(name: str, threads: int, steps: int) -> float:
    """Train a few epochs, and return the milliseconds per step of the shortest."""
    few = {"epochs": EPOCHS, "train_images": 16 * steps, "test_images": 10}
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(**NETWORKS[name], **few, threads=threads, output_dir=folder)
        epochs = run_trial(trial).epochs()
    return 1e3 * min(epoch["train_seconds"] for epoch in epochs[1:]) / steps


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy meanwhile."""
    # In a session of its own, as another user's program: Linux divides the cores among sessions.
    command = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(command, start_new_session=True) as busy:
        time.sleep(0.1)
        try:
            yield
        finally:
            busy.kill()


if __name__ == "__main__":
    main()
