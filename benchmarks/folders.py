"""Image folders: the memory of two ranks, an epoch, and the second start; before and now.

Usage: python benchmarks/folders.py OLD [--parts memory epoch start] [--rounds 5] [--folder FOLDER]
       [--images 20000] [--epoch-images 4000] [--files 50000]

OLD is a checkout of commit 3a50df6, in which every rank held all images and every start read every
file. It runs in the same Python environment, and takes turns with this code over the same folders
and the same cache. FOLDER needs 5 GB for a while (by default, the system's temporary folder). The
images are random JPEG files of 224 x 224 pixels, decoded beforehand, and for the starts of 32 x 32.
The network is coarse_net.py's, whose steps are so short that the images weigh most.

memory: the proportional set size of two DDP ranks without pages of files, in MiB: the largest sum
while they train one epoch, over all images and over a tenth of them.
epoch: the seconds of the second epoch of normal training, in one process.
start: the seconds of `load_data` before it decodes, once with an empty cache (first) and once with
what that start has kept (second). Before each start, the files' content is either in the page cache
or evicted from it, as if the files had not been read for a while.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from common import ratio_table, save
from PIL import Image

OURS = Path(__file__).resolve().parent.parent
CLASSES = 10
TEST_IMAGES = 100

TRAIN = """
import json, sys
import dsstudy
record = dsstudy.run_trial(dsstudy.Trial(**json.loads(sys.argv[1])))
print("RESULT", json.dumps([epoch["train_seconds"] for epoch in record.epochs()]))
"""

LOAD = """
import importlib, json, sys, time
import dsstudy
from PIL import Image

def noting_the_time(decode):
    def noted(*arguments):
        times.append(time.perf_counter())
        return decode(*arguments)
    return noted

