"""Our trial against what a user would run instead: the whole process, and the loop alone.

Usage: python benchmarks/others.py IMAGE_FOLDER EXAMPLES [--rounds 3]

EXAMPLES is a checkout of https://github.com/deepspeedai/DeepSpeedExamples, whose folder
training/cifar holds both the official DeepSpeed example and a copy of PyTorch's CIFAR-10 tutorial.
LeNet, fp32, batch size 16, 10,000 training images, 2 epochs, 1,000 test images, the same folder for
all; the contestants take turns. See standin.py for how their scripts get the data set.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ratio_table, save
from standin import TEST_IMAGES, TRAIN_IMAGES

from dsstudy.launching.machine import Machine
from dsstudy.launching.placement import place_trial
from dsstudy.spec.trial import Trial

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image_folder", type=Path)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = str(given.image_folder.resolve())
    cifar = given.examples.resolve() / "training" / "cifar"
    standin = [str(HERE / "standin.py"), folder]
    contestants = {
        "normal": ours(folder, "normal", 1),
        "PyTorch tutorial": [sys.executable, *standin, str(cifar / "cifar10_tutorial.py")],
        "deepspeed": ours(folder, "deepspeed", 2),
        "DeepSpeed example": [
            str(BIN / "deepspeed"), "--num_accelerators=2", *standin,
            str(cifar / "cifar10_deepspeed.py"), "--dtype", "fp32", "--epochs", "2",
        ],
    }  # fmt: skip
    contestants["deepspeed, by papermill"] = papermill(folder, "deepspeed", 2)
    contestants["normal, by papermill"] = papermill(folder, "normal", 1)
    measure(contestants["normal"])  # decodes the images and warms the caches up
    times = {name: [] for name in contestants}
    for _ in range(given.rounds):
        for name, command in contestants.items():
            times[name].append(measure(command))
            print(name, times[name][-1], flush=True)
    pairs = {
        "normal / PyTorch tutorial": ("normal", "PyTorch tutorial"),
        "deepspeed / DeepSpeed example": ("deepspeed", "DeepSpeed example"),
        "normal by papermill / PyTorch tutorial": ("normal, by papermill", "PyTorch tutorial"),
        "deepspeed by papermill / DeepSpeed example": (
            "deepspeed, by papermill",
            "DeepSpeed example",
        ),
    }
    ratios = {
        f"{pair}: {part}": ratio_table([a[part] for a in times[one]], [b[part] for b in times[two]])
        for pair, (one, two) in pairs.items()
        for part in ("whole", "startup", "training")
    }
    save("others", {"seconds": times, "ratios": ratios})


EXAMPLES_SETTINGS = {
    "optimizer": "adam",
    "beta1": 0.8,
    "weight_decay": 3e-7,
    "scheduler": "warmup",
    "gradient_clipping": 1.0,
}
"""The settings of the DeepSpeed example; those of the tutorial are a trial's defaults."""


def trial(folder: str, engine: str, processes: int) -> dict:
    settings = EXAMPLES_SETTINGS if engine == "deepspeed" else {}
    return settings | {
        "engine": engine,
        "processes": processes,
        "dataset": "imagefolder",
        "data_dir": folder,
        "epochs": 2,
        "train_images": TRAIN_IMAGES,
        "test_images": TEST_IMAGES,
        "overwrite": True,
        "output_dir": str(Path(tempfile.gettempdir()) / "dsstudy-benchmark"),
    }


def ours(folder: str, engine: str, processes: int) -> list[str]:
    """Return the command of one trial through the library, which prints the same moments."""
    code = (
        "import dsstudy\n"
        f"record = dsstudy.run_trial(dsstudy.Trial(**{trial(folder, engine, processes)!r}))\n"
        "first, last = record.epochs()\n"
        "print('TRAINING', first['started_at'])\n"
        "print('TRAINED', last['started_at'] + last['train_seconds'])\n"
    )
    return [sys.executable, "-c", code]


def papermill(folder: str, engine: str, processes: int) -> list[str]:
    notebook = HERE.parent / "notebooks" / "trial.ipynb"
    output = Path(tempfile.gettempdir()) / "dsstudy-benchmark.ipynb"
    command = [str(BIN / "papermill"), str(notebook), str(output)]
    for name, value in trial(folder, engine, processes).items():
        command += ["-p", name, str(value)]
    return command


def measure(command: list[str]) -> dict[str, float]:
    """Run a command; return its seconds: in all, until training starts, in the training loop."""
    environment = place_trial(Trial(engine="deepspeed", processes=2), Machine.here()).environment
    if "deepspeed" not in Path(command[0]).name:
        environment.pop("OMP_NUM_THREADS")
    environment["MPLBACKEND"] = "Agg"
    started = time.time()
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            command, env=environment, cwd=scratch, capture_output=True, text=True, check=False
        )
    whole = time.time() - started
    if done.returncode:
        sys.exit(f"{command[:3]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    moments = dict(re.findall(r"^(TRAINING|TRAINED) ([\d.]+)", done.stdout, re.MULTILINE))
    if not moments:  # papermill keeps the notebook's output to itself
        return {"whole": whole, "startup": float("nan"), "training": float("nan")}
    return {
        "whole": whole,
        "startup": float(moments["TRAINING"]) - started,
        "training": float(moments["TRAINED"]) - float(moments["TRAINING"]),
    }


if __name__ == "__main__":
    main()
