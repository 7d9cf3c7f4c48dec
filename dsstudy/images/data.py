"""Data sets: uint8 images and labels, made into batches on the training device."""

import hashlib
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dsstudy.errors import InputError
from dsstudy.images.cached_images import CachedImages
from dsstudy.images.image_folder import load_image_folder
from dsstudy.images.image_listing import SPLITS, list_images
from dsstudy.images.pixels import Images, placed_images, read_batches
from dsstudy.images.synthetic import SYNTHETIC_CLASSES, SYNTHETIC_IMAGES, draw
from dsstudy.spec.trial import Trial

Splits = dict[str, tuple[np.ndarray, np.ndarray]]  # by split: images and labels

SUBSET_SEED = 0
"""The seed of subsets: every trial with fewer images uses the same ones."""


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes
    ----------
    source : torch.Tensor or CachedImages
        uint8, shape (N, 3, height, width), values 0 to 255: on the training device, or, if they are
        to be read batch by batch, in this machine's memory or its cache.
    labels : torch.Tensor
        int64, shape (N,), index into the data set's classes, on the training device.
    """

    source: Images
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> torch.Tensor:
        """All images in memory: uint8, shape (N, 3, height, width); training never needs them."""
        return self.pixels(range(len(self)))

    def pixels(self, indices: Sequence[int]) -> torch.Tensor:
        """Return some images as they are: uint8, shape (B, 3, height, width)."""
        group = torch.tensor(indices, dtype=torch.int64, device=self.source.device)
        return next(read_batches(self.source, [group], self.labels.device))

    def batches(
        self,
        groups: Iterable[torch.Tensor],
        image_size: int,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the `batch` of each group of indices; the next one is read meanwhile."""
        groups = [indices.to(self.source.device) for indices in groups]
        pixels = read_batches(self.source, groups, self.labels.device)
        for indices, images in zip(groups, pixels, strict=True):
            yield _normalised(images, image_size, dtype), self.labels[indices]

    def batch(
        self, indices: torch.Tensor, image_size: int, dtype: torch.dtype = torch.float32
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some images as a normalised batch of the model's input size, with their labels.

        Parameters
        ----------
        indices
            int64, shape (B,).
        image_size
            Side of the square input in pixels; images are scaled bilinearly, like torchvision's
            ``Resize``.
        dtype
            Floating-point type of the result.

        Returns
        -------
        tuple of torch.Tensor
            Images of shape (B, 3, image_size, image_size) with values from -1 to 1 (mean and
            deviation 0.5, as in the DeepSpeed CIFAR-10 example), and int64 labels of shape (B,).
        """
        return next(self.batches([indices], image_size, dtype))


@dataclass(frozen=True)
class ImageData:
    """A data set, ready for training.

    Attributes
    ----------
    name : str
        The name in results: ``cifar10``, or the name of an image folder.
    fingerprint : str
        Hash of all images and labels, including those that a subset leaves out.
    """

    name: str
    fingerprint: str
    classes: list[str]
    train: Split
    test: Split


@dataclass(frozen=True)
class DataFacts:
    """What is known of a data set without its images; attributes as in `ImageData`.

    Attributes
    ----------
    train_images, test_images : int
        How many images the trial trains on and is tested on.
    """

    name: str
    fingerprint: str
    classes: list[str]
    train_images: int
    test_images: int


def data_facts(trial: Trial) -> DataFacts:
    """Return the facts about a trial's data set; nothing of its images stays in memory.

    An image folder is decoded if the cache lacks it.

    Raises
    ------
    InputError
        As in `load_data`.
    """
    data = load_data(trial)
    return DataFacts(data.name, data.fingerprint, data.classes, len(data.train), len(data.test))


def load_data(trial: Trial, device: torch.device | str = "cpu", fingerprint: str = "") -> ImageData:
    """Load the images of a trial, or the subset that it asks for, for training on a device.

    Parameters
    ----------
    trial
        Only `dataset`, `data_dir`, `train_images`, `test_images` and `image_size` matter.
    device
        The device that trains.
    fingerprint
        The fingerprint that an image folder must have; by default, any.

    Raises
    ------
    InputError
        The data set is absent, damaged, changed while it is read, or smaller than the trial asks
        for.
    """
    splits: dict[str, tuple[Any, np.ndarray]]
    if trial.dataset == "synthetic":
        name, fingerprint, classes, splits = _synthetic(trial)
    elif trial.dataset == "imagefolder":
        name = trial.data_folder.name
        fingerprint, classes, splits = load_image_folder(trial, fingerprint)
    else:
        name, fingerprint, classes, splits = _cifar(trial)
    chosen = [_chosen(trial, split, *splits.pop(split)) for split in SPLITS]
    images = placed_images([images for images, _ in chosen], torch.device(device))
    train, test = (
        Split(some, torch.tensor(labels, device=device))
        for some, (_, labels) in zip(images, chosen, strict=True)
    )
    if len(train) < trial.batch_size:
        raise InputError(
            f"batch_size={trial.batch_size} is more than the {len(train)} training images of "
            f"{name}: set a smaller batch_size"
        )
    if trial.evaluation == "train" and len(test) < 2:
        raise InputError(
            f"test_images={len(test)} is too few for evaluation=train, which normalises by the "
            "test images themselves: set test_images to 2 or more, or evaluation to eval"
        )
    return ImageData(name, fingerprint, classes, train, test)


def check_data(trial: Trial) -> int:
    """Check that a trial's data set exists, without decoding it; return its number of classes.

    Raises
    ------
    InputError
        The data set is absent, or an image folder is not as `list_images` expects it.
    """
    if trial.dataset == "synthetic":
        return len(SYNTHETIC_CLASSES)
    if trial.dataset == "imagefolder":
        return len(list_images(trial.data_folder)[0])
    return len(_open_cifar(trial)["train"].classes)


def epoch_order(images: int, seed: int, epoch: int) -> torch.Tensor:
    """Return the order in which an epoch visits the images.

    It depends on seed and epoch only, so that every engine trains on the same global batches,
    whatever its number of processes.

    Returns
    -------
    torch.Tensor
        int64, shape (images,): a permutation, on the CPU.
    """
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(images))


def rank_batches(
    order: torch.Tensor, batch_size: int, rank: int = 0, processes: int = 1
) -> torch.Tensor:
    """Split an epoch's order into global batches and return one rank's share of each.

    Images at the end that do not fill a global batch are left out, so that every step averages over
    the same number of images on every rank.

    Returns
    -------
    torch.Tensor
        int64, shape (steps, batch_size / processes).
    """
    steps, share = len(order) // batch_size, batch_size // processes
    batches = order[: steps * batch_size].view(steps, batch_size)
    return batches[:, rank * share : (rank + 1) * share]


def balanced_subset(labels: np.ndarray, images: int) -> np.ndarray:
    """Draw a subset that is as balanced over the classes as possible, always the same one.

    Returns
    -------
    numpy.ndarray
        int64, shape (images,): indices into `labels`, ascending.
    """
    shuffled = np.random.default_rng(SUBSET_SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    # Take the first image of every class, then the second of every class, and so on.
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[np.argsort(place, kind="stable")][:images])


def _wanted(trial: Trial, split: str) -> int | str:
    return trial.train_images if split == "train" else trial.test_images


def _chosen(
    trial: Trial, split: str, images: np.ndarray | CachedImages, labels: np.ndarray
) -> tuple[Images, np.ndarray]:
    """Return a split's images and labels, or the subset that a trial asks for."""
    wanted = _wanted(trial, split)
    if isinstance(wanted, int) and wanted > len(labels):
        raise InputError(
            f"{split}_images={wanted} is more than the data set has: set {split}_images to all, or "
            f"to at most {len(labels)}"
        )
    if isinstance(wanted, int) and wanted < len(labels):
        chosen = balanced_subset(labels, wanted)
        labels = labels[chosen]
        images = images.subset(chosen) if isinstance(images, CachedImages) else images[chosen]
    return images if isinstance(images, CachedImages) else torch.tensor(images), labels


def _synthetic(trial: Trial) -> tuple[str, str, list[str], Splits]:
    splits: Splits = {}
    for split, size in SYNTHETIC_IMAGES.items():
        wanted = _wanted(trial, split)
        splits[split] = draw(split, size if isinstance(wanted, str) else wanted)
    return "synthetic", _hash_arrays(splits), list(SYNTHETIC_CLASSES), splits


def _cifar(trial: Trial) -> tuple[str, str, list[str], Splits]:
    found = _open_cifar(trial)
    splits = {
        split: (data.data.transpose(0, 3, 1, 2), np.array(data.targets, dtype=np.int64))
        for split, data in found.items()
    }
    return trial.dataset, _hash_arrays(splits), list(found["train"].classes), splits


def _open_cifar(trial: Trial) -> dict[str, Any]:
    from torchvision import datasets

    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[trial.dataset]
    try:
        return {split: source(trial.data_folder, train=split == "train") for split in SPLITS}
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        raise InputError(
            f"dataset={trial.dataset} is absent from {trial.data_folder}, or damaged: download it "
            f"with 'make {trial.dataset}', or set data_dir to the folder that holds it"
        ) from None


def _hash_arrays(splits: Splits) -> str:
    digest = hashlib.sha256()
    for images, labels in splits.values():
        digest.update(np.ascontiguousarray(images).data)
        digest.update(labels.data)
    return digest.hexdigest()[:16]


def _normalised(images: torch.Tensor, image_size: int, dtype: torch.dtype) -> torch.Tensor:
    images = images.to(torch.float32)
    if images.shape[-2:] != (image_size, image_size):
        images = F.interpolate(images, (image_size, image_size), mode="bilinear", antialias=True)
    images = images.mul_(1 / 127.5).sub_(1)
    return images.to(dtype)
