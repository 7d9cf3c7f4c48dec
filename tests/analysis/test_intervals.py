"""Intervals, compared with printed tables and with calculations by hand."""

import math

import pytest

from dsstudy.analysis.intervals import (
    NORMAL_QUANTILE,
    mean_interval,
    prediction_interval,
    student_t,
)


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (120, 1.980)],
)
def test_student_is_as_printed(freedom, printed):
    """Abramowitz and Stegun, table 26.10, two-sided 95 %."""
    assert student_t(freedom) == pytest.approx(printed, abs=5e-4)


def test_student_at_other_levels():
    assert student_t(1, 0.5) == pytest.approx(1)  # Cauchy's quartile
    assert student_t(2, 0.5) == pytest.approx(math.sqrt(2 / 3))
    assert student_t(5, 0.99) == pytest.approx(4.032, abs=5e-4)
    assert student_t(100_000) == pytest.approx(NORMAL_QUANTILE, abs=5e-5)


def test_intervals_by_hand():
    # Mean 3, deviation 0.1: 4.303 * 0.1 / sqrt(3) = 0.2484; times sqrt(1 + 1/3) = 0.4968.
    values = [3.0, 3.1, 2.9]
    mean, further = mean_interval(values), prediction_interval(values)
    assert (mean.value, mean.n) == (pytest.approx(3), 3)
    assert (mean.low, mean.high) == (
        pytest.approx(2.7516, abs=1e-4),
        pytest.approx(3.2484, abs=1e-4),
    )
    assert further.half == pytest.approx(0.4969, abs=1e-4)
    assert mean.excludes(2.7)
    assert mean.excludes(3.3)
    assert not mean.excludes(2.8)
    assert not further.excludes(2.7)


def test_one_value_has_no_interval_and_excludes_nothing():
    one, none = mean_interval([3.0]), mean_interval([])
    assert (one.value, one.n, none.n) == (3.0, 1, 0)
    assert math.isnan(one.low)
    assert math.isnan(none.value)
    assert not one.excludes(100)
    assert not none.excludes(0)


def test_an_interval_without_width_excludes_other_values():
    same = mean_interval([2.0, 2.0])
    assert (same.low, same.high) == (2.0, 2.0)
    assert same.excludes(0)
    assert not same.excludes(2.0)
