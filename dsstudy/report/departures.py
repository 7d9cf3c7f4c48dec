"""Where a study departs from the paper, and how far what it finds reaches: in computed words."""

from collections.abc import Iterator

import pandas as pd

from dsstudy.paper import printed
from dsstudy.report import origin
from dsstudy.report.origin import span
from dsstudy.spec.trial import Trial

CHANCE = 1.5
"""An accuracy of up to so many times chance is near chance."""


def departures(results: pd.DataFrame) -> list[str]:
    """Say where a study departs from the paper's, a sentence each.

    Parameters
    ----------
    results
        As `dsstudy.load_results` returns them.
    """
    parts = (_images, _scale, _schedules, _near_chance, _precision, _device, _sizes, _stand_ins)
    return [sentence for part in parts for sentence in part(results)]


def _images(results: pd.DataFrame) -> Iterator[str]:
    whats = {
        "cifar10-jpeg": "CIFAR-10's images re-encoded as JPEG",
        "synthetic": "drawn by a program",
    }
    for name in sorted({p["dataset"]["name"] for p in origin.places(results)} - {"cifar10"}):
        what = whats.get(name, "other images")
        yield f"The images are {name}, {what}; the paper's are CIFAR-10's original files."


def _scale(results: pd.DataFrame) -> Iterator[str]:
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


def _schedules(results: pd.DataFrame) -> Iterator[str]:
    scheduled = results[results["scheduler"] != "none"]
    for name in ("warmup_steps", "cycle_steps"):
        theirs = Trial.model_fields[name].default
        if (scheduled[name] != theirs).any():
            yield (
                f"The schedules' {name} are {span(scheduled[name])}; the paper's are taken to be "
                f"{theirs:,}."
            )


def _near_chance(results: pd.DataFrame) -> Iterator[str]:
    finished = results[results["status"] == "completed"]
    classes = {place["dataset"]["classes"] for place in origin.places(finished)}
    if len(classes) == 1:
        chance = 100 / classes.pop()
        near = (finished["best_accuracy"] <= CHANCE * chance).sum()
        if near:
            yield (
                f"The best accuracy of {near} of {len(finished)} completed trials lies near "
                f"chance: at most {CHANCE * chance:.0f} %, where guessing gives {chance:.0f} %."
            )


def _precision(results: pd.DataFrame) -> Iterator[str]:
    used = set(results.loc[results["engine"] == "deepspeed", "precision"])
    if used and used != {"fp16"}:
        yield f"DeepSpeed trains in {', '.join(sorted(used))}; in the paper it did in fp16."


def _device(results: pd.DataFrame) -> Iterator[str]:
    places = origin.places(results)
    if any(place["device"] == "cpu" for place in places):
        yield (
            "Training runs on CPU cores, and DeepSpeed's processes exchange gradients through "
            "gloo; the paper had two GPUs for DeepSpeed and one for normal training. All processes "
            "share the same cores, so there is no second device that could pay: a ratio of times "
            "shows what DeepSpeed costs, not what a second GPU brings."
        )


def _sizes(results: pd.DataFrame) -> Iterator[str]:
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


def _stand_ins(results: pd.DataFrame) -> Iterator[str]:
    for row, model in origin.stand_ins(results):
        yield f"{model} stands in for the paper's {printed.NAMES.get(row, row)}."
