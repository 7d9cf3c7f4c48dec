"""Every claim of the paper's sections 3.2, 3.3 and 4, judged by computation.

One rule interprets the paper's words. Plain plurals ("models improve") mean all; "almost all"
allows one exception; "normally", "usually", "in general", "most" and "often" mean more than half;
"almost" or "up to" a number means within a tenth of it. For accuracies, "significantly" means by 5
points or more and "dramatically" by 10; for times, "significantly" means by a fifth. Models of
small or large capacity are those that the paper calls so. A difference counts only if its 95 %
interval excludes the claimed limit: over paired seeds, or with one seed, from the sampling of test
images (accuracies only).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dsstudy.analysis.cells import in_paper
from dsstudy.analysis.claims.evidence import (
    Evidence,
    UndecidedError,
    paper_evidence,
    study_evidence,
)
from dsstudy.analysis.claims.verdicts import (
    CNNS,
    DRAMATIC,
    LARGE,
    LONGER,
    OPEN,
    SIGNIFICANT,
    SMALL,
    Verdict,
    at_least_one,
    best_against_best,
    between_engines,
    between_settings,
    beyond_scale,
    both_better,
    both_hold,
    gains_of_panel_a,
    lead_shrinks,
    most_beyond,
    none_beyond,
    panel,
    small_are_small,
    small_average,
    speedups,
    trend,
    unchanged,
    vit_gains_ranks,
    vit_is,
    vote,
)
from dsstudy.analysis.load import load_results
from dsstudy.analysis.provenance import optimizer_steps
from dsstudy.errors import InputError
from dsstudy.paper.printed import CELL, SETTINGS
from dsstudy.spec.engines import DEEPSPEED, NORMAL
from dsstudy.spec.trial import ARCHITECTURES


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims: its section, its words, and how it is tested."""

    section: str
    quote: str
    test: str
    judge: Callable[[Evidence], Verdict]


def judge(evidence: Evidence) -> pd.DataFrame:
    """Judge every claim.

    Returns
    -------
    pandas.DataFrame
        One row per claim: ``section``, ``quote``, ``test``, ``verdict``, ``reason``.
    """
    rows = []
    for claim in CLAIMS:
        try:
            verdict = claim.judge(evidence)
        except UndecidedError as cause:
            verdict = Verdict(OPEN, str(cause))
        rows.append((claim.section, claim.quote, claim.test, verdict.verdict, verdict.reason))
    return pd.DataFrame(rows, columns=["section", "quote", "test", "verdict", "reason"])


