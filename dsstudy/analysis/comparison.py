"""The results of ``dsstudy compare``: times with their spread, and a prediction for more devices.

The prediction is that of `dsstudy.analysis.cost_model.model` with each engine's own terms. Two
batch sizes timed on one device give a line: its slope is the time of the arithmetic per image, its
intercept is the rest of the step. On n devices a step of B images takes ::

    seconds = rest + slope * B / n + 2 (n - 1) / n * gradient bytes / bandwidth
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsstudy.analysis.cost_model.model import FITTED_LINK, GRADIENT_BYTES, LINKS
from dsstudy.analysis.intervals import Interval, mean_interval, ratio_interval
from dsstudy.analysis.step_phases import load_profiles
from dsstudy.errors import InputError, naming_file
from dsstudy.records.reading import read_lines, read_object
from dsstudy.spec.engines import ENGINES, NORMAL

DEVICES = (1, 2, 4, 8)
"""The numbers of devices to predict for."""

KNOWN_LINKS = {"fitted to the paper's two cards": FITTED_LINK}
KNOWN_LINKS |= {f"the peak of {name}": speed for name, speed in LINKS.items()}
"""Bytes per second between two devices, in one direction, by what is known of them."""

DEFAULT_BANDWIDTH = FITTED_LINK
"""Of `KNOWN_LINKS`, unless the user gives another: what cards got, not what a link could give."""


@dataclass(frozen=True)
class Timed:
    """The timed steps of one engine on some devices, with one batch size.

    Attributes
    ----------
    engine : str
        The engine's name.
    processes, devices : int
        The number of ranks, and of devices: one GPU per rank, or one CPU for all.
    batch_size : int
        Images per step, over all ranks.
    steps : numpy.ndarray
        Seconds per step, shape (rounds,).
    steps_per_epoch : int
        With this batch size.
    memory : float
        The peak, in MiB, over all ranks.
    exclusive : bool
        Whether nothing else kept the machine busy.
    """

    engine: str
    processes: int
    devices: int
    batch_size: int
    steps: np.ndarray
    steps_per_epoch: int
    memory: float
    exclusive: bool

    @property
    def title(self) -> str:
        """The engine's name in a sentence, with its number of ranks if there are several."""
        ranks = f" on {self.processes} ranks" if self.processes > 1 else ""
        return ENGINES[self.engine].prose + ranks

    def epoch(self) -> Interval:
        """Return the seconds per epoch: the mean over the rounds, and its interval."""
        return mean_interval(self.steps * self.steps_per_epoch)


@dataclass(frozen=True)
class Comparison:
    """What ``dsstudy compare`` measured.

    Attributes
    ----------
    about : dict
        The content of ``comparison.json``.
    timed : tuple of Timed
        With the whole batch: normal training first, then by engine and number of ranks.
    small : dict of str to Timed
        With the small batch on one device, by engine.
    profiles : pandas.DataFrame
        From `dsstudy.analysis.step_phases.load_profiles`.
    environment : dict
        Where it was measured.
    """

    about: dict[str, Any]
    timed: tuple[Timed, ...]
    small: dict[str, Timed]
    profiles: pd.DataFrame
    environment: dict[str, Any]

    @property
    def normal(self) -> Timed:
        """Normal training on one device."""
        return self.timed[0]

    @property
    def candidates(self) -> list[Timed]:
        """Each engine with its fastest number of ranks, the simplest engine first."""
        ranks = [[one for one in self.timed if one.engine == e] for e in ENGINES]
        return [
            min(some, key=lambda one: step_ratio(one, self.normal).value) for some in ranks if some
        ]

    @property
    def on_cpu(self) -> bool:
        """Whether the device is a CPU."""
        return self.about["device"] == "cpu"


def load_comparison(folder: str | Path) -> Comparison:
    """Load the results of ``dsstudy compare`` from a folder.

    Raises
    ------
    InputError
        There is no comparison, or it is damaged.
    """
    folder = Path(folder)
    about = read_object(folder / "comparison.json")
    if about is None:
        raise InputError(f"{folder} holds no comparison: run 'dsstudy compare' first")
    with naming_file(folder / "times.jsonl"):
        rows = {row["name"]: row for row in read_lines(folder / "times.jsonl")}
        every = [_read_timed(one, rows[one["name"]], about["device"]) for one in about["timed"]]
        if len({len(one.steps) for one in every}) > 1:
            raise ValueError("its rows have different numbers of rounds")
        environment = rows[about["timed"][0]["name"]]["environment"]
    whole = [one for one in every if one.batch_size == every[0].batch_size]
    whole.sort(key=lambda one: (list(ENGINES).index(one.engine), one.processes))
    small = {one.engine: one for one in every if one.batch_size < every[0].batch_size}
    return Comparison(about, tuple(whole), small, load_profiles(folder), environment)


