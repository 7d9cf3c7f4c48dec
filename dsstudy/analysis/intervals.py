"""Means over repetitions, with intervals from Student's t.

Repetitions are the seeds of a cell, or the rounds of a timing. A single one has no interval.

References
----------
Intervals of a mean and of a further observation: Hahn and Meeker, Statistical Intervals (1991),
sections 2.3 and 4.7. Equality by two one-sided tests: Schuirmann, Journal of Pharmacokinetics and
Biopharmaceutics 15 (1987). Several tests at once: Holm, Scandinavian Journal of Statistics 6
(1979).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

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


@dataclass(frozen=True)
class Deviation:
    """A standard deviation, and the degrees of freedom that it was estimated with."""

    value: float
    freedom: int


def mean_interval(
    values: Iterable[float], deviation: Deviation | None = None, level: float = LEVEL
) -> Interval:
    """Return the mean of some values, with its confidence interval.

    For paired values, give their differences; for ratios, use `ratio_interval`.

    Parameters
    ----------
    values
        The repetitions.
    deviation
        From `pooled_deviation`; the values' own, unless given.
    level
        The probability that the interval contains the true mean.
    """
    return _around_mean(values, 0, deviation, level)


def prediction_interval(values: Iterable[float]) -> Interval:
    """Return the mean of some values, with the interval for one further value."""
    return _around_mean(values, 1, None, LEVEL)


def _around_mean(
    values: Iterable[float], further: int, deviation: Deviation | None, level: float
) -> Interval:
    given = np.asarray(list(values), dtype=float)
    n = len(given)
    if n < 2:
        return Interval(float(given[0]) if n else math.nan, math.nan, math.nan, n)
    mean = float(given.mean())
    known = deviation or Deviation(float(given.std(ddof=1)), n - 1)
    half = student_t(known.freedom, level) * known.value * math.sqrt(further + 1 / n)
    return Interval(mean, mean - half, mean + half, n)


def ratio_interval(ratios: Iterable[float]) -> Interval:
    """Return the geometric mean of some ratios, with its confidence interval.

    It is the mean of the logarithms: so a ratio of 2 is the opposite of a ratio of 1/2, and no
    limit is below zero.
    """
    log = mean_interval(np.log(np.asarray(list(ratios), dtype=float)))
    return Interval(_exp(log.value), _exp(log.low), _exp(log.high), log.n)


def _exp(number: float) -> float:
    """Return the exponential, infinite if it overflows, as it may for a few wild rounds."""
    with np.errstate(over="ignore"):
        return float(np.exp(number))


def pooled_deviation(samples: Iterable[pd.Series]) -> Deviation | None:
    """Return the common standard deviation of samples with means of their own.

    It has more degrees of freedom than the deviation of each, and assumes that all scatter alike.
    None if no sample has two values.
    """
    repeated = [values for values in samples if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    squares = sum((len(values) - 1) * float(values.var()) for values in repeated)
    return Deviation(math.sqrt(squares / freedom), freedom) if freedom else None


def chance_of(found: Interval, deviation: Deviation) -> float:
    """Return the probability of a mean at least as far from zero, if the true one is zero.

    Parameters
    ----------
    found
        The mean.
    deviation
        Of single values, as for `mean_interval`.
    """
    if not deviation.value:
        return float(found.value == 0)
    t = abs(found.value) / deviation.value * math.sqrt(found.n)
    return float(2 * stdtr(deviation.freedom, -t))


def holm(chances: pd.Series) -> pd.Series:
    """Adjust the probabilities of several tests, so that at 5 % all hold at once; NaN stay."""
    known = chances.dropna().sort_values()
    tests_left = np.arange(len(known), 0, -1)
    return (known * tests_left).cummax().clip(upper=1).reindex(chances.index)


def equality_margin(values: Iterable[float]) -> float:
    """Return the smallest margin within which the mean is equal to zero, at 5 %.

    Two one-sided tests exclude that it is larger, and that it is smaller: so the margin is the
    limit of the 90 % interval that is further from zero. NaN with fewer than two values.
    """
    found = mean_interval(values, level=0.9)
    return max(abs(found.low), abs(found.high))


def student_t(freedom: int, level: float = LEVEL) -> float:
    """Return the t for which Student's variable is between -t and t with probability `level`.

    `freedom` is the number of degrees of freedom, 1 or more.
    """
    return float(stdtrit(freedom, (1 + level) / 2))