trial = dsstudy.Trial(**json.loads(sys.argv[1]))
dsstudy.load_data  # imports torch
Image.init()  # imports Pillow's formats
before = "dsstudy.imagefolder" in sys.modules
module = sys.modules["dsstudy.imagefolder" if before else "dsstudy.images.image_folder"]
name = "_decode_into" if before else "fill_cache"
setattr(module, name, noting_the_time(getattr(module, name)))
times = [time.perf_counter()]
data = dsstudy.load_data(trial)
times.append(time.perf_counter())
print("RESULT", json.dumps([times[1] - times[0], data.fingerprint]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epoch-images", type=int, default=4_000)
    parser.add_argument("--files", type=int, default=50_000)
    given = parser.parse_args()
    results = {
        "numbers": {name: getattr(given, name) for name in ("images", "epoch_images", "files")}
    }
    for part in given.parts:
        with tempfile.TemporaryDirectory(dir=given.folder) as work:
            os.environ["DSSTUDY_CACHE"] = str(Path(work, "cache"))
            codes = {"before": given.old.resolve(), "now": OURS}
            results[part] = PARTS[part](Path(work), codes, given)
            print(json.dumps({part: results[part]}, indent=1), flush=True)
    save("folders", results)


def measure_memory(work: Path, codes: dict[str, Path], given: argparse.Namespace) -> dict:
    """Return the memory of two ranks, in MiB, over all images and over a tenth."""
    numbers = (given.images // 10, given.images)
    folders = {number: make_folder(work / f"images{number}", number, 224) for number in numbers}
    mib = {f"{code}, {number}": [] for code in codes for number in numbers}
    for folder in folders.values():
        run(codes["now"], LOAD, data_parameters(folder))  # decodes
    for _ in range(given.rounds):
        for code, place in codes.items():
            for number, folder in folders.items():
                memory = _largest_memory(work, place, folder)
                mib[f"{code}, {number}"].append(memory)
                print(code, number, round(memory), "MiB", flush=True)
    few, many = numbers
    return {"mib": mib} | {
        f"{code}: {many} images / {few}": ratio_table(mib[f"{code}, {many}"], mib[f"{code}, {few}"])
        for code in codes
    }


def _largest_memory(work: Path, code: Path, folder: Path) -> float:
    ranks = {"engine": "ddp", "processes": 2, "epochs": 1}
    samples: list[float] = []
    train(work, code, data_parameters(folder) | ranks, lambda p: samples.append(anonymous_mib(p)))
    return max(samples)


def measure_epoch(work: Path, codes: dict[str, Path], given: argparse.Namespace) -> dict:
    """Return the seconds of a second epoch, with images in memory (before) and in the cache."""
    folder = make_folder(work / "images", given.epoch_images, 224)
    seconds = {code: [] for code in codes}
    run(codes["now"], LOAD, data_parameters(folder))  # decodes
    for _ in range(given.rounds):
        for code, place in codes.items():
            seconds[code].append(train(work, place, data_parameters(folder) | {"epochs": 2})[1])
            print(code, seconds[code][-1], "s", flush=True)
    return {"seconds": seconds, "now / before": ratio_table(seconds["now"], seconds["before"])}


def measure_start(work: Path, codes: dict[str, Path], given: argparse.Namespace) -> dict:
    """Return the seconds of first and second starts before they decode."""
    folder = make_folder(work / "files", given.files, 32)
    parameters = data_parameters(folder) | {"image_size": 32}
    prints, results = set(), {}
    for where, prepare in (("page cache", warm_up), ("evicted", evict)):
        seconds = {"before, first": [], "now, first": [], "now, second": []}
        for _ in range(given.rounds):
            for name in seconds:
                code, start = name.split(", ")
                if start == "first":
                    shutil.rmtree(work / "cache", ignore_errors=True)
                prepare(folder)
                took, fingerprint = run(codes[code], LOAD, parameters)
                seconds[name].append(took)
                prints.add(fingerprint)
                print(where, name, took, "s", flush=True)
        second = seconds["now, second"]
        results[where] = {"seconds": seconds} | {
            f"now, second / {first}": ratio_table(second, seconds[first])
            for first in ("now, first", "before, first")
        }
    assert len(prints) == 1, prints
    return results


PARTS = {"memory": measure_memory, "epoch": measure_epoch, "start": measure_start}


def data_parameters(folder: Path) -> dict:
    return {"dataset": "imagefolder", "data_dir": str(folder), "image_size": 224}


def train(
    work: Path, code: Path, parameters: dict, watch: Callable[[psutil.Process], None] | None = None
) -> list[float]:
    """Train a trial with one of the two codes; return the seconds of its epochs."""
    shutil.rmtree(work / "trial", ignore_errors=True)
    own = {
        "output_dir": str(work / "trial"),
        "keep_checkpoint": False,
        "model": "coarse_net:coarse_net",
    }
    return run(code, TRAIN, parameters | own, watch)


def run(
    code: Path,
    program: str,
    parameters: dict,
    watch: Callable[[psutil.Process], None] | None = None,
) -> list:
    """Run a program with one of the two codes; return its result."""
    environment = os.environ | {"PYTHONPATH": f"{code}:{OURS / 'benchmarks'}"}
    command = [sys.executable, "-c", program, json.dumps(parameters)]
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=code
        )
        process = psutil.Process(child.pid)
        while child.poll() is None:
            time.sleep(0.2)
            if watch:
                watch(process)
        output.seek(0)
        text = output.read()
    if child.returncode:
        sys.exit(text)
    return json.loads(text.rsplit("RESULT ", 1)[1].splitlines()[0])


def anonymous_mib(parent: psutil.Process) -> float:
    """Return the proportional set size of a trial's ranks without pages of files, in MiB."""
    return sum(map(_anonymous_kib, _ranks(parent))) / 1024


def _ranks(parent: psutil.Process) -> Iterator[psutil.Process]:
    """Yield the processes that a launcher has started as ranks."""
    for process in parent.children(recursive=True):
        try:
            if "RANK" in process.environ():
                yield process
        except psutil.Error:  # it has just ended
            continue


def _anonymous_kib(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # it has just ended
        return 0
    kib = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    return kib.get("Pss", 0) - kib.get("Pss_File", 0)


def make_folder(root: Path, number: int, side: int) -> Path:
    """Make an image folder of random JPEG files, each one different."""
    for split, count in (("train", number), ("test", TEST_IMAGES)):
        for label in range(CLASSES):
            (root / split / f"class{label}").mkdir(parents=True)
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(_draw, root / split, side), range(count)))
    return root


def _draw(split: Path, side: int, index: int) -> None:
    coarse = np.random.default_rng([index, side]).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    image.save(split / f"class{index % CLASSES}" / f"{index:06d}.jpg")


def warm_up(folder: Path) -> None:
    for file in folder.glob("*/*/*"):
        file.read_bytes()


def evict(folder: Path) -> None:
    """Drop the files' content, but not their entries, from the page cache."""
    os.sync()  # pages that are not yet on disk would stay
    for file in folder.glob("*/*/*"):
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
