"""Intervals, compared with printed tables and with calculations by hand."""

import math

import pandas as pd
import pytest

from dsstudy.analysis.intervals import (
    NORMAL_QUANTILE,
    Deviation,
    chance_of,
    equality_margin,
    holm,
    mean_interval,
    pooled_deviation,
    prediction_interval,
    ratio_interval,
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


def test_a_ratio_is_the_opposite_of_its_inverse():
    # Logarithms of 1, 2, 4: mean ln 2, deviation ln 2; half = 4.303 * ln 2 / sqrt(3) = 1.722.
    found, inverse = ratio_interval([1, 2, 4]), ratio_interval([1, 1 / 2, 1 / 4])
    assert found.value == pytest.approx(2)
    assert found.low == pytest.approx(2 * math.exp(-1.7219), abs=1e-3)
    assert found.high == pytest.approx(1 / inverse.low)


def test_samples_that_scatter_alike_share_a_deviation():
    # Squared deviations 2 and 8 with one and two degrees of freedom: sqrt(10 / 3).
    samples = [pd.Series([0.0, 2.0]), pd.Series([5.0, 7.0, 9.0]), pd.Series([1.0])]
    assert pooled_deviation(samples) == Deviation(pytest.approx(math.sqrt(10 / 3)), 3)
    assert pooled_deviation([pd.Series([1.0])]) is None


def test_chance_is_students_tail():
    # t = 4.303 has 5 % beyond it on both sides, with two degrees of freedom.
    found = mean_interval([0.0, 1.0, 2.0])
    assert chance_of(found, Deviation(3**0.5 / 4.30265, 2)) == pytest.approx(0.05, abs=1e-5)
    assert chance_of(found, Deviation(0.0, 2)) == 0


def test_holm_by_hand():
    # Holm's own steps: 4 * 0.01, 3 * 0.02, 2 * 0.03 (not below the one before), 1 * 0.2.
    given = pd.Series({"a": 0.2, "b": 0.01, "none": math.nan, "c": 0.03, "d": 0.02})
    adjusted = holm(given)
    assert list(adjusted[["b", "d", "c", "a"]]) == pytest.approx([0.04, 0.06, 0.06, 0.2])
    assert math.isnan(adjusted["none"])


def test_equality_has_a_smallest_margin():
    # Mean 0.1, deviation 0.1, t = 2.920 at 90 %: 0.1 + 2.920 * 0.1 / sqrt(3) = 0.2686.
    assert equality_margin([0.0, 0.1, 0.2]) == pytest.approx(0.2686, abs=1e-4)
    assert equality_margin([-0.0, -0.1, -0.2]) == pytest.approx(0.2686, abs=1e-4)
    assert math.isnan(equality_margin([0.1]))


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
