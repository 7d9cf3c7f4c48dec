"""The first page: the answer, and what to do in which case, from the published records.

Each row is made from one published study, and left out as long as that is not published.
"""

import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from IPython.display import HTML

from dsstudy.analysis.capacity import load_capacity, memory_growth, zero_ways
from dsstudy.analysis.chains import chain_steps, engine_changes, load_chains
from dsstudy.analysis.cost_model.model import (
    LINKS,
    SHARE,
    SHARED_ARITHMETIC,
    break_even_batch,
    fit_cost,
    fitted_bandwidth,
)
from dsstudy.analysis.cost_model.pairs import pairs_of_setting, paper_pairs
from dsstudy.analysis.headroom import card_speeds, speed_ratios
from dsstudy.analysis.intervals import equality_margin
from dsstudy.analysis.load import load_results
from dsstudy.analysis.one_device import of_engine, step_ratios
from dsstudy.analysis.step_phases import compare_phases, load_profiles
from dsstudy.paper import printed
from dsstudy.paths import published_folder
from dsstudy.records.study_folder import find_study, study_name
from dsstudy.report.origin import marked_title, study_progress_text
from dsstudy.report.table_style import note_below
from dsstudy.report.wording import bullets_text, signed, span
from dsstudy.spec.engines import DDP, DEEPSPEED, NORMAL

HERE, PAPER, PUBLIC, INFERRED = "measured here", "from the paper", "public numbers", "inferred"


class Advice(NamedTuple):
    """A row of the table: who it is for, what to do, why, how it is known, and the page."""

    case: str
    do: str
    why: str
    source: str
    page: str
    study: str | None = None


