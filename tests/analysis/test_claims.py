"""The paper's claims, judged: by hand on its own tables, and on records made for the purpose."""

from dataclasses import replace

import pytest
from studies import ACCURACY, trial_of, write_record, write_study

from dsstudy.analysis.claims.claims import CLAIMS, judge, judge_studies
from dsstudy.analysis.claims.evidence import paper_evidence, study_evidence
from dsstudy.analysis.claims.verdicts import FAILS, HOLDS, OPEN, vote

# A word or two of each claim, in the paper's order; the verdict read off the printed tables.
BY_HAND = [
    ("is often coming from normal training", HOLDS),  # seven bold numbers of seven on the right
    ("when the training epoch is small", OPEN),  # needs curves
    ("training reduces", OPEN),  # needs curves
    ("small, such as LeNet and AlexNet", HOLDS),  # 65.62 - 58.37, 82.60 - 62.56
    ("larger compacity, such as ResNet", HOLDS),  # 79.72 > 73.46, 80.70 > 75.61
    ("... larger compacity", FAILS),  # AlexNet: 57 million, DenseNet-121: 7
    ("It seems the experiment suggests", FAILS),  # VGG11_BN and ViT, the largest, lose most
    ("in a shorter time frame", OPEN),  # needs curves
    ("all normal training models", HOLDS),
    ("more than 20%", HOLDS),  # 75.61 - 52.70
    ("very close to Figure 1c", HOLDS),  # the largest change: 75.61 to 70.86
    ("WarmupLR scheduler does improve", FAILS),  # LeNet 58.41 to 57.15
    ("an average of less than 1%", HOLDS),  # (-1.26+1.25-0.15+0.71+0.36-0.31+0.53) / 7 = 0.16
    ("significantly worse performance", HOLDS),  # all but the ViT
    ("improved dramatically", FAILS),  # VGG11_BN 66.11 to 10.28
    ("close to 80%", HOLDS),
    ("not limited to DeepSpeed models", HOLDS),  # 70.43 to 80.69
    ("Similarly, with SGD settings", HOLDS),
    ("faster for almost all", HOLDS),
    ("except DenseNet-121 with Adam", HOLDS),  # 288.87 < 318.77
    ("significantly longer time", FAILS),  # VGG11_BN with Adam: 219.27 / 185.93 = 1.18
    ("almost tripled", FAILS),  # 97.95 / 48.61 = 2.02
    ("shows a clear advantage", HOLDS),
    ("2/3 of the training time", HOLDS),  # 0.73, 0.68, 0.60
    ("not be very helpful for CNNs", HOLDS),
    ("works well for ViT", FAILS),  # faster, but 58.87 < 61.22
    ("by up to 40%", HOLDS),  # 225.54 / 376.50 = 0.60
    ("does not help for most CNN", HOLDS),
    ("may be benefited more", FAILS),  # VGG11_BN, the largest, is 1.4 times as slow
    ("a bigger performance improvement", HOLDS),  # ranks 3, 3, 6 against 7, 7, 7
    ("ViT has the worst performance", HOLDS),
    ("3rd best amount", HOLDS),
    ("beyond the normal training scale", OPEN),
    ("while reducing training time", FAILS),  # nowhere both
    ("no or negative impact", HOLDS),
]


@pytest.fixture(scope="module")
def on_paper():
    """Return the claims as judged on the paper's own tables."""
    return judge(paper_evidence())


def test_every_claim_on_the_papers_own_tables(on_paper):
    assert len(on_paper) == len(CLAIMS) == len(BY_HAND)
    for claim, (words, verdict) in zip(on_paper.itertuples(), BY_HAND, strict=True):
        assert words in claim.quote
        assert claim.verdict == verdict, (claim.quote, claim.reason)


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("an average of less than 1%", "+0.16 points"),
        ("improved dramatically", "3 of 7: LeNet +1.22, AlexNet +0.92, VGG11_BN −55.83"),
        ("significantly longer time", "VGG11_BN Adam+S 1.18"),
        ("may be benefited more", "Rank correlation −0.14"),
        ("3rd best amount", "SGD 3, SGD+S 3"),
        ("while reducing training time", "more accurate in 0, faster in 4, both in 0"),
    ],
)
def test_reasons_hold_the_numbers(on_paper, words, numbers):
    (claim,) = (c for c in on_paper.itertuples() if words in c.quote)
    assert numbers in claim.reason


def test_a_study_with_the_papers_numbers_never_contradicts_it(tmp_path):
    judged = judge_studies([write_study(tmp_path, gpus=2)])
    decided = judged[(judged["paper"] != OPEN) & (judged["study"] != OPEN)]
    assert (decided["paper"] == decided["study"]).all()
    # The paper's bare numbers decide more: here, the sampling error of 10,000 images counts, and
    # differences near chance do not.
    assert len(decided) == 24


def verdicts(path, word: str) -> set[str]:
    """Return the verdicts of all claims whose test contains a word."""
    judged = judge(study_evidence(path))
    return set(judged.loc[judged["test"].str.contains(word), "verdict"])


def test_synthetic_images_decide_nothing_about_the_paper(tmp_path):
    judged = judge(study_evidence(write_study(tmp_path, dataset="synthetic")))
    decided = judged[judged["verdict"] != OPEN]
    assert list(decided["test"]) == [
        "LeNet and AlexNet have fewer parameters than ResNet-18 and DenseNet-121."
    ]
    assert "The images are synthetic." in set(judged["reason"])


