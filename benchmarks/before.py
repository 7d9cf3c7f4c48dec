"""What became quicker since an earlier commit: the same uses, in turns with that commit's build.

Usage: python benchmarks/before.py COMMIT PART ... [--rounds 5]

Parts: ``start`` (seconds to the first step of launched trials, as a study starts them),
``study`` (a study of DeepSpeed's demo trials), ``compare`` (dsstudy compare), ``explorer`` (from
Run to the first point of DeepSpeed's curve), ``demo`` (make demo without the set-up; one round
takes a quarter of an hour). The earlier build is another checkout, which runs with this build's
libraries. The machine should be idle.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import RESULTS, ratio_table, save

from dsstudy.launching.machine import Machine, describe_environment

ROOT = Path(__file__).parents[1]
FEW = {"epochs": 1, "train_images": 160, "test_images": 10}

START = """
import contextlib, json, sys, tempfile
from dsstudy import Trial, run_trial
try:
    from dsstudy.launching.warm_python import warm_python
except ImportError:
    warm_python = contextlib.nullcontext
found = {}
with warm_python(), tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
    for engine in ("ddp", "deepspeed"):
        few = json.loads(sys.argv[1])
        trial = Trial(engine=engine, processes=2, output_dir=f"{folder}/{engine}", **few)
        found[engine] = run_trial(trial).result()["startup_seconds"]
print(json.dumps(found))
"""

EXPLORER = """
import asyncio, json, sys, time
try:
    from dsstudy.explorer.page import Explorer
    from dsstudy.records.record import Record
except ImportError:
    from dsstudy.explore import Explorer
    from dsstudy.record import Record

async def main():
    explorer = Explorer()
    time.sleep(20)  # a reader looks at the page
    for question, answers in json.loads(sys.argv[1]).items():
        explorer.questions[question].chosen = answers
    began = time.perf_counter()
    explorer.start()
    folder = explorer.trials[0].folder
    while not Record(folder).epochs():
        await asyncio.sleep(0.02)
    print(time.perf_counter() - began)
    explorer.end()
    while explorer.queue.busy:
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


class Build:
    """One build of the project: a checkout, and its library where it is not this one."""

    def __init__(self, folder: Path, library: Path | None = None):
        self.folder, self.library = folder, library

    def run(self, *command: str, runs: str = "") -> tuple[float, str]:
        """Run a Python command with this build; return its seconds and its output."""
        with tempfile.TemporaryDirectory() as scratch:
            environment = os.environ | {"DSSTUDY_RUNS": runs or f"{scratch}/runs"}
            environment["PYTHONPATH"] = str(self.library or self.folder)
            began = time.perf_counter()
            output = subprocess.run(
                [sys.executable, *command],
                cwd=self.folder,
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            return time.perf_counter() - began, output

    def dsstudy(self, *arguments: str) -> float:
        """Run a command of `dsstudy`; return its seconds."""
        code = "import sys; from dsstudy.cli import main; sys.argv[0] = 'dsstudy'; main()"
        return self.run("-c", code, *arguments)[0]


def start(build: Build) -> dict[str, float]:
    """Measure launched trials of two ranks, from the launcher's start to the first step."""
    return json.loads(build.run("-c", START, json.dumps(FEW))[1])


def study(build: Build) -> dict[str, float]:
    """Measure the seven demo trials with DeepSpeed and SGD: the whole command, with loading."""
    command = ["run", "parameters/demo.yaml", "--only", "engine=deepspeed,setting=SGD"]
    return {"seven demo trials of deepspeed": build.dsstudy(*command)}


def compare(build: Build) -> dict[str, float]:
    """Measure `dsstudy compare` with its defaults, for two models."""
    small = ["--model", "timm/mobilenetv3_small_050", "--image-size", "32"]
    return {
        "compare lenet": build.dsstudy("compare", "--model", "lenet"),
        "compare mobilenetv3_small_050": build.dsstudy("compare", *small),
    }


def demo(build: Build) -> dict[str, float]:
    """Measure ``make demo`` without the set-up: the trials, and the book over them."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import sys; from dsstudy.cli import main\n"
            "for words in (['run', 'parameters/demo.yaml'], ['book', sys.argv[1], sys.argv[2]]):\n"
            "    main(words, standalone_mode=False)\n"
        )
        runs = f"{folder}/runs"
        return {"demo": build.run("-c", code, f"{runs}/demo", f"{folder}/book", runs=runs)[0]}


def explorer(build: Build) -> dict[str, float]:
    """Measure the explorer, from Run to the first recorded point of DeepSpeed's curve."""
    said = build.run("-c", EXPLORER, json.dumps({"engine": ["deepspeed, 2 processes"]}))[1]
    return {"explorer": float(said.split()[-1])}


PARTS: dict[str, Callable[[Build], dict[str, float]]] = {
    "start": start,
    "study": study,
    "compare": compare,
    "explorer": explorer,
    "demo": demo,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, new = earlier_build(given.commit, Path(folder)), Build(ROOT)
        for part in given.parts:
            seconds: dict[str, dict[str, list[float]]] = {"before": {}, "now": {}}
            for _ in range(given.rounds):
                for when, build in (("before", old), ("now", new)):
                    for name, value in PARTS[part](build).items():
                        seconds[when].setdefault(name, []).append(value)
            keep(part, given.commit, seconds)


def earlier_build(commit: str, folder: Path) -> Build:
    """Check out a commit and install its library, without the libraries that it needs."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
    source, library = folder / "source", folder / "library"
    source.mkdir()
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, *install, "--target", library, source], check=True)
    return Build(source, library)


def keep(part: str, commit: str, seconds: dict[str, dict[str, list[float]]]) -> None:
    """Add a part to the results, with the ratios round by round."""
    file = RESULTS / "before.json"
    others = json.loads(file.read_text())["parts"] if file.exists() else {}
    ratios = {
        name: ratio_table(values, seconds["before"][name])
        for name, values in seconds["now"].items()
    }
    now = describe_environment(Machine.here())["commit"]  # parts may be measured at others
    entry = {"commit": commit, "commit now": now, "seconds": seconds, "now / before": ratios}
    save("before", {"parts": others | {part: entry}})


if __name__ == "__main__":
    main()