def advice_table(studies: Sequence[str | Path]) -> HTML:
    """Show what to do in which case; `studies` are those of the book, whose pages are linked."""
    names = [study_name(find_study(study)) for study in studies]
    rows = "".join(_row(one, names) for one in advices())
    titles = "".join(f"<th>{title}</th>" for title in ("If you have", "do this", "because"))
    return HTML(
        f'<table class="advice" id="T_advice"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(one: Advice, studies: Sequence[str]) -> str:
    known = f'<span class="badge {one.source.split()[0]}">{one.source}</span>'
    why = f"{html.escape(one.why)} {note_below(known + ' ' + _link(one, studies))}"
    return f"<tr><td>{one.case}</td><td><b>{one.do}</b></td><td>{why}</td></tr>"


def _link(one: Advice, studies: Sequence[str]) -> str:
    """Link to a row's page, if the book has it."""
    if one.study is not None and one.study not in studies:
        return ""
    folder = f"{one.study}/" if one.study and len(studies) > 1 else ""
    return f'<a href="{folder}{one.page}.html">more</a>'


def advices() -> Iterator[Advice]:
    """Yield the rows of `advice_table` whose study is published."""
    for make in _ADVICES:
        study = _STUDIES.get(make)
        if study is None or (published_folder(study) / "trials.jsonl").exists():
            yield make()


def _one_device() -> Advice:
    ratios = of_engine(step_ratios(load_results(published_folder("one-device"))), DEEPSPEED)
    return Advice(
        "one GPU, and the model fits",
        "plain PyTorch",
        f"On one device a step under DeepSpeed is measurably faster in "
        f"{(ratios['high'] < 1).sum() or 'none'} of {len(ratios)} cases, slower in "
        f"{(ratios['low'] > 1).sum()} ({span(ratios['value'], '.2f')} times as long; on a CPU).",
        HERE,
        "one_device",
        "one-device",
    )


def _one_card() -> Advice:
    ratios = speed_ratios(card_speeds(), DEEPSPEED)
    return Advice(
        "one RTX 3090, as in the paper, and wish for a second",
        "mixed precision and a large batch on the one you have",
        "So trained, one card does "
        f"{span([ratios['low'].min(), ratios['high'].max()], '.1f')} times as many images a second "
        f"as the paper's two with DeepSpeed ({len(ratios)} networks, timm's benchmark).",
        PUBLIC,
        "headroom",
    )


def _two_devices() -> Advice:
    ratios = compare_phases(load_profiles(published_folder("phases")), DEEPSPEED, DDP)
    longer = (ratios["plain_ratio"] > 1).sum()
    return Advice(
        "two GPUs, and the model fits",
        "DDP before DeepSpeed",
        f"With equal processes, DeepSpeed's step takes {ratios['plain_ratio'].median():.2f} times "
        f"as long as DDP's (median of {len(ratios)}; longer in {longer}; on a CPU).",
        HERE,
        "step_time",
        "phases",
    )


def _small_networks() -> Advice:
    ratios = _paper_ratios().drop("vit", level="architecture")
    return Advice(
        "a convolutional network, small batches, two GPUs on PCIe",
        "one of the two GPUs, or larger batches",
        f"Two GPUs under DeepSpeed took longer than one without in {(ratios > 1).sum()} of "
        f"{len(ratios)} cases: {span(ratios, '.2f')} times as long.",
        PAPER,
        "paper",
    )


def _transformer() -> Advice:
    ratios = _paper_ratios().xs("vit", level="architecture")
    return Advice(
        "a Vision Transformer, two GPUs",
        "half precision on one GPU first",
        f"DeepSpeed took {span(ratios, '.2f')} times as long, but with two GPUs in fp16 against "
        "one in fp32: the paper does not say how much of that DeepSpeed itself brought.",
        PAPER,
        "paper",
    )


def _fast_link() -> Advice:
    some = pairs_of_setting(paper_pairs())
    found = fit_cost(some, SHARED_ARITHMETIC)
    slow = break_even_batch(some, found, SHARE)["resnet18"]
    fast = break_even_batch(some, found, SHARE, LINKS["NVLink"])["resnet18"]
    return Advice(
        "two GPUs, and batches of your choice",
        "compute from which batch the second one pays",
        f"For ResNet-18 it pays from {slow:.0f} images a step at "
        f"{fitted_bandwidth(some, found) / 1e9:.1f} GB/s, from {fast:.0f} over NVLink, by a model "
        "fitted to the paper's times.",
        INFERRED,
        "cost_model",
    )


def _too_large() -> Advice:
    trials = load_capacity(published_folder("capacity"))
    growth = memory_growth(trials)["bytes"].dropna()
    best = growth[zero_ways(trials, True)].idxmin()
    ddp = growth["DDP"]
    return Advice(
        "a model that does not fit into one GPU",
        "DeepSpeed with ZeRO stage 3 and small buckets",
        f"A further parameter adds {growth[best]:.1f} bytes to a rank's peak with “{best}”, and "
        f"{ddp:.1f} with DDP (two ranks, fp32, Adam).",
        HERE,
        "capacity",
        "capacity",
    )


def _clipping() -> Advice:
    trials = load_chains(published_folder("bridge"))
    clipped = chain_steps(trials, "SGD", "best_accuracy").loc["gradients clipped at 1.0", "value"]
    return Advice(
        "lower accuracy since you use DeepSpeed",
        '<code>"gradient_clipping": 0</code> in its configuration',
        f"It clips at 1.0 unless told otherwise. That alone takes {signed(clipped)} points from "
        "LeNet with SGD at the paper's scale.",
        HERE,
        "bridge",
        "bridge",
    )


_STUDIES: dict[Callable[[], Advice], str] = {
    _one_device: "one-device",
    _two_devices: "phases",
    _too_large: "capacity",
    _clipping: "bridge",
}
"""The study that a row needs."""

_ADVICES = (
    _one_device,
    _one_card,
    _two_devices,
    _too_large,
    _small_networks,
    _transformer,
    _fast_link,
    _clipping,
)


def equality_text() -> str:
    """Say whether DeepSpeed itself changes the accuracy."""
    changes = engine_changes(load_chains(published_folder("bridge")), "best_accuracy")["lenet"]
    return (
        f"In place of DDP, with everything else equal, DeepSpeed changes LeNet's accuracy by "
        f"{signed(changes.mean())} points: equal within {equality_margin(changes):.1f} "
        f"({len(changes)} pairs, at the paper's scale)."
    )


def studies_text(studies: Sequence[str | Path]) -> str:
    """List the book's studies, and how complete each is."""
    folders = map(find_study, studies)
    return bullets_text(f"**{marked_title(one)}**: {study_progress_text(one)}" for one in folders)


def _paper_ratios() -> pd.Series:
    """Return the seconds of DeepSpeed's two GPUs over those of one GPU, as printed."""
    seconds = printed.printed_by_cell("seconds_per_epoch").unstack("engine")
    return seconds[DEEPSPEED] / seconds[NORMAL]
