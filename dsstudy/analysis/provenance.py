"""Where records were made: machines, data, models."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.analysis.cells import drop_untimed, is_timed_alone
from dsstudy.analysis.load import load_results


def any_synthetic(folders: Iterable[Path]) -> bool:
    """Say whether any of some studies used synthetic images."""
    return any(is_synthetic(load_results(folder)) for folder in folders)


def is_synthetic(results: pd.DataFrame) -> bool:
    """Say whether any of the study's trials used synthetic images."""
    return bool((results["dataset"] == "synthetic").any())


def environments(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the environments of all records that have one."""
    if "environment" not in results:
        return []
    return list(results["environment"].dropna())


def timing_machines(results: pd.DataFrame) -> set[str]:
    """Return the machines that measured the times that count, each as text."""
    if "timing" in results:
        results = drop_untimed(
            results[is_timed_alone(results) & (results["status"] == "completed")]
        )
    environments = results.get("environment", pd.Series(None, results.index, dtype=object))
    machines = environments.map(lambda place: place["hardware"], na_action="ignore")
    if "timed_on" in results:  # the times may come from another machine than the training
        machines = results["timed_on"].where(results["timed_on"].notna(), machines)
    return set(machines.dropna().map(str))


def fewest_devices(results: pd.DataFrame) -> int:
    """Return the fewest devices of any record: GPUs, or one CPU a host; 1 without records."""
    places = [place for place in environments(results) if place["hardware"]]
    counts = [place.get("hosts", 1) * max(1, len(place["hardware"]["gpus"])) for place in places]
    return min(counts, default=1)


def optimizer_steps(results: pd.DataFrame) -> pd.Series:
    """Return how many optimizer steps each trial with a record makes in all."""
    known = results[results["environment"].notna()] if "environment" in results else results[:0]
    images = [place["dataset"]["train_images"] for place in environments(known)]
    return pd.Series(images, known.index) // known["batch_size"] * known["epochs"]


def stand_ins(results: pd.DataFrame) -> list[tuple[str, str]]:
    """Return pairs (architecture, model) in which the model is not the paper's."""
    rows = results.loc[results["model"] != results["architecture"], ["architecture", "model"]]
    return list(rows.drop_duplicates().itertuples(index=False, name=None))