def test_a_training_that_has_only_begun_decides_times_but_no_accuracies(tmp_path):
    path = write_study(tmp_path, gpus=2, epochs=2)  # 6,250 of the paper's 78,125 steps
    assert verdicts(path, "points") == {OPEN}
    assert verdicts(path, "faster in every setting|fifth longer") == {HOLDS, FAILS}


def test_processes_that_share_a_device_decide_nothing_about_times(tmp_path):
    path = write_study(tmp_path)
    assert verdicts(path, "faster in every setting|fifth longer") == {OPEN}
    reasons = set(judge(study_evidence(path))["reason"])
    assert "2 processes shared one device: no time shows what a second device brings." in reasons


def test_the_study_with_most_steps_decides_and_the_one_with_most_cells_says_why_not(tmp_path):
    # The small study has all cells but too few steps; the large one has LeNet and AlexNet alone.
    small = write_study(tmp_path / "small", epochs=1)
    large = tmp_path / "large"
    for cell in ACCURACY:
        if cell[0] in ("lenet", "alexnet"):
            write_record(large, trial_of(cell), gpus=2)
    judged = judge_studies([small, large]).set_index("test")
    decided = judged[judged.index.str.contains("For LeNet and AlexNet, in no setting")].iloc[0]
    assert (decided["study"], decided["decided_by"]) == (HOLDS, large)
    undecided = judged[judged.index.str.contains("Figure 1c")].iloc[0]
    assert undecided["study"] == OPEN
    assert "Its shortest trial makes 3,125 optimizer steps" in undecided["study_reason"]


def test_trials_at_chance_decide_nothing_about_accuracies(tmp_path):
    for cell in ACCURACY:
        write_record(tmp_path, trial_of(cell), best_accuracy=11.0)
    judged = judge(study_evidence(tmp_path))
    assert "Only 0 of 42 finished trials are clearly above chance." in set(judged["reason"])


def test_shared_times_and_missing_trials_are_named(tmp_path):
    vit, lenet = ("vit", "normal", "SGD"), ("lenet", "normal", "SGD")
    write_study(tmp_path, leave_out=(vit, lenet), gpus=2)
    write_record(tmp_path, trial_of(vit), gpus=2, timing="shared")
    reasons = set(judge(study_evidence(tmp_path))["reason"])
    assert "No value for normal ViT, SGD (shared)." in reasons
    assert "No value for normal LeNet, SGD (missing)." in reasons


def test_a_stand_in_says_nothing_about_the_papers_network(tmp_path):
    cell = ("vit", "normal", "SGD")
    write_study(tmp_path, leave_out=(cell,))
    write_record(tmp_path, trial_of(cell, model="timm/vit_tiny_patch16_224", architecture="vit"))
    assert verdicts(tmp_path, "number of parameters|ViT") == {OPEN}


def test_a_difference_counts_only_beyond_its_spread_over_seeds(tmp_path):
    gains = {"sure": (3.0, 3.1, 2.9), "unsure": (6.0, -3.0, 0.5)}
    for name, differences in gains.items():
        for seed, gain in enumerate(differences):
            for engine, accuracy in (("normal", 70.0), ("deepspeed", 70.0 - gain)):
                trial = trial_of(("resnet18", engine, "SGD"), seed=seed)
                write_record(tmp_path / name, trial, best_accuracy=accuracy)
    pair = [("ResNet-18", ("resnet18", "normal", "SGD"), ("resnet18", "deepspeed", "SGD"))]
    sure, unsure = (study_evidence(tmp_path / name).gain(pair).iloc[0] for name in gains)
    assert sure["value"] == pytest.approx(3.0)
    assert sure["low"] > 0
    assert unsure["value"] == pytest.approx(7 / 6)
    assert unsure["low"] < 0


def test_curves_decide_what_tables_cannot(tmp_path):
    write_study(tmp_path)
    evidence = study_evidence(tmp_path)
    deepspeed = evidence.curves["engine"] == "deepspeed"
    vgg = evidence.curves["architecture"] == "vgg11_bn"
    early = evidence.curves["epoch"] <= 2
    evidence.curves.loc[:, "value"] = 50.0
    evidence.curves.loc[early & deepspeed & ~vgg, "value"] = 60.0
    evidence.curves.loc[early & deepspeed & vgg, "value"] = 40.0
    verdict = judge(evidence).set_index("test")["verdict"]
    (ahead,) = verdict[verdict.index.str.contains("mean of epochs 1 and 2: DeepSpeed is ahead")]
    (shrinks,) = verdict[verdict.index.str.contains("smaller in the last two epochs")]
    assert (ahead, shrinks) == (HOLDS, HOLDS)


def test_the_difference_of_two_accuracies_near_chance_decides_nothing(tmp_path):
    pair = [("LeNet", ("lenet", "deepspeed", "SGD"), ("lenet", "normal", "SGD"))]
    for accuracy, decided in ((19.0, False), (40.0, True)):
        root = tmp_path / str(accuracy)
        write_record(root, trial_of(pair[0][1]), best_accuracy=10.0)
        write_record(root, trial_of(pair[0][2]), best_accuracy=accuracy)
        # Only this pair is in doubt, not the study as a whole.
        found = replace(study_evidence(root), doubts={}).gain(pair)
        assert vote(found, below=0).verdict == (HOLDS if decided else OPEN)
        assert ("near chance" in found["text"]["LeNet"]) != decided
