"""Means over repetitions, with intervals from Student's t.

Repetitions are the seeds of a cell, or the rounds of a timing. A single one has no interval.

References
----------
Intervals of a mean and of a further observation: Hahn and Meeker, Statistical Intervals (1991),
sections 2.3 and 4.7.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
"""The confidence level of every interval in the book."""

NORMAL_QUANTILE = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Half the width of an interval in standard deviations, if these are known: 1.96."""


@dataclass(frozen=True)
class Interval:
    """A mean, the limits around it, and the number of values.

    Attributes
    ----------
    value : float
        The mean; NaN without values.
    low, high : float
        The limits; NaN with fewer than two values.
    n : int
        The number of values.
    """

    value: float
    low: float
    high: float
    n: int

    def excludes(self, number: float) -> bool:
        """Say whether a number is outside; False if there is no interval."""
        return self.low > number or self.high < number

    @property
    def half(self) -> float:
        """Half the width; NaN if there is no interval."""
        return (self.high - self.low) / 2


def mean_interval(values: Iterable[float]) -> Interval:
    """Return the mean of some values, with its confidence interval.

    For paired values, give their differences or ratios.
    """
    return _around_mean(values, further=0)


def prediction_interval(values: Iterable[float]) -> Interval:
    """Return the mean of some values, with the interval for one further value."""
    return _around_mean(values, further=1)


def _around_mean(values: Iterable[float], further: int) -> Interval:
    given = np.asarray(list(values), dtype=float)
    n = len(given)
    if n < 2:
        return Interval(float(given[0]) if n else math.nan, math.nan, math.nan, n)
    mean = float(given.mean())
    half = student_t(n - 1) * float(given.std(ddof=1)) * math.sqrt(further + 1 / n)
    return Interval(mean, mean - half, mean + half, n)


def student_t(freedom: int, level: float = LEVEL) -> float:
    """Return the t for which Student's variable is between -t and t with probability `level`.

    `freedom` is the number of degrees of freedom, 1 or more.
    """
    return float(stdtrit(freedom, (1 + level) / 2))
