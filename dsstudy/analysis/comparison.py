"""What a comparison measured: times with their spread, and a prediction for more devices.

The prediction is the cost model's (`dsstudy.analysis.cost_model.model`), with each engine's own rest and arithmetic:
two batch sizes, timed on one device, are a line whose slope is the arithmetic's time an image and
whose intercept is the rest. On n devices a step of B images takes ::

    seconds = rest + slope * B / n + 2 (n - 1) / n * gradient bytes / bandwidth
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsstudy.analysis.cost_model.model import GRADIENT_BYTES, LINKS
from dsstudy.analysis.intervals import Interval, mean_interval
from dsstudy.analysis.step_phases import load_profiles
from dsstudy.errors import InputError, naming_file
from dsstudy.paper import printed
from dsstudy.records.reading import read_lines, read_object
from dsstudy.spec.engines import ENGINES, NORMAL

DEVICES = (1, 2, 4, 8)
"""How many devices are predicted for."""

DEFAULT_BANDWIDTH = LINKS["PCIe 4.0 x16"]
"""Bytes a second between two devices, in one direction, where nothing else is said."""


@dataclass(frozen=True)
class Timed:
    """The steps of one engine on some devices, with one batch size.

    Attributes
    ----------
    engine : str
        Its name.
    processes, devices : int
        Ranks, and what they compute on: a GPU each, or one CPU together.
    batch_size : int
        Images a step, over all ranks.
    steps : numpy.ndarray
        Seconds a step, shape (rounds,).
    steps_per_epoch : int
        With this batch size.
    memory : float
        Peak, in MiB, over all ranks.
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
        """The engine's name, and how many ranks it has if there are several."""
        ranks = f" on {self.processes} ranks" if self.processes > 1 else ""
        return printed.in_prose(self.engine) + ranks

    def epoch(self) -> Interval:
        """Return the seconds of an epoch: the mean over the rounds, and its interval."""
        return mean_interval(self.steps * self.steps_per_epoch)


@dataclass(frozen=True)
class Comparison:
    """What ``dsstudy compare`` measured.

    Attributes
    ----------
    about : dict
        ``comparison.json``.
    timed : tuple of Timed
        With the whole batch: normal training first, then by engine and ranks.
    small : dict of str to Timed
        By engine, on one device with the small batch.
    profiles : pandas.DataFrame
        As `dsstudy.analysis.step_phases.load_profiles` returns them.
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
        """Each engine on those ranks on which it was fastest, the simplest engine first."""
        ranks = [[one for one in self.timed if one.engine == e] for e in ENGINES]
        return [
            min(some, key=lambda one: step_ratio(one, self.normal).value) for some in ranks if some
        ]

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU was the device."""
        return self.about["device"] == "cpu"


def load_comparison(folder: str | Path) -> Comparison:
    """Load what ``dsstudy compare`` left in a folder.

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
    """Return how many times as long one's step takes as another's, paired by round.

    The geometric mean and the interval of its logarithm: what is twice as long one way is half as
    long the other way, and no limit lies below zero.
    """
    log = mean_interval(np.log(one.steps / other.steps))
    return Interval(math.exp(log.value), _exp(log.low), _exp(log.high), log.n)


def _exp(number: float) -> float:
    """Return the exponential, infinite where it is too large; a few wild rounds may be so."""
    with np.errstate(over="ignore"):
        return float(np.exp(number))


def efficiency(one: Timed, normal: Timed) -> float:
    """Return the speed over normal training's on one device, shared out over the devices."""
    return step_ratio(normal, one).value / one.devices


# Prediction


def rest_and_arithmetic(found: Comparison, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """Return an engine's rest, and its arithmetic an image, on one device.

    Returns
    -------
    tuple of numpy.ndarray
        Both in seconds, none negative, shape (rounds,).
    """
    small = found.small[engine]
    whole = next(one for one in found.timed if (one.engine, one.processes) == (engine, 1))
    slope = (whole.steps - small.steps) / (whole.batch_size - small.batch_size)
    slope = np.clip(slope, 0, whole.steps / whole.batch_size)  # neither part below zero
    return whole.steps - slope * whole.batch_size, slope


def transfer_seconds(found: Comparison, engine: str, devices: int, bandwidth: float) -> float:
    """Return the seconds in which each of the devices sends its gradients."""
    # DDP's gradients are those of weights in full precision; DeepSpeed keeps the model in less.
    precision = found.about["settings"]["precision"] if ENGINES[engine].casts_model else "fp32"
    size = GRADIENT_BYTES[precision] * found.about["parameters"]
    return ENGINES[engine].exchanges * 2 * (devices - 1) / devices * size / bandwidth


def predict_epochs(found: Comparison, bandwidth: float = DEFAULT_BANDWIDTH) -> pd.DataFrame:
    """Predict each engine's epoch on 1, 2, 4 and 8 devices like the one at hand.

    Parameters
    ----------
    found
        The comparison.
    bandwidth
        Bytes a second between two devices, in one direction.

    Returns
    -------
    pandas.DataFrame
        A row an engine and number of devices that share the batch evenly: ``engine``, ``devices``;
        of an epoch ``seconds``, ``low``, ``high`` (the spread of the timing alone); ``speedup``
        over normal training on one device; ``measured``, the seconds where several devices were
        at hand, else NaN.
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
            rows.append(
                {
                    "engine": engine,
                    "devices": n,
                    "seconds": epoch.value,
                    "low": epoch.low,
                    "high": epoch.high,
                    "speedup": float(np.exp(np.mean(np.log(found.normal.steps / steps)))),
                    "measured": _measured_epoch(found, engine, n),
                }
            )
    return pd.DataFrame(rows)


def _measured_epoch(found: Comparison, engine: str, devices: int) -> float:
    return next(
        (
            one.epoch().value
            for one in found.timed
            if (one.engine, one.devices) == (engine, devices) and devices > 1
        ),
        math.nan,
    )


def measured_break_even(
    found: Comparison, engine: str, bandwidth: float = DEFAULT_BANDWIDTH, devices: int = 2
) -> float:
    """Return from how many images a step an engine's devices outrun normal training on one.

    Infinite where they never do. Source: `dsstudy.analysis.cost_model.model.break_even_batch`, of which this is the form for
    a rest and an arithmetic that were measured.
    """
    (rest, slope), (own, of_normal) = (
        rest_and_arithmetic(found, engine),
        rest_and_arithmetic(found, NORMAL),
    )
    added = float(np.mean(rest - own)) + transfer_seconds(found, engine, devices, bandwidth)
    saved = float(np.mean(of_normal - slope / devices))
    if added <= 0:
        return 0.0
    return added / saved if saved > 0 else math.inf
