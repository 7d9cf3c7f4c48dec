"""Search for models that break an engine: one of each family of timm's and torchvision's.

    .venv/bin/python tests/searches/models.py [FAMILY ...]

A family is what one module of timm or of torchvision defines. Its smallest model, at the smallest
of `SIDES` or its own side that the library lets in, trains one step under each engine, through
`run_trial`. A failure is anything but a trained model or one sentence that refuses it before it is
trained; and losses of several ranks that differ from normal training's though the network treats
each image by itself. Every trial's outcome is a line of ``results/models.jsonl``: trials that have
one are not run again, so the search resumes, and a family is tried again once its lines are
removed.
"""

import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torchvision import models

from dsstudy.errors import InputError, last_line, reason_line
from dsstudy.launching.launcher import TrialError
from dsstudy.launching.run import run_trial
from dsstudy.launching.warm_python import warm_python
from dsstudy.paths import project_root
from dsstudy.spec.engines import ENGINES, LAUNCHED, NORMAL
from dsstudy.spec.trial import Trial
from dsstudy.training.model_check import check_model
from dsstudy.training.models import build_model, parameter_count, shapes_device

AT_ONCE = 2
CLASSES = 10
EXACT = 1e-4
LARGEST = 200_000_000
LIMIT = 400
SIDES = (32, 56, 64, 112)
RESULTS = Path(__file__).parent / "results"
LINES = RESULTS / "models.jsonl"
ONE_STEP = {"batch_size": 4, "train_images": 4, "test_images": CLASSES, "epochs": 1,
            "learning_rate": 0.01, "keep_checkpoint": False}  # fmt: skip
FORKED = multiprocessing.get_context("forkserver")  # a child has torch and timm loaded


def families() -> dict[str, list[str]]:
    """Return the models of each family, by the module that defines them."""
    found = {f"timm.{one}": timm.list_models(module=one) for one in timm.list_modules()}
    found = {family: [f"timm/{name}" for name in names] for family, names in found.items()}
    for name in models.list_models(module=models):
        family = models.get_model_builder(name).__module__.replace(".models", "")
        found.setdefault(family, []).append(f"torchvision/{name}")
    return found


def own_side(model: str) -> int:
    """Return the side of the images for which a model was made."""
    library, _, name = model.partition("/")
    if library == "timm" and (config := timm.get_pretrained_cfg(name)):
        return config.input_size[-1]
    return 299 if name == "inception_v3" else 224


def smallest(names: list[str]) -> dict[str, Any]:
    """Return a family's smallest model, its images' side, and whether its batches can be split.

    If no model of the family takes images, return how the last one was refused.
    """
    sizes: dict[str, int] = {}
    refused: dict[str, Any] = {}
    for name in names:
        trial = Trial(model=name, image_size=own_side(name))
        try:
            with shapes_device(trial):
                sizes[name] = parameter_count(build_model(trial, CLASSES))
        except InputError as error:
            refused = {"model": name, "outcome": "refused", "why": str(error)}
    for name in sorted(sizes, key=sizes.__getitem__):
        if sizes[name] > LARGEST:
            why = f"{sizes[name] // 10**6} million parameters, too many for a small machine"
            return refused or {"model": name, "outcome": "left out", "why": why}
        for side in (*SIDES, own_side(name)):
            trial = Trial(model=name, image_size=side, **ONE_STEP)
            try:
                check_model(trial, CLASSES)
            except InputError as error:
                refused = {"model": name, "outcome": "refused", "why": str(error)}
                continue
            return {"model": name, "image_size": side, "splits": splits(trial)}
    return refused


def splits(trial: Trial) -> bool:
    """Whether the gradient of a batch is the mean of its halves', as data parallelism presumes.

    It is not with batch normalisation, nor with dropout or other random parts.
    """
    model = build_model(trial, CLASSES)
    side, size = trial.image_size, trial.batch_size
    images, labels = torch.randn(size, 3, side, side), torch.arange(size)

    def gradients(chunks: int) -> list[torch.Tensor]:
        model.zero_grad()
        for some, their in zip(images.chunk(chunks), labels.chunk(chunks), strict=True):
            (F.cross_entropy(model(some), their) / chunks).backward()
        return [one.grad.clone() for one in model.parameters() if one.grad is not None]

    try:
        pairs = list(zip(gradients(1), gradients(2), strict=True))
    except Exception:  # its trial will say why
        return False
    return all(torch.allclose(whole, parts, rtol=1e-2, atol=1e-5) for whole, parts in pairs)


def train(trial: Trial) -> dict[str, Any]:
    """Train a trial, and return what came of it."""
    try:
        (epoch,) = run_trial(trial).epochs()
    except InputError as error:
        return {"outcome": "refused", "why": str(error)}
    except TrialError as error:
        return {"outcome": "FAILED", "why": last_line(str(error))}
    except BaseException as error:
        return {"outcome": "FAILED", "why": reason_line(error)}
    return {"outcome": "trained", "losses": [epoch["train_loss"], epoch["test_loss"]]}


