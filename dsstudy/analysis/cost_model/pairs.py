"""Pairs for the cost model: a step of a launched engine, and normal training's on one device.

Both train the same network in the same setting with the same global batch size.
"""

import statistics
from pathlib import Path

import numpy as np
import pandas as pd

from dsstudy.analysis.cells import counted_values, drop_untimed, load_trials
from dsstudy.analysis.claims.evidence import UndecidedError
from dsstudy.analysis.cost_model.model import (
    FEWEST,
    GRADIENT_BYTES,
    TERMS,
    fewest_left,
    fit_groups,
)
from dsstudy.analysis.provenance import environments, timing_machines
from dsstudy.errors import InputError
from dsstudy.paper import printed
from dsstudy.paper.printed import CELL
from dsstudy.records.reading import read_lines
from dsstudy.spec.engines import NORMAL
from dsstudy.spec.model_counts import COUNTED_CLASSES, Counts, model_counts
from dsstudy.spec.trial import ARCHITECTURES, Trial

SETTING = printed.SETTINGS[0]
"""The setting of Table 2 that is shown in full."""


def pairs_of_setting(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of `SETTING`, by architecture."""
    return next(some for _, setting, some in fit_groups(pairs) if setting == SETTING)


def paper_pairs() -> pd.DataFrame:
    """Return the pairs of the paper's Table 2, in the form of `study_pairs`."""
    table = printed.printed_values("seconds_per_epoch")
    steps = table["value"] / printed.STEPS_PER_EPOCH
    return _beside_normal(
        table.assign(
            seconds=steps,
            model=table["architecture"],
            image_size=[Trial(model=name).image_size for name in table["architecture"]],
            images=printed.BATCH_SIZE,
            processes=table["engine"].map(printed.PROCESSES),
            precision=table["engine"].map(printed.PRECISION),
        )
    )


def study_pairs(path: str | Path) -> pd.DataFrame:
    """Return the pairs of a study's steps that were measured alone.

    Parameters
    ----------
    path
        As for `dsstudy.load_results`. A profiled study gives its plain steps, at every batch size;
        any other gives the times of its trials in the paper's cells.

    Returns
    -------
    pandas.DataFrame
        One row per launched engine, setting, architecture and batch size: ``engine``, ``setting``,
        ``architecture``; ``seconds`` and ``normal_seconds`` of a step; ``flops`` and ``images`` of
        its global batch; ``parameters``; ``sent``, the bytes that each rank sends per parameter.

    Raises
    ------
    UndecidedError
        There are too few pairs for a fit (`FEWEST`), or they were not measured in the same way.
    """
    steps, source = _profiled_steps(Path(path)), "profile"
    if steps is None:
        steps, source = _timed_steps(Path(path)), "trial in a cell of the paper's tables"
    if steps.empty:
        raise UndecidedError(f"No {source} was measured alone.")
    if len(timing_machines(steps)) > 1:
        raise UndecidedError("The times come from different machines.")
    classes = [place["dataset"]["classes"] for place in environments(steps)]
    steps = steps[[count == COUNTED_CLASSES for count in classes]]
    pairs = _beside_normal(steps.rename(columns={"batch_size": "images"}))
    fits = [some for _, some in pairs.groupby(["engine", "setting"])]
    most = max(fits, key=fewest_left, default=pairs)
    if fewest_left(most) < FEWEST:
        raise UndecidedError(
            "Both engines' times, measured alone, and the network's counts are known for "
            f"{most['architecture'].nunique()} of the architectures in a setting; when one is left "
            f"out, {fewest_left(most)} steps remain, and to fit {len(TERMS)} terms takes "
            f"{FEWEST}."
        )
    return pairs


def _profiled_steps(path: Path) -> pd.DataFrame | None:
    """Return the plain steps of a study's profiles, or None if it has no profiles."""
    rows = list(read_lines(path / "profiles.jsonl"))
    if not rows:
        return None
    alone = [row for row in rows if row["timing"] == "exclusive"]
    columns = ["architecture", "model", "image_size", "engine", "setting", "processes"]
    frame = pd.DataFrame(alone, columns=[*columns, "precision", "batch_size", "environment"])
    return frame.assign(seconds=[statistics.median(row["plain_seconds"]) for row in alone])


def _timed_steps(path: Path) -> pd.DataFrame:
    """Return the steps of a study's trials in the paper's cells, from the times of epochs."""
    trials = load_trials(path)
    try:
        seconds = counted_values(trials, "seconds_per_epoch").groupby(CELL).median()
    except InputError:
        raise UndecidedError(
            "It has several trials in a cell of the paper's tables, which differ in more than "
            "their seed, so there is no single time for that cell."
        ) from None
    facts = drop_untimed(trials[trials["status"] == "completed"]).drop_duplicates(CELL)
    facts = facts.set_index(CELL).loc[seconds.index]
    images = [place["dataset"]["train_images"] for place in environments(facts)]
    facts["seconds"] = seconds / (np.array(images) // facts["batch_size"])
    return facts.reset_index()


def _beside_normal(steps: pd.DataFrame) -> pd.DataFrame:
    """Join each engine's steps with normal training's and with the models' counts."""
    key = ["architecture", "setting", "images"]
    normal = steps[steps["engine"] == NORMAL].set_index(key)["seconds"].rename("normal_seconds")
    frame = steps[steps["engine"] != NORMAL].join(normal, key, how="inner")
    models = zip(frame["model"], frame["image_size"], strict=True)
    unknown = [np.nan] * len(Counts._fields)
    found = [model_counts().get(model, unknown) for model in models]
    counts = pd.DataFrame(found, frame.index, Counts._fields, dtype=float)
    ring = 2 * (frame["processes"] - 1) / frame["processes"]
    frame = frame.assign(
        parameters=counts["parameters"],
        flops=counts["flops"] * frame["images"],
        sent=frame["precision"].map(GRADIENT_BYTES) * ring,
        order=frame["architecture"].map({name: n for n, name in enumerate(ARCHITECTURES)}),
    )
    columns = ["engine", "setting", "architecture", "seconds", "normal_seconds"]
    columns += ["flops", "parameters", "images", "sent"]
    ordered = frame.dropna(subset="flops").sort_values(["engine", "order"], kind="stable")
    return ordered[columns].reset_index(drop=True)