def _read_timed(one: dict[str, Any], row: dict[str, Any], device: str) -> Timed:
    return Timed(
        one["engine"],
        one["processes"],
        one["processes"] if device == "cuda" else 1,
        one["batch_size"],
        np.array(row["seconds_per_step"]),
        row["steps_per_epoch"],
        row["peak_memory_mb"],
        row["timing"] == "exclusive",
    )


def step_ratio(one: Timed, other: Timed) -> Interval:
    """Return the ratio of one engine's step to another's, paired by round."""
    return ratio_interval(one.steps / other.steps)


def efficiency(one: Timed, normal: Timed) -> float:
    """Return the speed over normal training's on one device, divided by the number of devices."""
    return step_ratio(normal, one).value / one.devices


# The prediction


def rest_and_arithmetic(found: Comparison, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rest of an engine's step, and its arithmetic per image, on one device.

    Returns
    -------
    tuple of numpy.ndarray
        Both in seconds, not negative, shape (rounds,).
    """
    small = found.small[engine]
    whole = next(one for one in found.timed if (one.engine, one.processes) == (engine, 1))
    slope = (whole.steps - small.steps) / (whole.batch_size - small.batch_size)
    slope = np.clip(slope, 0, whole.steps / whole.batch_size)  # so that neither part is negative
    return whole.steps - slope * whole.batch_size, slope


def transfer_seconds(found: Comparison, engine: str, devices: int, bandwidth: float) -> float:
    """Return the seconds that each device takes to send its gradients."""
    # An engine that casts the model also sends its gradients in the lower precision.
    precision = found.about["settings"]["precision"] if ENGINES[engine].casts_model else "fp32"
    size = GRADIENT_BYTES[precision] * found.about["parameters"]
    return ENGINES[engine].exchanges * 2 * (devices - 1) / devices * size / bandwidth


def link_name(bandwidth: float) -> str | None:
    """Return what is known of a bandwidth, in the words of `KNOWN_LINKS`."""
    known = (name for name, speed in KNOWN_LINKS.items() if math.isclose(speed, bandwidth))
    return next(known, None)


def predict_epochs(found: Comparison, bandwidth: float = DEFAULT_BANDWIDTH) -> pd.DataFrame:
    """Predict each engine's epoch on 1, 2, 4 and 8 devices like this one.

    Parameters
    ----------
    found
        The comparison.
    bandwidth
        Bytes per second between two devices, in one direction.

    Returns
    -------
    pandas.DataFrame
        One row per engine and number of devices that divides the batch: ``engine``, ``devices``;
        ``seconds`` per epoch with ``low`` and ``high`` (the spread of the timing only); ``speedup``
        over normal training on one device; ``measured``, the seconds measured on several devices,
        or NaN.
    """
    rows = []
    for engine in found.small:
        rest, slope = rest_and_arithmetic(found, engine)
        for n in DEVICES if ENGINES[engine].launcher else (1,):
            if found.normal.batch_size % n:
                continue
            share = found.normal.batch_size // n
            steps = rest + slope * share + transfer_seconds(found, engine, n, bandwidth)
            epoch = mean_interval(steps * found.normal.steps_per_epoch)
            speedup = float(np.exp(np.mean(np.log(found.normal.steps / steps))))
            limits = (epoch.value, epoch.low, epoch.high)
            rows.append((engine, n, *limits, speedup, _measured_epoch(found, engine, n)))
    columns = ["engine", "devices", "seconds", "low", "high", "speedup", "measured"]
    return pd.DataFrame(rows, columns=columns)


def _measured_epoch(found: Comparison, engine: str, devices: int) -> float:
    some = [one for one in found.timed if (one.engine, one.devices) == (engine, devices)]
    return some[0].epoch().value if some and devices > 1 else math.nan


def measured_break_even(
    found: Comparison, engine: str, bandwidth: float = DEFAULT_BANDWIDTH, devices: int = 2
) -> float:
    """Return the images per step from which an engine's devices outrun normal training on one.

    Infinite if they never do. It is `dsstudy.analysis.cost_model.model.break_even_batch` with
    measured terms.
    """
    rest, slope = rest_and_arithmetic(found, engine)
    normal_rest, normal_slope = rest_and_arithmetic(found, NORMAL)
    added = float(np.mean(rest - normal_rest))
    added += transfer_seconds(found, engine, devices, bandwidth)
    saved = float(np.mean(normal_slope - slope / devices))
    if added <= 0:
        return 0.0
    return added / saved if saved > 0 else math.inf
