"""Spread over repetitions: means with intervals by Student's t, and what they can tell.

Repetitions are the seeds of a cell, or the rounds of a timing. One repetition has no interval.

References
----------
Intervals of a mean and of a further observation: Hahn and Meeker, Statistical Intervals (1991),
sections 2.3 and 4.7.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
"""The confidence of every interval in the book."""

NORMAL_QUANTILE = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Half the width of that interval in standard deviations, where these are known: 1.96."""


@dataclass(frozen=True)
class Interval:
    """A mean, the limits around it, and how many values it rests on.

    Attributes
    ----------
    value : float
        The mean; NaN without values.
    low, high : float
        The limits; NaN with fewer than two values.
    n : int
        How many values.
    """

    value: float
    low: float
    high: float
    n: int

    def excludes(self, number: float) -> bool:
        """Say whether a number lies outside; False where there is no interval."""
        return self.low > number or self.high < number

    @property
    def half(self) -> float:
        """Half the width; NaN where there is no interval."""
        return (self.high - self.low) / 2


def mean_interval(values: Iterable[float]) -> Interval:
    """Return the mean of some values and where the mean of many more would lie.

    Of paired values, give the differences (or the ratios).
    """
    return _around_mean(values, lambda n: math.sqrt(1 / n))


def prediction_interval(values: Iterable[float]) -> Interval:
    """Return the mean of some values and where one further value of their kind would lie."""
    return _around_mean(values, lambda n: math.sqrt(1 + 1 / n))


def _around_mean(values: Iterable[float], factor: Callable[[int], float]) -> Interval:
    given = np.asarray(list(values), dtype=float)
    n = len(given)
    if n < 2:
        return Interval(float(given[0]) if n else math.nan, math.nan, math.nan, n)
    mean = float(given.mean())
    half = student_t(n - 1) * float(given.std(ddof=1)) * factor(n)
    return Interval(mean, mean - half, mean + half, n)


def student_t(freedom: int, level: float = LEVEL) -> float:
    """Return the number t for which Student's variable lies between -t and t at a level.

    Parameters
    ----------
    freedom
        Degrees of freedom, 1 or more.
    level
        The probability between the limits, above 0 and below 1.
    """
    return float(stdtrit(freedom, (1 + level) / 2))
