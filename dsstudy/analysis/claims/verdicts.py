"""How claims are tested: the cells to compare, and the verdicts of comparisons."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import permutation_test

from dsstudy.analysis.claims.evidence import Evidence, Pair, UndecidedError
from dsstudy.analysis.intervals import LEVEL
from dsstudy.paper.printed import NAMES, PANELS, PAPER_ENGINES, SETTINGS
from dsstudy.spec.engines import DEEPSPEED, NORMAL
from dsstudy.spec.trial import ARCHITECTURES

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"

SIGNIFICANT, DRAMATIC = 5, 10  # points of accuracy
LONGER = 1.2  # a ratio of times

CNNS = tuple(name for name in ARCHITECTURES if name != "vit")
SMALL, LARGE = ("lenet", "alexnet"), ("resnet18", "densenet121")  # in the paper's words
NOT_SMALL = tuple(name for name in ARCHITECTURES if name not in SMALL)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, `HOLDS`, `FAILS` or `OPEN`, and a sentence with the numbers."""

    verdict: str
    reason: str


# Which cells to compare


def between_engines(
    architectures: Iterable[str] = ARCHITECTURES,
    settings: Iterable[str] = SETTINGS,
    normal: str | None = None,
) -> list[Pair]:
    """Pair the engines in the same setting, or with another one for normal training."""
    settings = tuple(settings)
    pairs = [(name, setting) for name in architectures for setting in settings]
    return [
        (
            NAMES[name] if len(settings) == 1 else f"{NAMES[name]} {setting}",
            (name, DEEPSPEED, setting),
            (name, NORMAL, normal or setting),
        )
        for name, setting in pairs
    ]


def panel(letter: str, architectures: Iterable[str] = ARCHITECTURES) -> list[Pair]:
    """Pair the engines as a panel of Figure 1 does."""
    return between_engines(architectures, [PANELS[letter][DEEPSPEED]], PANELS[letter][NORMAL])


def between_settings(
    engine: str, first: str, second: str, architectures: Iterable[str] = ARCHITECTURES
) -> list[Pair]:
    """Pair two settings of one engine."""
    return [(NAMES[a], (a, engine, first), (a, engine, second)) for a in architectures]


# How to judge


def vote(
    compared: pd.DataFrame,
    above: float | None = None,
    below: float | None = None,
    exceptions: int = 0,
) -> Verdict:
    """Hold if the intervals of all values, or of all but `exceptions`, are beyond a limit."""
    assert (above is None) != (below is None)
    if below is None:
        yes, no = compared["low"] > above, compared["high"] <= above
    else:
        yes, no = compared["high"] < below, compared["low"] >= below
    needed = len(compared) - exceptions
    verdict = HOLDS if yes.sum() >= needed else FAILS if no.sum() > exceptions else OPEN
    unclear = (~yes & ~no).sum()
    within = f", {unclear} whose interval includes the limit" if unclear else ""
    return Verdict(
        verdict, f"{yes.sum()} of {len(compared)}{within}: {_listed_values(compared, yes)}."
    )


def _listed_values(compared: pd.DataFrame, yes: pd.Series) -> str:
    """List a few values; of many, their range and the exceptions."""
    few = len(compared) <= len(ARCHITECTURES)
    named = compared if few else compared[~yes]
    text = ", ".join(f"{name} {value}" for name, value in named["text"].items())
    if few:
        return text
    low, high = (compared["text"][compared["value"].agg(end)] for end in ("idxmin", "idxmax"))
    return f"from {low} to {high}" + (f"; not {text}" if text else "")


