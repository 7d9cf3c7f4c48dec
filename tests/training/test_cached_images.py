"""Training from the cache: the same records as from memory, and faults in one sentence."""

import os

import numpy as np
import pytest
import torch
from image_folders import folder_trial, noise_folder

from dsstudy.images import data
from dsstudy.images.cached_images import CachedImages
from dsstudy.images.data import load_data
from dsstudy.images.image_cache import cache_folder
from dsstudy.images.pixels import host_images
from dsstudy.launching.launcher import InterruptedTrialError, TrialError
from dsstudy.launching.run import run_trial
from dsstudy.training import rank


@pytest.fixture
def trial(tmp_path):
    """Return a function that makes a trial of 12 images, with its record in a folder of its own."""
    root = noise_folder(tmp_path / "noise")

    def make(name: str, **parameters):
        own = {"epochs": 2, "output_dir": str(tmp_path / name)}
        return folder_trial(root, **(own | parameters))

    return make


def assert_same(one, other) -> None:
    assert np.array_equal(one.steps()["loss"], other.steps()["loss"])
    assert np.array_equal(one.predictions(), other.predictions())
    for key in ("train_loss", "test_loss", "test_accuracy"):
        assert [epoch[key] for epoch in one.epochs()] == [epoch[key] for epoch in other.epochs()]


@pytest.mark.parametrize("evaluation", ["eval", "train"])
def test_records_do_not_depend_on_where_images_are_kept(trial, monkeypatch, evaluation):
    """Published records were made with all images in memory."""
    given = {"evaluation": evaluation, "image_size": 40}
    from_cache = run_trial(trial("cache", **given))

    def in_memory(sources, device):
        return [host_images(source, torch.arange(len(source))) for source in sources]

    monkeypatch.setattr(data, "placed_images", in_memory)
    assert_same(from_cache, run_trial(trial("memory", **given)))


def test_two_ranks_train_from_one_cache(trial):
    one = run_trial(trial("one", engine="ddp"))
    two = run_trial(trial("two", engine="ddp", processes=2))
    np.testing.assert_allclose(two.steps()["loss"], one.steps()["loss"], rtol=1e-4)


def test_a_trial_whose_cache_is_cut_off_says_so_and_is_resumed(trial, monkeypatch):
    whole = run_trial(trial("whole"))
    file = cache_folder() / load_data(trial("whole")).fingerprint / "train.npy"
    real, calls = CachedImages.read_into, []

    def read_into(images, *arguments):
        calls.append(images)
        if len(calls) == 3:  # training and evaluation of the first epoch are over
            os.truncate(file, 1000)
        return real(images, *arguments)

    monkeypatch.setattr(CachedImages, "read_into", read_into)
    with pytest.raises(InterruptedTrialError, match=r"train\.npy can no longer be read"):
        run_trial(trial("cut"))
    assert_same(whole, run_trial(trial("cut")))


def test_a_gpu_that_runs_out_of_memory_says_what_to_do(trial, monkeypatch):
    """torch raises this error for any device; its message is what torch says of a GPU."""

    def train(*_):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB"
        )

    monkeypatch.setattr(rank, "training_loop", lambda engine: train)
    with pytest.raises(TrialError) as raised:
        run_trial(trial("full"))
    last = str(raised.value).splitlines()[-1]
    assert "(CUDA out of memory. Tried to allocate 2.00 GiB): set a smaller batch_size" in last
