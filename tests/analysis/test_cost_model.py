"""The cost model: its fits, what it cannot decide, and its page."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from studies import profile_row, trial_of, write_record, write_study

from dsstudy.analysis.claims.evidence import UndecidedError
from dsstudy.analysis.cost_model.model import (
    FITTED_LINK,
    FORMS,
    FULL,
    LINE,
    SHARE,
    SHARED_ARITHMETIC,
    break_even_batch,
    explained_share,
    fit_cost,
    fit_groups,
    fitted_bandwidth,
    left_out_errors,
    predict_seconds,
    step_parts,
)
from dsstudy.analysis.cost_model.pairs import _beside_normal, paper_pairs, study_pairs
from dsstudy.pages.cost_model.data import convolutional, load_studies, study_fits
from dsstudy.pages.cost_model.figures import left_out_figure
from dsstudy.pages.cost_model.tables import origins_table, study_errors_table
from dsstudy.pages.cost_model.text import answer_text, studies_text
from dsstudy.paper import printed
from dsstudy.records.study_folder import find_study

KNOWN = pd.Series({"factor": 1.4, "saved": 4e-14, "gradient": 3e-10, "constant": 2e-3})
LENETS = tuple(cell for cell in printed.CELLS if cell[0] != "lenet")


def made(coefficients: pd.Series, seed: int = 0, count: int = 8) -> pd.DataFrame:
    """Return pairs of made-up networks whose steps follow the coefficients."""
    random = np.random.default_rng(seed)
    pairs = pd.DataFrame(
        {
            "flops": random.uniform(1e10, 1e12, count),
            "parameters": random.uniform(1e5, 1e8, count),
            "normal_seconds": random.uniform(0.05, 0.2, count),
            "images": 16,
            "sent": 2.0,
        },
        index=[f"network {n}" for n in range(count)],
    )
    pairs["engine"], pairs["setting"] = "deepspeed", "SGD"
    return pairs.assign(seconds=predict_seconds(pairs, coefficients))


def table2(setting: str = "SGD") -> pd.DataFrame:
    return {name: some for _, name, some in fit_groups(paper_pairs())}[setting]


@pytest.mark.parametrize("terms", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("relative", [True, False])
def test_a_fit_recovers_the_coefficients_that_made_the_data(terms, relative):
    coefficients = KNOWN.where(KNOWN.index.isin(terms), 0.0)
    pairs = made(coefficients)
    found = fit_cost(pairs, terms, relative)
    np.testing.assert_allclose(found, coefficients, rtol=1e-6)
    np.testing.assert_allclose(left_out_errors(pairs, terms), 0, atol=1e-6)
    assert explained_share(pairs, terms) == pytest.approx(1)


def test_no_coefficient_is_negative():
    pairs = made(KNOWN)
    found = fit_cost(pairs.assign(seconds=pairs["seconds"] - 1e-2), FULL)
    assert found["constant"] == 0
    assert (found >= 0).all()


def test_a_network_does_not_affect_its_own_prediction():
    pairs = made(KNOWN)
    spoilt = pairs.assign(seconds=pairs["seconds"].mask(pairs.index == "network 3", 9.0))
    errors = left_out_errors(spoilt, FULL)
    predicted = (errors + 1) * spoilt["seconds"]
    assert predicted["network 3"] == pytest.approx(pairs["seconds"]["network 3"])
    assert (errors.drop("network 3").abs() > 1e-3).any()


def test_table_2_is_a_line_through_the_convolutional_networks_that_the_vit_is_far_from():
    for _, _, some in fit_groups(convolutional(paper_pairs())):
        assert 0.98 < explained_share(some, LINE) < 0.995
    for setting in printed.SETTINGS:
        assert left_out_errors(table2(setting), LINE)["vit"] > 0.5


def test_at_break_even_both_sides_take_the_same_time():
    pairs, share = table2(), SHARE
    found = fit_cost(pairs, SHARED_ARITHMETIC)
    known = step_parts(pairs, found, share)
    np.testing.assert_allclose(known["rest"] + known["arithmetic"], pairs["normal_seconds"])
    ranks = known[["ranks' rest", "ranks' arithmetic", "transfer"]].sum(axis=1)
    np.testing.assert_allclose(ranks, predict_seconds(pairs, found))

    times = break_even_batch(pairs, found, share) / pairs["images"]
    larger = pairs.assign(
        flops=pairs["flops"] * times, normal_seconds=known["rest"] + known["arithmetic"] * times
    )
    np.testing.assert_allclose(predict_seconds(larger, found), larger["normal_seconds"])
    by_link = [break_even_batch(pairs, found, share, speed) for speed in (1e9, 1e10, 1e11)]
    assert (by_link[0] > by_link[1]).all()
    assert (by_link[1] > by_link[2]).all()
    fitted = fitted_bandwidth(pairs, found)
    np.testing.assert_allclose(
        break_even_batch(pairs, found, share, fitted), break_even_batch(pairs, found, share)
    )


def test_the_link_of_the_papers_cards_is_the_fitted_one():
    pairs = table2()
    fitted = fitted_bandwidth(pairs, fit_cost(pairs, SHARED_ARITHMETIC))
    assert round(fitted / 1e9, 1) == FITTED_LINK / 1e9


def test_where_no_arithmetic_is_saved_no_batch_is_large_enough():
    nothing = KNOWN.where(KNOWN.index != "saved", 0.0)
    assert np.isinf(break_even_batch(made(nothing), nothing, SHARE)).all()


def test_a_study_with_the_papers_numbers_has_the_papers_pairs(tmp_path):
    write_study(tmp_path)
    key = ["engine", "setting", "architecture"]
    pairs = (study_pairs(tmp_path), paper_pairs())
    ours, theirs = (some.set_index(key).sort_index() for some in pairs)
    ours["sent"] /= 2  # DeepSpeed in fp32, not in fp16
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)


def test_a_ring_sends_each_gradient_nearly_twice():
    assert set(paper_pairs()["sent"]) == {2.0}  # two ranks, once each, in half precision
    steps = pd.DataFrame(
        {"engine": ["normal", "deepspeed"], "processes": [1, 8], "precision": "fp32",
         "architecture": "lenet", "model": "lenet", "image_size": 32, "setting": "SGD",
         "images": 16, "seconds": 0.01}
    )  # fmt: skip
    assert _beside_normal(steps)["sent"].item() == 4 * 2 * 7 / 8


def test_the_times_of_rounds_alone_count_by_their_median(tmp_path):
    write_study(tmp_path)
    trial = trial_of(("alexnet", "deepspeed", "SGD"))
    rounds = {"seconds_per_step": [0.02, 0.03, 0.9], "steps_per_epoch": 3125, "steps": 20}
    row = {"name": trial.name, "timing": "exclusive", "seconds_per_epoch_estimate": 93.75, **rounds}
    (tmp_path / "times.jsonl").write_text(pd.DataFrame([row]).to_json(orient="records", lines=True))
    pairs = study_pairs(tmp_path).set_index(["architecture", "setting"])
    assert pairs.loc[("alexnet", "SGD"), "seconds"] == pytest.approx(0.03)
    # The machine of the timing counts, not that of the training.
    another = {"processor": "another", "cores": 2, "memory_gib": 24.0, "gpus": []}
    row["environment"] = {"hardware": another}
    (tmp_path / "times.jsonl").write_text(json.dumps(row))
    with pytest.raises(UndecidedError, match="different machines"):
        study_pairs(tmp_path)


def test_of_a_profiled_study_the_plain_steps_count_of_every_engine_and_batch_size(tmp_path):
    lines = []
    for model, images, (engine, length) in itertools.product(
        ("lenet", "alexnet", "resnet18", "vit"),
        (16, 128),
        {"normal": 1.25, "ddp": 2.5, "deepspeed": 3.75}.items(),
    ):
        trial = trial_of((model, "normal", "SGD"), batch_size=images)
        if engine != "normal":
            trial = trial.model_copy(update={"engine": engine, "processes": 2})
        environment = write_record(tmp_path / "records", trial).result()["environment"]
        milliseconds = (images * length, 0, 0, 0, 0, 0)  # a fifth of it is the profiler's
        known = {"image_size": trial.image_size, "environment": environment}
        lines.append(json.dumps(profile_row(model, images, engine, milliseconds, **known)) + "\n")
    (tmp_path / "profiles.jsonl").write_text("".join(lines))

    pairs = study_pairs(tmp_path)
    assert [(engine, setting, len(some)) for engine, setting, some in fit_groups(pairs)] == [
        ("ddp", "SGD", 8),
        ("deepspeed", "SGD", 8),
    ]
    one = pairs.set_index(["engine", "architecture", "images"]).loc["ddp", "vit", 128]
    assert (one["seconds"], one["normal_seconds"]) == pytest.approx((0.256, 0.128))

    (tmp_path / "profiles.jsonl").write_text("".join(lines).replace("exclusive", "shared"))
    with pytest.raises(UndecidedError, match="No profile was measured alone"):
        study_pairs(tmp_path)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (
            {"leave_out": LENETS},
            "for 1 of the architectures in a setting; when one is left out, 0 steps",
        ),
        (
            {"leave_out": LENETS, "timing": "shared"},
            "No trial in a cell of the paper's tables was measured alone",
        ),
        ({"leave_out": LENETS, "machines": 2}, "different machines"),
        ({"leave_out": LENETS, "image_size": 48}, "for 0 of the architectures"),
        ({"leave_out": LENETS, "twice": 0.5}, "differ in more than their seed"),
    ],
)
def test_a_study_without_enough_data_says_why(tmp_path, written, reason):
    """The study has LeNet only, with times that allow no fit for various reasons."""
    momentum = {"momentum": written["twice"]} if "twice" in written else {}
    for number, cell in enumerate(
        cell for cell in printed.CELLS if cell not in written["leave_out"]
    ):
        size = {"image_size": written["image_size"]} if "image_size" in written else {}
        record = write_record(
            tmp_path, trial_of(cell, **size), timing=written.get("timing", "exclusive")
        )
        if written.get("machines") and number:
            environment = record.result()["environment"]
            environment["hardware"]["cores"] = 64
            record.finish(record.result() | {"environment": environment})
        if momentum:
            write_record(tmp_path, trial_of(cell, **momentum))
    with pytest.raises(UndecidedError, match=reason):
        study_pairs(tmp_path)
    found = load_studies([tmp_path])
    assert reason in studies_text(found)
    assert study_errors_table(found) is None
    assert "No study here can test this yet." in answer_text(paper_pairs(), found)


def test_the_page_works_without_studies_and_with_several(tmp_path):
    other = write_study(tmp_path / "other")
    found = load_studies([find_study("runs/demo"), other])
    assert len(left_out_figure(paper_pairs(), found).axes) == 6
    assert len(list(study_fits(found))) == 6
    assert "This book has no study yet" in studies_text(load_studies([]))
    assert origins_table([]) is None
    assert len(left_out_figure(paper_pairs(), {}).axes) == 2


def test_the_closing_sentence_follows_the_numbers():
    pairs = paper_pairs()
    demo = load_studies([find_study("runs/demo")])
    assert "names the faster side for 7 of the 7 networks" in answer_text(pairs, demo)
    assert (
        "several ranks were faster than one process in 0 of 19 pairs with DeepSpeed"
        in answer_text(pairs, demo)
    )
    # If the ViT were slower with DeepSpeed too, it would not pay at 10 images.
    slower = pairs["seconds"].where(pairs["architecture"] != "vit", 3 * pairs["seconds"])
    other = answer_text(pairs.assign(seconds=slower), demo)
    assert "ViT 10," in answer_text(pairs, demo)
    assert "ViT 10," not in other