def apart(function: Callable[..., dict], *arguments: Any) -> dict[str, Any]:
    """Call a function in a process of its own, which may crash or hang."""
    receiver, sender = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=_send, args=(sender, function, *arguments))
    process.start()
    sender.close()
    try:
        if receiver.poll(LIMIT):
            return receiver.recv()
        why = f"no end after {LIMIT} s"
    except EOFError:
        process.join()
        why = f"the process ended with exit code {process.exitcode}"
    finally:
        process.kill()
    return {"outcome": "FAILED", "why": why}


def _send(sender: Any, function: Callable[..., dict], *arguments: Any) -> None:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        result = function(*arguments)  # it shows a progress bar
    sender.send(result)


def search(family: str, engine: str, names: list[str], lines: list[dict], commit: str) -> None:
    """Train a family's model under an engine, and write a line on what came of it."""
    known = [line for line in lines if line["family"] == family]
    if any(line["engine"] == engine for line in known):
        return
    chosen = known[0]["chosen"] if known else apart(smallest, names)
    result = chosen
    if "splits" in chosen:
        with tempfile.TemporaryDirectory() as folder:
            ranks = 2 if ENGINES[engine].launcher else 1
            where = {"engine": engine, "processes": ranks, "output_dir": f"{folder}/trial"}
            what = {name: chosen[name] for name in ("model", "image_size")}
            result = apart(train, Trial(**ONE_STEP, **what, **where))
    line = {"family": family, "engine": engine, "commit": commit} | result
    line["chosen"] = chosen
    lines.append(line)
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def judge(line: dict[str, Any], others: dict[str, dict[str, Any]]) -> str:
    """Return what a trial came to, compared with the same model's under the engines before it."""
    if line["outcome"] != "trained":
        return line["outcome"]
    if line["engine"] == NORMAL or close(line, others[NORMAL]):
        return "trained" if line["engine"] == NORMAL else "losses equal to normal training's"
    # Engines with as many ranks split batches in the same way and draw the same numbers.
    alike = [other for name, other in others.items() if name not in (NORMAL, line["engine"])]
    equal = all(close(line, other) for other in alike if other["outcome"] == "trained")
    if equal and not line["chosen"]["splits"]:
        return "losses differ by batch normalisation or random parts"
    return "FAILED"


def close(line: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two trials of a model have the same losses; None is one that is not a number."""
    pairs = zip(line["losses"], other.get("losses", []), strict=False)
    same = [one == two or None not in (one, two) and math.isclose(one, two, rel_tol=EXACT)
            for one, two in pairs]  # fmt: skip
    return bool(same) and all(same)


def library_commit() -> str:
    """Return the commit that last changed the library; changes without a commit are refused."""
    subprocess.run(["git", "diff", "--exit-code", "--stat", "HEAD", "--", "dsstudy"],
                   cwd=project_root(), check=True)  # fmt: skip
    return subprocess.run(["git", "log", "-1", "--format=%h", "--", "dsstudy"], cwd=project_root(),
                          check=True, capture_output=True, text=True).stdout.strip()  # fmt: skip


def summary(lines: list[dict[str, Any]], all_families: int) -> dict[str, Any]:
    """Return the record of a search, which may be interrupted."""
    trials: dict[str, dict[str, dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda one: one["family"]):
        trials.setdefault(line["family"], {})[line["engine"]] = line
    counts: dict[str, Counter[str]] = {engine: Counter() for engine in ENGINES}
    unusable = {"refused": defaultdict(list), "left out": defaultdict(list)}
    failed: dict[str, Any] = {}
    for line in (one for engines in trials.values() for one in engines.values()):
        what, model = judge(line, trials[line["family"]]), line["chosen"].get("model")
        counts[line["engine"]][what] += 1
        name = f"{model or line['family']}, {line['engine']}"
        if what in unusable:
            unusable[what][re.sub(r"\b\d+\b", "N", line["why"]).replace(model, "MODEL")].append(
                name
            )
        if what == "FAILED":
            failed[name] = line.get("why") or {engine: other.get("losses") for engine, other
                                               in trials[line["family"]].items()}  # fmt: skip
    return {
        "date": date.today().isoformat(),
        **{name: version(name) for name in ("torch", "torchvision", "timm", "deepspeed")},
        "commits": sorted({line["commit"] for line in lines}),
        "tried": len(lines),
        "left": len(ENGINES) * all_families - len(lines),
        "families": len(trials),
        "by_engine": counts,
        **unusable,
        "failed": failed,
    }


def main() -> None:
    """Search the given families, or all; continue an interrupted search."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # more ranks than cores
    commit = library_commit()
    LINES.touch()
    lines = [json.loads(line) for line in LINES.read_text().splitlines()]
    found = families()
    chosen = sys.argv[1:] or list(found)
    FORKED.set_forkserver_preload(["__main__", "torch._dynamo"])
    with warm_python(), ThreadPoolExecutor(AT_ONCE) as pool:
        for engines in ((NORMAL,), LAUNCHED):  # the quick ones first
            trials = [(family, engine) for family in chosen for engine in engines]
            list(pool.map(lambda one: search(*one, found[one[0]], lines, commit), trials))
    record = summary(lines, len(found))
    (RESULTS / "models.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{record['tried']} tried, {len(record['failed'])} failed: {RESULTS / 'models.json'}")
    sys.exit(bool(record["failed"]))


if __name__ == "__main__":
    main()
