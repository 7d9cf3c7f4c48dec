"""What one RTX 3090 could have done: ratios of printed numbers, which a reader can work out."""

import pytest

from dsstudy.analysis.cost_model.model import SHARE
from dsstudy.analysis.headroom import (
    BUSIEST,
    arithmetic_speeds,
    card_speeds,
    fitted_exchange,
    implied_shares,
    layout_ratios,
    speed_ratios,
    two_card_gains,
)
from dsstudy.pages import headroom
from dsstudy.paper.public import load_timm_rates
from dsstudy.spec.engines import DEEPSPEED, NORMAL


def test_the_tables_hold_eight_runs_of_four_networks():
    runs = load_timm_rates()
    assert set(runs["architecture"]) == {"vgg11_bn", "resnet18", "densenet121", "vit"}
    assert set(runs.groupby("architecture").size()) == {8}
    assert set(runs.groupby(["layout", "torch"]).size()) == {4, 8}  # PyTorch 1.10 ran twice
    assert set(runs["image_size"]) == {224}
    assert len(runs.drop_duplicates(["architecture", "commit", "file"])) == len(runs)


def test_resnet18s_speeds_are_those_of_the_two_sources():
    row = card_speeds().loc["resnet18"]
    assert row[NORMAL] == pytest.approx(50_000 / 66.08)  # 757
    assert row[DEEPSPEED] == pytest.approx(50_000 / 97.18)  # 515
    assert (row["low"], row["high"]) == (2662.83, 3584.19)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("resnet18", 5.18, 6.97),
        ("vgg11_bn", 3.10, 3.86),
        ("densenet121", 4.74, 6.34),
        ("vit", 1.81, 2.04),
    ],
)
def test_one_card_was_faster_than_the_papers_two(name, low, high):
    ratios = speed_ratios(card_speeds(), DEEPSPEED).loc[name]
    assert ratios.to_numpy() == pytest.approx([low, high], abs=0.006)


def test_layouts_are_compared_where_nothing_else_differs():
    ratios = layout_ratios()
    assert ratios["low"]["resnet18"] == pytest.approx(3481.78 / 2764.22)
    # With PyTorch 1.10 the VGG's batches differ: 256 and 384.
    assert ratios["low"]["vgg11_bn"] == pytest.approx(805.38 / 698.67)
    assert (ratios["low"].drop("vit") > 1.1).all()
    assert ratios.loc["vit"].to_numpy() == pytest.approx(1, abs=0.01)


def test_the_share_from_outside_is_near_the_assumed_one():
    speeds = arithmetic_speeds()
    assert speeds["low"].idxmax() == speeds["high"].idxmax() == BUSIEST
    assert speeds["low"][BUSIEST] == pytest.approx(349.40 * 105_147_196_416)
    shares = implied_shares()
    assert (shares["low"].min(), shares["high"].max()) == pytest.approx((0.207, 0.253), abs=0.001)
    assert shares["low"].min() < SHARE < shares["high"].max()


def test_a_second_card_costs_in_public_what_the_fit_says():
    gains = two_card_gains()
    assert gains["gain"][("vgg16", 64)] == pytest.approx(589.37 / 419.83)
    seconds = 128 / 589.37 - 64 / 419.83
    assert gains["exchange"][("vgg16", 64)] == pytest.approx(seconds / 138_357_544)
    assert gains["exchange"].min() < fitted_exchange() < gains["exchange"].max()


def test_the_page_says_what_was_computed_and_its_caveats():
    said = headroom.answer_text()
    assert "trains 1.8 to 7.0 times as many images a second" in said
    assert "5.2 to 7.0 for ResNet-18" in said
    assert "brought 0.68 to 1.37 times: a loss for 3 of the 4" in headroom.brings_text()
    assert headroom.caveats_text().count("\n- ") == 6
    assert "share of 0.21 to 0.25" in headroom.share_text()
    assert "VGG16 1.40 to 1.91" in headroom.advice_text()
    assert "0.27 to 0.47 ns a parameter" in headroom.exchange_text()


def test_the_table_has_seconds_below_speeds():
    shown = headroom.speeds_table().data
    assert shown.loc["ResNet-18", "paper, two cards, DeepSpeed"].startswith("515<br>")
    assert "14.0 to 18.8 s" in shown.loc["ResNet-18", "timm, one card"]
    assert shown.loc["ViT", "times the paper's two"] == "1.8 to 2.0"
