"""Where a study departs from the paper, and how far what it finds reaches: in computed words."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dsstudy.analysis.claims.evidence import NEAR_CHANCE
from dsstudy.analysis.load import load_results
from dsstudy.analysis.provenance import environments, stand_ins
from dsstudy.paper import printed
from dsstudy.report.wording import span
from dsstudy.spec.engines import DEEPSPEED
from dsstudy.spec.trial import Trial


def list_departures(results: pd.DataFrame) -> list[str]:
    """Say where a study departs from the paper's, a sentence each.

    Parameters
    ----------
    results
        As `dsstudy.load_results` returns them.
    """
    parts = (
        _image_departures,
        _scale_departures,
        _schedule_departures,
        _chance_departures,
        _precision_departures,
        _device_departures,
        _size_departures,
        _stand_in_departures,
    )
    return [sentence for part in parts for sentence in part(results)]


def _image_departures(results: pd.DataFrame) -> Iterator[str]:
    whats = {
        "cifar10-jpeg": "CIFAR-10's images re-encoded as JPEG",
        "synthetic": "drawn by a program",
    }
    for name in sorted({p["dataset"]["name"] for p in environments(results)} - {"cifar10"}):
        what = whats.get(name, "other images")
        yield f"The images are {name}, {what}; the paper's are CIFAR-10's original files."


def _scale_departures(results: pd.DataFrame) -> Iterator[str]:
    if "environment" not in results:
        return
    known = results[results["environment"].notna()]
    images, tested = (
        known["environment"].map(lambda place, which=which: place["dataset"][which])
        for which in ("train_images", "test_images")
    )
    if (images < printed.TRAIN_IMAGES).any() or (known["epochs"] < printed.EPOCHS).any():
        steps = images // known["batch_size"] * known["epochs"]
        theirs = printed.TRAIN_IMAGES // printed.BATCH_SIZE * printed.EPOCHS
        yield (
            f"A trial sees {span(images)} training images for {span(known['epochs'])} epochs, "
            f"{span(steps)} steps; the paper's saw {printed.TRAIN_IMAGES:,} for {printed.EPOCHS}, "
            f"{theirs:,} steps. So these numbers show how training begins; nothing is claimed "
            f"about {printed.EPOCHS} epochs of {printed.TRAIN_IMAGES:,} images."
        )
    if (tested < printed.TEST_IMAGES).any():
        yield f"Accuracies are measured on {span(tested)} of {printed.TEST_IMAGES:,} test images."


def _schedule_departures(results: pd.DataFrame) -> Iterator[str]:
    scheduled = results[results["scheduler"] != "none"]
    for name in ("warmup_steps", "cycle_steps"):
        theirs = Trial.model_fields[name].default
        if (scheduled[name] != theirs).any():
            yield (
                f"The schedules' {name} are {span(scheduled[name])}; the paper's are taken to be "
                f"{theirs:,}."
            )


def _chance_departures(results: pd.DataFrame) -> Iterator[str]:
    finished = results[results["status"] == "completed"]
    classes = {place["dataset"]["classes"] for place in environments(finished)}
    if len(classes) == 1:
        chance = 100 / classes.pop()
        near = (finished["best_accuracy"] <= NEAR_CHANCE * chance).sum()
        if near:
            yield (
                f"The best accuracy of {near} of {len(finished)} completed trials lies near "
                f"chance: at most {NEAR_CHANCE * chance:.0f} %, where guessing gives {chance:.0f} %."
            )


def _precision_departures(results: pd.DataFrame) -> Iterator[str]:
    used = set(results.loc[results["engine"] == DEEPSPEED, "precision"])
    if used and used != {"fp16"}:
        yield f"DeepSpeed trains in {', '.join(sorted(used))}; in the paper it did in fp16."


def _device_departures(results: pd.DataFrame) -> Iterator[str]:
    places = environments(results)
    if any(place["device"] == "cpu" for place in places):
        yield (
            "Training runs on CPU cores, and DeepSpeed's processes exchange gradients through "
            "gloo; the paper had two GPUs for DeepSpeed and one for normal training. All processes "
            "share the same cores, so there is no second device that could pay: a ratio of times "
            "shows what DeepSpeed costs, not what a second GPU brings."
        )


def _size_departures(results: pd.DataFrame) -> Iterator[str]:
    rows = results[["architecture", "image_size"]].drop_duplicates()
    smaller = [
        f"{printed.NAMES[row.architecture]} {row.image_size}"
        for row in rows.itertuples()
        if row.architecture in printed.CAPACITY
        and row.image_size < Trial(model=row.architecture).image_size
    ]
    if smaller:
        yield (
            f"Images are smaller than the networks' usual 224 pixels a side: {', '.join(smaller)}."
        )


def _stand_in_departures(results: pd.DataFrame) -> Iterator[str]:
    for row, model in stand_ins(results):
        yield f"{model} stands in for the paper's {printed.NAMES.get(row, row)}."


def departures_text(path: str | Path) -> str:
    """Say in a paragraph where a study departs from the paper's, and how far it reaches."""
    found = list_departures(load_results(path))
    return "**Where this study departs from the paper.** " + (" ".join(found) or "Nowhere.")
