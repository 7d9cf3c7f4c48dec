"""What the paper's card can do: public speeds of one RTX 3090 beside those of Table 2.

The paper's speeds are 50,000 images over the seconds of an epoch in `SETTING`, whose optimizer is
SGD as in timm's benchmark.
"""

import pandas as pd

from dsstudy.analysis.cost_model.model import SHARED_ARITHMETIC, fit_cost, fit_groups
from dsstudy.analysis.cost_model.pairs import SETTING, pairs_of_setting, paper_pairs
from dsstudy.paper import printed
from dsstudy.paper.public import load_timm_rates, load_two_card_rates
from dsstudy.spec.engines import DEEPSPEED, NORMAL
from dsstudy.spec.model_counts import model_counts
from dsstudy.spec.trial import ARCHITECTURES

PARAMETERS = {"resnet50": 25_557_032, "vgg16": 138_357_544}
"""Parameters of the networks on two cards. Source: torchvision's models with 1,000 outputs."""

BUSIEST = "vit"
"""The network that comes closest to nothing but arithmetic in the fit to Table 2."""


def card_speeds() -> pd.DataFrame:
    """Return images per second: the paper's engines, and timm's benchmark on one card.

    Returns
    -------
    pandas.DataFrame
        By architecture that timm measured: a column for each of the paper's engines; ``low`` and
        ``high``, the slowest and the fastest of timm's runs.
    """
    seconds = printed.printed_by_cell("seconds_per_epoch").xs(SETTING, level="setting")
    paper = printed.TRAIN_IMAGES / seconds.unstack("engine")
    return _low_high(load_timm_rates(), "rate").join(paper)[[NORMAL, DEEPSPEED, "low", "high"]]


def speed_ratios(speeds: pd.DataFrame, engine: str) -> pd.DataFrame:
    """Return timm's ``low`` and ``high`` in multiples of one of the paper's engines' speeds."""
    return speeds[["low", "high"]].div(speeds[engine], axis=0)


def layout_ratios() -> pd.DataFrame:
    """Return how many times as fast ``channels_last`` is in timm's runs.

    Only runs that differ in nothing else are compared: equal batch size, PyTorch and commit.

    Returns
    -------
    pandas.DataFrame
        By architecture: ``low`` and ``high``.
    """
    runs = load_timm_rates().drop(columns="file")
    key = ["architecture", "batch_size", "image_size", "torch", "commit"]
    both = runs.set_index([*key, "layout"])["rate"].unstack("layout").dropna()
    ratios = (both["nhwc"] / both["nchw"]).rename("ratio").reset_index()
    return _low_high(ratios, "ratio")


def arithmetic_speeds() -> pd.DataFrame:
    """Return the operations per second in timm's runs: ``low`` and ``high`` by architecture."""
    runs = load_timm_rates()
    sizes = zip(runs["architecture"], runs["image_size"], strict=True)
    flops = [model_counts()[size].flops for size in sizes]
    return _low_high(runs.assign(done=runs["rate"] * flops), "done")


def implied_shares() -> pd.DataFrame:
    """Return the share of the arithmetic's time that each of two cards would need at timm's speed.

    It is `dsstudy.analysis.cost_model.model.SHARE`, which Table 2 leaves open. Half of the images
    at `BUSIEST`'s measured speed take ``flops / 2 / speed``, all of them in the paper's precision
    ``flops / rate``. The fitted rate depends on the share itself: ``(factor - share) / saved``. So
    ``share = factor / (1 + 2 * speed * saved)``.

    Returns
    -------
    pandas.DataFrame
        By setting: ``low`` and ``high``, from the fastest and the slowest run.
    """
    speed, ranks = arithmetic_speeds().loc[BUSIEST], printed.PROCESSES[DEEPSPEED]
    found = {}
    for _, setting, pairs in fit_groups(paper_pairs()):
        fit = fit_cost(pairs, SHARED_ARITHMETIC)
        low, high = fit["factor"] / (1 + ranks * speed[["high", "low"]] * fit["saved"])
        found[setting] = {"low": low, "high": high}
    return pd.DataFrame(found).T


def two_card_gains() -> pd.DataFrame:
    """Return what a second RTX 3090 brings and costs in the public TensorFlow benchmark.

    Returns
    -------
    pandas.DataFrame
        By model and batch size per card: ``gain``, two cards' speed over one's; ``exchange``, the
        seconds per parameter that a step on two cards takes longer than on one.
    """
    rates = load_two_card_rates().set_index(["model", "batch_size"])
    batch = rates.index.get_level_values("batch_size")
    longer = 2 * batch / rates["two_cards"] - batch / rates["one_card"]
    return pd.DataFrame(
        {
            "gain": rates["two_cards"] / rates["one_card"],
            "exchange": longer / rates.index.get_level_values("model").map(PARAMETERS),
        }
    )


def fitted_exchange() -> float:
    """Return the seconds per parameter that the fit to Table 2 finds for the same."""
    return float(fit_cost(pairs_of_setting(paper_pairs()), SHARED_ARITHMETIC)["gradient"])


def _low_high(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the least and the greatest value by architecture, in the paper's order."""
    found = rows.groupby("architecture")[column].agg(low="min", high="max")
    return found.loc[[name for name in ARCHITECTURES if name in found.index]]
