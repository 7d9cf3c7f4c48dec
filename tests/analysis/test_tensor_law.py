"""The law of tensors: a fit to the paper's Table 2, whose numbers a reader can work out."""

import numpy as np
import pytest

from dsstudy.analysis.tensor_law import (
    fit_gaps,
    gap_correlation,
    left_out_gap_errors,
    optimizer_gaps,
)
from dsstudy.pages import tensors
from dsstudy.spec.engines import DEEPSPEED, NORMAL


def test_a_gap_is_the_difference_of_two_printed_times_for_each_step():
    gaps = optimizer_gaps(DEEPSPEED)
    assert 3125 * gaps["gap"]["densenet121"] == pytest.approx(346.94 - 288.87)
    assert gaps["tensors"]["densenet121"] == 364


def test_the_law_is_the_one_that_a_reviewer_found_with_other_code():
    gaps = optimizer_gaps(DEEPSPEED)
    assert 54e-6 < fit_gaps(gaps) < 61e-6
    assert gap_correlation(gaps) == pytest.approx(0.984, abs=0.001)
    errors = left_out_gap_errors(gaps).abs().mean()
    assert errors["tensors"] == pytest.approx(0.0212, abs=0.0005)
    assert errors["nothing"] == pytest.approx(0.1027, abs=0.0005)


def test_a_network_that_follows_the_law_is_predicted_without_itself():
    gaps = optimizer_gaps(DEEPSPEED)
    gaps["gap"] = 50e-6 * gaps["tensors"]
    gaps["seconds"] = gaps["base"] + gaps["gap"]
    assert fit_gaps(gaps) == pytest.approx(50e-6)
    assert np.allclose(left_out_gap_errors(gaps)["tensors"], 0)
    gaps.loc["vit", "seconds"] *= 2  # its own time has no part in its prediction
    gaps.loc["vit", "gap"] = gaps["seconds"]["vit"] - gaps["base"]["vit"]
    assert left_out_gap_errors(gaps)["tensors"]["vit"] < -0.4


def test_the_sentence_on_the_exception_has_the_printed_differences():
    said = tensors.exception_text()
    assert "with DeepSpeed, SGD takes 58 s an epoch longer than Adam" in said
    assert "has 364 tensors" in said


def test_normal_training_follows_no_such_law():
    """The page says so: with the ViT, Adam is the quicker of the two."""
    gaps = optimizer_gaps(NORMAL)["gap"]
    assert list(gaps.index[gaps < 0]) == ["vit"]


def test_the_table_has_counts_beside_errors():
    shown = tensors.errors_table().data
    assert list(shown["tensors"]) == [str(n) for n in optimizer_gaps(DEEPSPEED)["tensors"]]
    assert shown.loc["DenseNet-121", ["by tensors", "unchanged"]].tolist() == [
        "+6.07 %",
        "−16.74 %",
    ]
