"""Networks of a user's own: what is wrong with one is known, and said, before it is trained."""

import numpy as np
import pytest
import torch

from dsstudy.errors import InputError
from dsstudy.launching.launcher import TrialError
from dsstudy.launching.run import run_trial
from dsstudy.spec.trial import Trial
from dsstudy.training.model_check import check_model
from dsstudy.training.models import build_model, parameter_count

FEW = {"train_images": 64, "test_images": 20, "epochs": 2, "image_size": 32}
TWO = {"processes": 2, "batch_size": 16}


@pytest.fixture(autouse=True)
def nets(monkeypatch):
    """Let ranks find the module too, as those of a user in its folder do."""
    import nets as module

    monkeypatch.setenv("PYTHONPATH", str(module.__file__).rpartition("/")[0])


def trial_of(net: str, tmp_path, **parameters) -> Trial:
    return Trial(
        **({"model": f"nets:{net}", "output_dir": str(tmp_path / "trial")} | FEW | parameters)
    )


@pytest.mark.parametrize(
    ("net", "parameters", "sentence"),
    [
        ("twelve", {}, r"in train\(\) mode it returns \(2, 12\) for 2 images of 10 classes"),
        ("Pair", {}, r"in train\(\) mode it returns a tuple"),
        ("double", {}, r"fails in train\(\) mode for 2 images, float32 .*(float|double)"),
        ("raising", {}, r"fails in train\(\) mode .*KeyError: 'no such layer'; correct"),
        ("Unspeakable", {}, r"fails in train\(\) mode .*UnspeakableError; correct"),
        ("frozen", {}, "has no trainable parameter"),
        ("parsing", {}, "ends the process, as a parser of command lines does: .*arguments"),
        ("Scaled", {"engine": "deepspeed"}, r"single numbers \(scale\).*shape \(1,\), or set"),
        ("Unused", {"engine": "ddp"},
         r"no part in its scores \(extra.weight, extra.bias, head.weight and 1 more\), which "
         "engine=ddp does not allow: remove them, .*, or set engine to normal or deepspeed"),
        ("normalised", {"batch_size": 2, "engine": "ddp", "processes": 2},
         "batch_size=2 leaves one image per rank .*set batch_size to at least 4"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_trained(tmp_path, net, parameters, sentence):
    trial = trial_of(net, tmp_path, **parameters)
    with pytest.raises(InputError, match=sentence):
        run_trial(trial)
    assert not trial.folder.exists()


def test_the_data_sets_classes_count(tmp_path):
    check_model(trial_of("twelve", tmp_path), classes=12)
    with pytest.raises(InputError, match="not numbers of shape"):
        check_model(trial_of("twelve", tmp_path), classes=10)


def test_a_lazy_net_has_its_seeds_weights_as_soon_as_it_is_built(tmp_path):
    trial = trial_of("lazy", tmp_path)
    first, again = (build_model(trial, 10) for _ in range(2))
    assert parameter_count(first) == 4 * 28 + 8 + 10 * (4 * 8 * 8 + 1)
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert first.training
    assert first[1].num_batches_tracked == 0


@pytest.mark.parametrize("net", ["lazy", "channels_last", "transposed", "one_number"])
def test_deepspeed_trains_what_normal_training_does(tmp_path, net):
    losses = [
        run_trial(trial_of(net, tmp_path, output_dir=str(tmp_path / name), **engine)).steps()[
            "loss"
        ]
        for name, engine in {"one": {}, "two": {"engine": "deepspeed", **TWO}}.items()
    ]
    # With batch normalisation, each rank normalises its own half of a batch.
    exact = 2e-2 if net == "lazy" else 1e-5
    np.testing.assert_allclose(losses[0], losses[1], rtol=exact)


def test_ranks_that_train_models_of_their_own_fail_the_trial(tmp_path):
    with pytest.raises(TrialError, match="the ranks hold different weights .* first scale"):
        run_trial(trial_of("wandering", tmp_path, engine="ddp", **TWO))


def test_a_last_batch_of_one_image_is_no_batch_of_its_own(tmp_path):
    record = run_trial(trial_of("normalised", tmp_path, evaluation="train", test_images=33))
    assert len(record.predictions()) == 33
    with pytest.raises(InputError, match="test_images=1 is too few for evaluation=train"):
        run_trial(trial_of("normalised", tmp_path, evaluation="train", test_images=1,
                           output_dir=str(tmp_path / "one")))  # fmt: skip


def test_a_net_that_was_changed_since_its_checkpoint_is_named(tmp_path, monkeypatch):
    import nets

    trial = trial_of("plain", tmp_path)
    record = run_trial(trial)
    (record.folder / "result.json").unlink()
    (record.folder / "epochs.jsonl").write_text(
        (record.folder / "epochs.jsonl").read_text().splitlines()[0] + "\n"
    )
    wider = torch.nn.Sequential(*nets.plain(10), torch.nn.Linear(10, 10))
    monkeypatch.setattr(nets, "plain", lambda num_classes: wider)
    with pytest.raises(TrialError, match="does not fit model=nets:plain, whose code has changed"):
        run_trial(trial)
