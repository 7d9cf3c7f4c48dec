"""Profiles of training steps, and engines compared phase by phase."""

import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from dsstudy.errors import InputError, naming_file, one_line
from dsstudy.paper.printed import network_label
from dsstudy.records.reading import read_lines
from dsstudy.records.schema import PHASES
from dsstudy.spec.engines import DDP, DEEPSPEED, ENGINES, NORMAL
from dsstudy.spec.trial import ARCHITECTURES

ENGINE_PAIRS = ((DDP, NORMAL), (DEEPSPEED, NORMAL), (DEEPSPEED, DDP))
"""Pairs of engines: the second is the base."""

PROFILE_KEY = ["label", "batch_size", "engine"]


def load_profiles(path: str | Path) -> pd.DataFrame:
    """Load the profiles in a folder's ``profiles.jsonl``, one row per trial.

    Returns
    -------
    pandas.DataFrame
        By ``label`` (the network), ``batch_size`` and ``engine``: the columns of the file;
        ``plain``, the median over rounds of the seconds per step without the profiler, with ``low``
        and ``high``, their extremes; of the middle profiled round, the mean seconds
        per step of each phase, over steps and ranks, and ``profiled``, their sum; and ``overhead``,
        ``profiled`` / ``plain`` − 1.

    Raises
    ------
    InputError
        There are no profiles, or the file is damaged.
    """
    file = Path(path) / "profiles.jsonl"
    rows = list(read_lines(file))
    if not rows:
        raise InputError(
            f"study={path} holds no profiles: measure some first, 'dsstudy profile "
            f"parameters/{Path(path).name}.yaml'"
        )
    with naming_file(file):  # its rounds may not match
        rows = [row | _profile_columns(row) for row in sorted(rows, key=_profile_order)]
    frame = pd.DataFrame(rows).set_index(PROFILE_KEY)
    for label, size, engine in frame.index[frame.index.duplicated()]:
        raise InputError(
            f"{one_line(file)} holds two profiles of {one_line(label)}, {size} images, engine "
            f"{engine}: profile a study whose trials differ in nothing else, or remove one line"
        )
    return frame


def _profile_columns(row: dict[str, Any]) -> dict[str, Any]:
    plain, profiled = row["plain_seconds"], row["profiled_seconds"]
    if len(plain) != len(profiled) or min(plain) <= 0:
        raise ValueError("its rounds do not match, or took no time")
    middle = profiled.index(statistics.median_low(profiled))
    phases = {
        phase: statistics.mean(rank["rounds"][middle][phase] for rank in row["ranks"])
        for phase in PHASES
    }
    whole, median = sum(phases.values()), statistics.median(plain)
    return phases | {
        "label": network_label(row["architecture"], row["model"]),
        "profiled": whole,
        "plain": median,
        "low": min(plain),
        "high": max(plain),
        "overhead": whole / median - 1,
    }


def _profile_order(row: dict[str, Any]) -> tuple[int, str, int, int]:
    known = row["architecture"] in ARCHITECTURES
    place = ARCHITECTURES.index(row["architecture"]) if known else len(ARCHITECTURES)
    return place, row["model"], row["batch_size"], list(ENGINES).index(row["engine"])


def is_shared(profiles: pd.DataFrame) -> bool:
    """Say whether other programs used the machine during any profile."""
    return bool((profiles["timing"] != "exclusive").any())


def compare_phases(profiles: pd.DataFrame, engine: str, base: str) -> pd.DataFrame:
    """Compare two engines phase by phase, wherever both were profiled.

    Returns
    -------
    pandas.DataFrame
        By ``label`` and ``batch_size``: ``plain_ratio`` and ``ratio`` of the plain and of the
        profiled steps; ``difference`` of the profiled steps and of each phase, in seconds;
        ``most``, the phase that contributes most to the difference.
    """
    known = profiles.index.get_level_values("engine")
    columns = [*PHASES, "profiled", "plain"]
    one, other = (
        profiles.loc[known == name, columns].droplevel("engine").astype(float)
        for name in (engine, base)
    )
    both = one.index[one.index.isin(other.index)]
    one, other = one.loc[both], other.loc[both]
    frame = (one - other)[list(PHASES)]
    frame["most"] = [
        max(PHASES, key=lambda phase: row[phase] if row.sum() >= 0 else -row[phase])
        for _, row in frame.iterrows()
    ]
    frame["difference"] = one["profiled"] - other["profiled"]
    ratio, plain_ratio = (one[step] / other[step] for step in ("profiled", "plain"))
    return frame.assign(ratio=ratio, plain_ratio=plain_ratio)