def most_beyond(compared: pd.DataFrame, **limit: float) -> Verdict:
    """Vote for more than half of the values."""
    return vote(compared, exceptions=(len(compared) - 1) // 2, **limit)


def at_least_one(compared: pd.DataFrame, **limit: float) -> Verdict:
    """Vote for at least one of the values."""
    return vote(compared, exceptions=len(compared) - 1, **limit)


def none_beyond(compared: pd.DataFrame, **limit: float) -> Verdict:
    """Hold unless a value's interval is beyond the limit."""
    found = at_least_one(compared, **limit)
    return Verdict(FAILS if found.verdict == HOLDS else HOLDS, found.reason)


def both_hold(what: str, first: Verdict, and_what: str, second: Verdict) -> Verdict:
    """Hold if both hold; fail if either fails."""
    verdicts = {first.verdict, second.verdict}
    verdict = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS
    return Verdict(verdict, f"{what}, {first.reason} {and_what}, {second.reason}")


def trend(capacity: pd.Series, benefit: pd.Series, what: str) -> Verdict:
    """Hold if the benefit rises with capacity beyond chance; fail if it does not rise at all.

    The test is exact: of all orders of so few networks, at most 5 % may have a rank correlation as
    high.
    """
    ranks = capacity.rank()
    found = permutation_test(
        (benefit.rank(),),
        lambda other: np.corrcoef(ranks, other)[0, 1],
        permutation_type="pairings",
        alternative="greater",
        vectorized=False,
        n_resamples=math.factorial(len(capacity)),  # all of them
    )
    sure = found.pvalue <= 1 - LEVEL
    verdict = HOLDS if sure else FAILS if found.statistic <= 0 else OPEN
    listed = ", ".join(f"{NAMES[a]} {benefit[a]:.2f}" for a in capacity.sort_values().index)
    reason = (
        f"Rank correlation {found.statistic:+.2f}, as high in {found.pvalue:.0%} of all orders; "
        f"{what}, from the smallest: {listed}."
    )
    return Verdict(verdict, reason.replace(" -", " −").replace("%", " %"))


# Single claims


def both_better(study: Evidence) -> Verdict:
    """Hold if DeepSpeed trains a model, not a small one, more accurately and faster."""
    pairs = between_engines(NOT_SMALL)
    gain, ratio = study.gain(pairs), study.ratio(pairs)
    better, faster = gain["low"] > 0, ratio["high"] < 1
    found = better & faster
    perhaps = (gain["high"] > 0) & (ratio["low"] < 1)
    return Verdict(
        HOLDS if found.any() else OPEN if perhaps.any() else FAILS,
        f"Of {len(found)} pairs DeepSpeed is more accurate in {better.sum()}, faster in "
        f"{faster.sum()}, both in {found.sum()}.",
    )


def best_against_best(study: Evidence) -> pd.DataFrame:
    """Compare each architecture's best normal cell with its best DeepSpeed cell."""
    study.gain(between_engines())  # raises if a value is missing
    pairs = []
    for name in ARCHITECTURES:
        deepspeed, normal = (
            max(((name, engine, s) for s in SETTINGS), key=lambda c: study.accuracy(c))
            for engine in PAPER_ENGINES
        )
        pairs.append((NAMES[name], normal, deepspeed))
    return study.gain(pairs)


def _vit_ranks(study: Evidence, engine: str, settings: Iterable[str]) -> list[tuple[int, int]]:
    """Return the ViT's best and worst rank among the seven in each setting, given the intervals."""
    ranks = []
    for setting in settings:
        vit = ("vit", engine, setting)
        others = study.gain([(NAMES[a], (a, engine, setting), vit) for a in CNNS])
        ahead = (others["low"] > 0).sum()
        perhaps = (others["high"] > 0).sum()
        ranks.append((1 + ahead, 1 + max(ahead, perhaps)))
    return ranks


def vit_is(rank: int, study: Evidence, engine: str, settings: Iterable[str]) -> Verdict:
    """Hold if the ViT has this rank in accuracy in each of the settings."""
    settings = tuple(settings)
    ranks = _vit_ranks(study, engine, settings)
    verdict = HOLDS if all(r == (rank, rank) for r in ranks) else OPEN
    if any(not best <= rank <= worst for best, worst in ranks):
        verdict = FAILS
    return Verdict(verdict, f"The ViT's rank among the seven: {_rank_text(settings, ranks)}.")


def vit_gains_ranks(study: Evidence) -> Verdict:
    """Hold if the ViT ranks better with DeepSpeed than without, in every setting."""
    with_it, without = (_vit_ranks(study, engine, SETTINGS) for engine in PAPER_ENGINES)
    pairs = list(zip(with_it, without, strict=True))
    verdict = HOLDS if all(deep[1] < plain[0] for deep, plain in pairs) else OPEN
    if any(deep[0] >= plain[1] for deep, plain in pairs):
        verdict = FAILS
    return Verdict(
        verdict,
        f"The ViT's rank among the seven: with DeepSpeed {_rank_text(SETTINGS, with_it)}; without "
        f"{_rank_text(SETTINGS, without)}.",
    )


def _rank_text(settings: Iterable[str], ranks: list[tuple[int, int]]) -> str:
    return ", ".join(
        f"{setting} {best}" + (f" to {worst}" if worst > best else "")
        for setting, (best, worst) in zip(settings, ranks, strict=True)
    )


def small_are_small(study: Evidence) -> Verdict:
    """Hold if the models that the paper calls small have fewer parameters than its large ones."""
    capacity = study.capacity((*SMALL, *LARGE))
    largest_small, smallest_large = capacity[list(SMALL)].max(), capacity[list(LARGE)].min()
    listed = ", ".join(f"{NAMES[a]} {capacity[a] / 1e6:.1f}" for a in (*SMALL, *LARGE))
    verdict = HOLDS if largest_small < smallest_large else FAILS
    return Verdict(verdict, f"Parameters in millions: {listed}.")


def beyond_scale(study: Evidence) -> Verdict:
    """Explain why none of the seven can decide the hypothesis."""
    capacity = study.capacity()
    raise UndecidedError(
        f"The largest of the seven, {NAMES[capacity.idxmax()]}, has "
        f"{capacity.max() / 1e6:.0f} million parameters and was trained on one GPU without "
        "DeepSpeed: none is beyond the normal scale."
    )


def lead_shrinks(study: Evidence) -> Verdict:
    """Hold if Figure 1a's differences are mostly smaller at the end than at the beginning."""
    early, late = (study.during(*e).gain(panel("a")) for e in ((1, 2), (-2, -1)))
    smaller = early["value"].abs() - late["value"].abs()
    half = _half(early).combine(_half(late), max)
    shrunk = early.assign(
        value=smaller,
        low=smaller - half,
        high=smaller + half,
        text=early["text"] + " to " + late["text"],
    )
    return most_beyond(shrunk, above=0)


def small_average(changes: pd.DataFrame) -> Verdict:
    """Hold if the changes average less than a point."""
    mean, half = changes["value"].mean(), (_half(changes) ** 2).sum() ** 0.5 / len(changes)
    verdict = HOLDS if abs(mean) + half < 1 else FAILS if abs(mean) - half >= 1 else OPEN
    return Verdict(verdict, f"{mean:+.2f} points on average.".replace("-", "−"))


def unchanged(study: Evidence) -> Verdict:
    """Hold if the scheduler changes no accuracy under SGD significantly."""
    pairs = [
        (f"{NAMES[engine]} {name}", with_it, without)
        for engine in PAPER_ENGINES
        for name, with_it, without in between_settings(engine, "SGD+S", "SGD")
    ]
    changes = study.gain(pairs)
    sizes, half = changes["value"].abs(), _half(changes)
    text = sizes.map("{:.2f}".format)
    changes = changes.assign(value=sizes, low=sizes - half, high=sizes + half, text=text)
    return vote(changes, below=SIGNIFICANT)


def speedups(study: Evidence) -> pd.Series:
    """Return normal training's time over DeepSpeed's by architecture, averaged over settings."""
    return pd.Series(
        {name: (1 / study.ratio(between_engines([name]))["value"]).mean() for name in ARCHITECTURES}
    )


def gains_of_panel_a(study: Evidence) -> pd.Series:
    """Return DeepSpeed's accuracy minus normal training's in Figure 1a, by architecture."""
    return study.gain(panel("a"))["value"].set_axis(list(ARCHITECTURES))


def _half(compared: pd.DataFrame) -> pd.Series:
    """Return half the width of each interval."""
    return (compared["high"] - compared["low"]) / 2