def judge_studies(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Judge every claim twice: on the paper's own tables, and on the records of some studies.

    Of the studies that can decide a claim, the one whose shortest training has most optimizer steps
    does: a smaller one never stands against it. Where none can, the study with most of the paper's
    cells says why.

    Parameters
    ----------
    paths
        Each as for `dsstudy.load_results`. A study with no trial in the paper's cells, or with
        several different ones in a cell, decides nothing.

    Returns
    -------
    pandas.DataFrame
        One row per claim: ``section``, ``quote``, ``test``, ``paper``, ``paper_reason``, ``study``,
        ``study_reason``; ``decided_by``, the path of the study, or None if none can.
    """
    on_tables = judge(paper_evidence())
    found = on_tables.assign(
        verdict=OPEN, reason="No study here has the paper's trials.", decided_by=None
    )
    studies = [one for path in paths if (one := _judged_study(path))]
    studies.sort(key=lambda one: one.cells)
    for one in studies:  # the last, with most cells, says why it cannot decide
        found["reason"] = one.judged["reason"]
    studies.sort(key=lambda one: one.steps)
    for one in studies:  # the last, with most steps, overrules
        decides = one.judged["verdict"] != OPEN
        found = found.where(~decides, one.judged.assign(decided_by=one.path))
    judged = on_tables.rename(columns={"verdict": "paper", "reason": "paper_reason"})
    return judged.assign(
        study=found["verdict"], study_reason=found["reason"], decided_by=found["decided_by"]
    )


class _JudgedStudy(NamedTuple):
    path: str | Path
    judged: pd.DataFrame
    steps: float  # of its shortest training
    cells: int  # of the paper's


def _judged_study(path: str | Path) -> _JudgedStudy | None:
    results = load_results(path)
    inside = results[in_paper(results)]
    try:
        evidence = study_evidence(path)
    except InputError:  # several different trials in a cell
        return None
    if inside.empty:
        return None
    steps, cells = optimizer_steps(inside).min(), len(inside.drop_duplicates(CELL))
    return _JudgedStudy(path, judge(evidence), steps, cells)


CLAIMS = [
    Claim(
        "3.2.1",
        "the best performance of different architectures is often coming from normal training",
        "For most architectures, the best normal accuracy is above the best DeepSpeed accuracy.",
        lambda study: most_beyond(best_against_best(study), above=0),
    ),
    Claim(
        "3.2.1",
        "DeepSpeed training models normally perform better when the training epoch is small, such "
        "as 1 or 2, except the VGG model",
        "Figure 1a, mean of epochs 1 and 2: DeepSpeed is ahead for most architectures other than "
        "VGG11_BN, and behind for VGG11_BN.",
        lambda study: both_hold(
            "Others",
            most_beyond(
                study.during(1, 2).gain(panel("a", (a for a in ARCHITECTURES if a != "vgg11_bn"))),
                above=0,
            ),
            "VGG11_BN",
            vote(study.during(1, 2).gain(panel("a", ["vgg11_bn"])), below=0),
        ),
    ),
    Claim(
        "3.2.1",
        "when the training epoch increases, the difference between normal and DeepSpeed training "
        "reduces",
        "Figure 1a: for most architectures the difference is smaller in the last two epochs than "
        "in the first two.",
        lead_shrinks,
    ),
    Claim(
        "3.2.1",
        "The normal training models might have a significant performance improvement than the "
        "corresponding counterpart over time, especially when the model compacity is small, such "
        "as LeNet and AlexNet",
        "Figure 1a's settings: for LeNet and AlexNet, DeepSpeed is at least 5 points below.",
        lambda study: vote(study.gain(panel("a", SMALL)), below=-SIGNIFICANT),
    ),
    Claim(
        "3.2.1",
        "for models with larger compacity, such as ResNet and DenseNet, the performance of "
        "DeepSpeed training models are consistently better",
        "Figure 1a's settings: for both, DeepSpeed's best accuracy is above normal training's.",
        lambda study: vote(study.gain(panel("a", LARGE)), above=0),
    ),
    Claim(
        "3.2.1",
        "the model compacity is small, such as LeNet and AlexNet ... larger compacity, such as "
        "ResNet and DenseNet",
        "LeNet and AlexNet have fewer parameters than ResNet-18 and DenseNet-121.",
        small_are_small,
    ),
    Claim(
        "3.2.1",
        "It seems the experiment suggests DeepSpeed may be beneficial when the model capacity is "
        "larger",
        "Figure 1a's settings: DeepSpeed's gain in accuracy rises with the number of parameters "
        "(rank correlation above zero, beyond chance among seven).",
        lambda study: trend(study.capacity(), gains_of_panel_a(study), "points gained"),
    ),
    Claim(
        "3.2.1",
        "Adam optimizer is known for achieving a better performance in a shorter time frame",
        "Normal training, mean of epochs 1 and 2: Adam+S is above SGD+S for most architectures.",
        lambda study: most_beyond(
            study.during(1, 2).gain(between_settings(NORMAL, "Adam+S", "SGD+S")), above=0
        ),
    ),
    Claim(
        "3.2.1",
        "all normal training models perform better than the corresponding DeepSpeed models",
        "SGD without scheduler (Figure 1c): DeepSpeed is below normal training for every "
        "architecture.",
        lambda study: vote(study.gain(panel("c")), below=0),
    ),
    Claim(
        "3.2.1",
        "the performance difference between the two training methods ... could be as large as more "
        "than 20% for a particular architecture",
        "SGD without scheduler: DeepSpeed is more than 20 points below for some architecture.",
        lambda study: at_least_one(study.gain(panel("c")), below=-20),
    ),
    Claim(
        "3.2.1",
        "The result is very close to Figure 1c, which uses SGD optimizer only",
        "With the scheduler, no accuracy changes by 5 points or more, under either engine.",
        unchanged,
    ),
    Claim(
        "3.2.1",
        "The WarmupLR scheduler does improve the performance of DeepSpeed models",
        "DeepSpeed: SGD+S is above SGD for every architecture.",
        lambda study: vote(study.gain(between_settings(DEEPSPEED, "SGD+S", "SGD")), above=0),
    ),
    Claim(
        "3.2.1",
        "However, the improvement is marginal, with an average of less than 1%",
        "DeepSpeed: SGD+S differs from SGD by less than 1 point on average.",
        lambda study: small_average(study.gain(between_settings(DEEPSPEED, "SGD+S", "SGD"))),
    ),
    Claim(
        "3.2.1",
        "In general, DeepSpeed models still have significantly worse performance than normal "
        "training models",
        "SGD with scheduler (Figure 1d): DeepSpeed is at least 5 points below for most "
        "architectures.",
        lambda study: most_beyond(study.gain(panel("d")), below=-SIGNIFICANT),
    ),
    Claim(
        "3.2.1",
        "the DeepSpeed models' performance improved dramatically when using Adam optimizer",
        "DeepSpeed: Adam+S is at least 10 points above SGD+S for every architecture.",
        lambda study: vote(
            study.gain(between_settings(DEEPSPEED, "Adam+S", "SGD+S")), above=DRAMATIC
        ),
    ),
    Claim(
        "3.2.1",
        "the performance of DeepSpeed trained ResNet is improved from about 57% accuracy to close "
        "to 80%",
        "DeepSpeed: ResNet-18 with Adam+S is at least 10 points above SGD+S.",
        lambda study: vote(
            study.gain(between_settings(DEEPSPEED, "Adam+S", "SGD+S", ["resnet18"])),
            above=DRAMATIC,
        ),
    ),
    Claim(
        "3.2.1",
        "this performance improvement is not limited to DeepSpeed models. The normal training "
        "ResNet model is also improved",
        "Normal training: ResNet-18 with Adam+S is at least 10 points above SGD+S.",
        lambda study: vote(
            study.gain(between_settings(NORMAL, "Adam+S", "SGD+S", ["resnet18"])),
            above=DRAMATIC,
        ),
    ),
    Claim(
        "3.2.1",
        "Similarly, with SGD settings, the normal training models have better performance than the "
        "DeepSpeed training models",
        "Adam with scheduler (Figure 1b): DeepSpeed is below normal training for every "
        "architecture.",
        lambda study: vote(study.gain(panel("b")), below=0),
    ),
    Claim(
        "3.2.2",
        "normal training is faster for almost all of the convolutional neural network models",
        "Normal training is faster in all but at most one of the 18 CNN pairs.",
        lambda study: vote(study.ratio(between_engines(CNNS)), above=1, exceptions=1),
    ),
    Claim(
        "3.2.2",
        "except DenseNet-121 with Adam optimizer",
        "DeepSpeed trains DenseNet-121 with Adam+S faster than normal training does.",
        lambda study: vote(study.ratio(between_engines(["densenet121"], ["Adam+S"])), below=1),
    ),
    Claim(
        "3.2.2",
        "for almost all the convolutional neural network models, DeepSpeed training may take a "
        "significantly longer time",
        "DeepSpeed takes at least a fifth longer in all but at most one of the 18 CNN pairs.",
        lambda study: vote(study.ratio(between_engines(CNNS)), above=LONGER, exceptions=1),
    ),
    Claim(
        "3.2.2",
        "especially for AlexNet, the training time event got almost tripled",
        "DeepSpeed takes at least 2.7 times as long (3 less a tenth) for AlexNet in every setting.",
        lambda study: vote(study.ratio(between_engines(["alexnet"])), above=3 * 0.9),
    ),
    Claim(
        "3.2.2",
        "when evaluating the training time of ViT models, DeepSpeed shows a clear advantage",
        "DeepSpeed trains the ViT faster in every setting.",
        lambda study: vote(study.ratio(between_engines(["vit"])), below=1),
    ),
    Claim(
        "3.2.2",
        "which usually takes only 2/3 of the training time compared with normal training",
        "DeepSpeed takes at most 0.73 of the time (2/3 and a tenth of it) for the ViT in most "
        "settings.",
        lambda study: most_beyond(study.ratio(between_engines(["vit"])), below=2 / 3 * 1.1),
    ),
    Claim(
        "3.3",
        "the DeepSpeed library does not be very helpful for CNNs",
        "In most of the 18 CNN pairs DeepSpeed is the less accurate, and in most the slower.",
        lambda study: both_hold(
            "Less accurate",
            most_beyond(study.gain(between_engines(CNNS)), below=0),
            "Slower",
            most_beyond(study.ratio(between_engines(CNNS)), above=1),
        ),
    ),
    Claim(
        "3.3",
        "but it works well for ViT",
        "In every setting DeepSpeed trains the ViT faster, and not less accurately.",
        lambda study: both_hold(
            "Faster",
            vote(study.ratio(between_engines(["vit"])), below=1),
            "Less accurate",
            none_beyond(study.gain(between_engines(["vit"])), below=0),
        ),
    ),
    Claim(
        "3.3",
        "DeepSpeed reduces the training time of ViT models by up to 40%",
        "In some setting DeepSpeed saves at least 36 % of the ViT's time (40 % less a tenth): a "
        "ratio of at most 0.64.",
        lambda study: at_least_one(study.ratio(between_engines(["vit"])), below=1 - 0.4 * 0.9),
    ),
    Claim(
        "3.3",
        "However, it does not help for most CNN models",
        "Normal training is the faster in most of the 18 CNN pairs.",
        lambda study: most_beyond(study.ratio(between_engines(CNNS)), above=1),
    ),
    Claim(
        "3.3",
        "models with larger capacity may be benefited more from using DeepSpeed",
        "Normal training's time over DeepSpeed's, the mean of the settings, rises with the number "
        "of parameters (rank correlation above zero, beyond chance among seven).",
        lambda study: trend(study.capacity(), speedups(study), "speed-up"),
    ),
    Claim(
        "3.3",
        "if we compare the ViT classification performance against all other neural network "
        "architectures ... a bigger performance improvement is observed when using DeepSpeed",
        "In every setting the ViT's rank in accuracy is better with DeepSpeed than without.",
        vit_gains_ranks,
    ),
    Claim(
        "3.3",
        "without using DeepSpeed, ViT has the worst performance regardless of the optimizer and "
        "scheduler",
        "In every setting of normal training the ViT's rank in accuracy is 7 of 7.",
        lambda study: vit_is(7, study, NORMAL, SETTINGS),
    ),
    Claim(
        "3.3",
        "with using DeepSpeed, ViT performed the 3rd best amount of all the tested architectures "
        "when using SGD as the optimizer",
        "With DeepSpeed and SGD, with and without scheduler, the ViT's rank in accuracy is 3 of 7.",
        lambda study: vit_is(3, study, DEEPSPEED, ["SGD", "SGD+S"]),
    ),
    Claim(
        "3.3",
        "the DeepSpeed library is designed only for neural networks beyond the normal training "
        "scale",
        "A hypothesis: it would take networks that one GPU cannot train.",
        beyond_scale,
    ),
    Claim(
        "4",
        "DeepSpeed may improve model performance while reducing training time in cases where the "
        "model capacity is large",
        "For an architecture other than LeNet and AlexNet, in at least one setting, DeepSpeed is "
        "both more accurate and faster.",
        both_better,
    ),
    Claim(
        "4",
        "it has no or negative impact on those models with smaller capacity",
        "For LeNet and AlexNet, in no setting is DeepSpeed more accurate, and in none faster.",
        lambda study: both_hold(
            "More accurate",
            none_beyond(study.gain(between_engines(SMALL)), above=0),
            "Faster",
            none_beyond(study.ratio(between_engines(SMALL)), below=1),
        ),
    ),
]
"""The claims in the paper's order."""
