import hashlib
import pickle
import shutil

import numpy as np
import pytest
import torch
from image_folders import folder_trial
from PIL import Image
from torchvision import datasets

from dsstudy.errors import InputError
from dsstudy.images.data import balanced_subset, epoch_order, load_data, rank_batches
from dsstudy.images.image_cache import cache_folder
from dsstudy.spec.trial import Trial


def test_order_is_a_function_of_seed_and_epoch_alone():
    order = epoch_order(100, seed=3, epoch=2)
    torch.manual_seed(1)
    assert torch.equal(order, epoch_order(100, seed=3, epoch=2))
    assert sorted(order.tolist()) == list(range(100))
    assert not torch.equal(order, epoch_order(100, seed=3, epoch=3))
    assert not torch.equal(order, epoch_order(100, seed=4, epoch=2))


def test_ranks_share_each_global_batch_without_overlap():
    order = epoch_order(100, seed=0, epoch=1)
    whole = rank_batches(order, 16)
    shares = [rank_batches(order, 16, rank, processes=4) for rank in range(4)]
    assert len(whole) == 6  # four images are left over
    for step, batch in enumerate(whole):
        assert torch.equal(batch, torch.cat([share[step] for share in shares]))


def test_subset_is_balanced_and_constant():
    labels = np.repeat([0, 1, 2], [50, 30, 4])
    chosen = balanced_subset(labels, 24)
    assert np.bincount(labels[chosen]).tolist() == [10, 10, 4]
    assert np.array_equal(chosen, balanced_subset(labels, 24))
    assert len(np.unique(chosen)) == 24


def test_synthetic_images_are_the_same_everywhere():
    data = load_data(Trial(train_images=200, test_images=100))
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.shape == (200, 3, 32, 32)
    assert torch.bincount(data.train.labels).tolist() == [20] * 10
    assert torch.equal(data.train.images, load_data(Trial(train_images=200)).train.images)
    assert data.fingerprint == load_data(Trial(train_images=200, test_images=100)).fingerprint


def test_batches_are_normalised_and_sized():
    data = load_data(Trial(train_images=32, test_images=10))
    indices = torch.tensor([3, 1])
    images, labels = data.train.batch(indices, 32)
    assert torch.equal(labels, data.train.labels[indices])
    expected = (data.train.images[indices].double() / 255 - 0.5) / 0.5
    assert torch.allclose(images.double(), expected, atol=1e-6)
    larger, _ = data.train.batch(indices, 64, torch.bfloat16)
    assert larger.shape == (2, 3, 64, 64)
    assert larger.dtype == torch.bfloat16


def test_image_folder_is_decoded_once_and_keyed_by_its_content(image_folder, tmp_path):
    data = load_data(folder_trial(image_folder))
    assert data.name == "shapes"
    assert data.classes == ["disc", "square"]
    assert (len(data.train), len(data.test)) == (20, 10)
    first = sorted((image_folder / "train" / "disc").iterdir())[0]
    expected = np.asarray(Image.open(first)).transpose(2, 0, 1)
    assert np.array_equal(data.train.images[0].numpy(), expected)

    copy = shutil.copytree(image_folder, tmp_path / "copy")
    entries = set(cache_folder().iterdir())
    assert load_data(folder_trial(copy)).fingerprint == data.fingerprint
    assert load_data(folder_trial(copy, image_size=64)).fingerprint == data.fingerprint
    assert set(cache_folder().iterdir()) == entries  # nothing was decoded again
    Image.new("RGB", (32, 32)).save(copy / "train" / "disc" / first.name)
    changed = load_data(folder_trial(copy))
    assert changed.fingerprint != data.fingerprint
    assert changed.train.images[0].max() == 0


def test_images_of_several_sizes_are_scaled_to_the_input(image_folder, tmp_path):
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    Image.new("L", (50, 20), 200).save(copy / "train" / "disc" / "grey.bmp")
    data = load_data(folder_trial(copy, image_size=40))
    assert data.train.images.shape == (21, 3, 40, 40)
    assert (data.train.images == 200).all(dim=(1, 2, 3)).sum() == 1


def test_damaged_or_missing_images_are_named(image_folder, tmp_path):
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    (copy / "test" / "disc" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.jpg, which is not a readable image"):
        load_data(folder_trial(copy))
    (copy / "test" / "disc" / "broken.jpg").unlink()
    (copy / "test" / "cat").mkdir()
    with pytest.raises(InputError, match="no images in train/cat: give both splits"):
        load_data(folder_trial(copy))
    (copy / "test" / "cat").rmdir()
    shutil.rmtree(copy / "test" / "square")  # the archive's last folder, say
    with pytest.raises(InputError, match="no images in test/square: give both splits"):
        load_data(folder_trial(copy))
    shutil.rmtree(copy / "test")
    with pytest.raises(InputError, match="has no folder test"):
        load_data(folder_trial(copy))
    assert not list(cache_folder().glob("decoding-*"))


def test_too_many_images_are_refused(image_folder):
    with pytest.raises(InputError, match="train_images=21 is more than the data set has"):
        load_data(folder_trial(image_folder, train_images=21))
    with pytest.raises(InputError, match="batch_size=32 is more than the 20"):
        load_data(folder_trial(image_folder, batch_size=32))


def test_cifar_is_read_from_torchvisions_own_format(tmp_path, monkeypatch):
    """The files of CIFAR-10 as torchvision unpacks them, with other pixels.

    torchvision accepts only files with the hashes that it knows, so the test replaces
    them.
    """
    rng = np.random.default_rng(0)
    base = tmp_path / datasets.CIFAR10.base_folder
    base.mkdir()

    def write(name: str, content: dict) -> list[str]:
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def batch() -> dict:
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        return {"data": pixels, "labels": [i % 10 for i in range(20)]}

    content = batch()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [write("data_batch_1", content)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test_batch", batch())])
    names = {"label_names": [f"class{i}" for i in range(10)]}
    name, md5 = write("batches.meta", names)
    meta = {"filename": name, "key": "label_names", "md5": md5}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)

    data = load_data(Trial(dataset="cifar10", data_dir=str(tmp_path)))
    assert data.name == "cifar10"
    assert data.classes == names["label_names"]
    assert np.array_equal(data.train.images.numpy(), content["data"].reshape(20, 3, 32, 32))
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_absent_cifar_says_how_to_get_it(dataset):
    with pytest.raises(InputError, match=f"download it with 'make {dataset}'"):
        load_data(Trial(dataset=dataset))
