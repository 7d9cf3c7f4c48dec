"""Images that stay in the cache: the same batches as from memory, and nothing held."""

import gc
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from image_folders import folder_trial, noise_folder

from dsstudy.errors import InputError
from dsstudy.images import pixels
from dsstudy.images.cached_images import CachedImages
from dsstudy.images.data import Split, data_facts, load_data
from dsstudy.images.image_cache import cache_folder
from dsstudy.images.pixels import fits_with_room, one_ahead, placed_images

CPU = torch.device("cpu")


@pytest.fixture
def trial(tmp_path):
    """Return a trial of a folder of 12 training images of noise, each one different."""
    return folder_trial(noise_folder(tmp_path / "noise"))


def cache_file(trial) -> Path:
    return cache_folder() / data_facts(trial).fingerprint / "train.npy"


@pytest.mark.parametrize("size", [32, 48])  # 48: the batches are scaled
@pytest.mark.parametrize("train_images", ["all", 7])
def test_batches_from_the_cache_equal_those_from_memory(trial, size, train_images):
    """Records must not depend on where the images are kept."""
    data = load_data(trial.model_copy(update={"train_images": train_images}))
    in_memory = Split(data.train.images, data.train.labels)
    assert isinstance(data.train.source, CachedImages)
    groups = list(torch.randperm(len(data.train)).split(3))
    made = zip(data.train.batches(groups, size), in_memory.batches(groups, size), strict=True)
    for (images, labels), (expected_images, expected_labels) in made:
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


def test_a_subset_has_the_images_that_a_copy_would_have(trial):
    whole, some = load_data(trial).train, load_data(trial.model_copy(update={"train_images": 7}))
    for image, label in zip(some.train.images, some.train.labels, strict=True):
        (place,) = [i for i, other in enumerate(whole.images) if torch.equal(image, other)]
        assert whole.labels[place] == label
    assert len(some.train.images.unique(dim=0)) == 7


def test_loading_reads_no_image_and_a_batch_reads_only_its_own(trial, monkeypatch):
    """Each rank used to copy the whole data set."""
    read = []

    def preadv(file, buffers, place):
        read.extend(len(buffer.tobytes()) for buffer in buffers)
        return real(file, buffers, place)

    real = os.preadv
    monkeypatch.setattr(os, "preadv", preadv)
    data = load_data(trial.model_copy(update={"train_images": 8}))
    assert not read
    data.train.batch(torch.tensor([5, 0]), 32)
    assert read == [3 * 32 * 32] * 2


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_goes_from_the_cache_stays_readable(trial, how):
    """Somebody may clear the cache, or another process repair it, while a trial runs."""
    split, file = load_data(trial).train, cache_file(trial)
    before = split.images
    if how == "deleted":
        shutil.rmtree(file.parent)
    else:
        np.save(file.with_name("other.npy"), np.zeros((12, 3, 32, 32), np.uint8))
        file.with_name("other.npy").replace(file)
    assert torch.equal(split.images, before)


def test_a_file_that_is_cut_off_while_it_is_used_is_one_sentence(trial):
    """Through a memory map this would be SIGBUS, the end of the process."""
    split, file = load_data(trial).train, cache_file(trial)
    batches = split.batches(torch.arange(12).split(2), 32)
    next(batches)
    os.truncate(file, 5000)
    with pytest.raises(InputError, match=r"train\.npy can no longer be read \(it was cut off\)"):
        list(batches)


def test_a_disk_that_fails_is_one_sentence(trial, monkeypatch):
    split = load_data(trial).train

    def preadv(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(InputError, match=r"can no longer be read \(Input/output error\)"):
        split.batch(torch.tensor([0]), 32)


def test_files_are_closed_with_the_last_of_their_images(trial):
    """A study loads a data set for each of its trials: open files must not pile up."""
    load_data(trial)
    gc.collect()
    before = psutil.Process().num_fds()
    some = load_data(trial.model_copy(update={"train_images": 7})).train  # shares the whole's file
    assert psutil.Process().num_fds() == before + 1
    some.batch(torch.tensor([6]), 32)
    del some
    gc.collect()
    assert psutil.Process().num_fds() == before


def test_the_facts_are_those_of_the_data(trial):
    data, facts = load_data(trial), data_facts(trial)
    assert (facts.name, facts.fingerprint) == (data.name, data.fingerprint)
    assert (facts.classes, facts.train_images, facts.test_images) == (data.classes, 12, 12)


def test_the_next_group_is_read_while_one_is_used():
    started = [threading.Event() for _ in range(4)]

    def read(number: int) -> int:
        started[number].set()
        return number

    for number in one_ahead(read, range(4)):
        if number < 3:
            assert started[number + 1].wait(60)  # it never would be if the caller had to ask first


def test_what_is_read_ahead_keeps_its_order_and_its_errors():
    assert list(one_ahead(lambda number: 10 * number, range(5))) == [0, 10, 20, 30, 40]
    assert list(one_ahead(str, [])) == []
    quotients = one_ahead(lambda number: 6 // number, [2, 1, 0])
    assert [next(quotients), next(quotients)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(quotients)


@pytest.mark.parametrize(
    ("need", "free", "fits"),
    [(0, 0, True), (6, 24, True), (7, 24, False), (24, 24, False), (1, 0, False)],
)
def test_images_fit_into_a_gpu_only_with_room_for_the_training(need, free, fits):
    assert fits_with_room(need * 2**30, free * 2**30) is fits


@pytest.mark.parametrize("free", [0, 2**40])
def test_a_gpu_streams_images_for_which_it_has_no_room(trial, monkeypatch, free):
    """The decision alone, as this must pass without a GPU."""
    sources = [load_data(trial).train.source, torch.zeros(4, 3, 32, 32, dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    monkeypatch.setattr(pixels, "_copied", lambda source, device: "resident")
    placed = placed_images(sources, torch.device("cuda"))
    assert placed == (["resident", "resident"] if free else sources)
    assert placed_images(sources, CPU) is sources  # the CPU reads them where they are


def test_a_gpu_that_is_full_after_all_streams_images(monkeypatch):
    """Another process may take its memory between the question and the copy."""

    def full(source, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    sources = [torch.zeros(4, 3, 32, 32, dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    monkeypatch.setattr(pixels, "_copied", full)
    assert placed_images(sources, torch.device("cuda")) is sources


def test_images_are_copied_in_parts_to_where_they_stay(trial, monkeypatch):
    """The copy must not need memory for all images at once on this side."""
    source = load_data(trial).train.source
    monkeypatch.setattr(pixels, "BYTES_AT_ONCE", 5 * 3 * 32 * 32)
    sizes, real = [], pixels.host_images

    def host_images(source, indices):
        sizes.append(len(indices))
        return real(source, indices)

    monkeypatch.setattr(pixels, "host_images", host_images)
    copied = pixels._copied(source, CPU)
    assert sizes == [5, 5, 2]
    assert torch.equal(copied, real(source, torch.arange(12)))
