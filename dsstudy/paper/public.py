"""Public training speeds of the paper's card, an RTX 3090, as others measured them.

``timm_rtx3090.csv`` is from huggingface/pytorch-image-models, Apache License 2.0: the rows of four
of the paper's networks in ``results/<file>``, as of the row's ``commit``. In full the commits are
1331c145a353959a4b0d7b7e119a55ae0f4a98a6 (January 2022),
02b806e00a24fa9c6e34187980700e1af927e817, eac2df3d2c5bba0227ad6e9f9704f12eb5c1e405 (April 2022) and
c865028c34fc05cc7deea8e753b30d8cd1952591 (July 2022). The files of PyTorch 1.10 were measured twice,
with two versions of timm. AlexNet and SqueezeNet are in none of them.

``two_rtx3090.csv`` has the numbers for one and two cards, in fp16, of ResNet-50 and VGG16 from a
vendor's page, https://server-gear.com/blog/post/rtx3090-x8-exhaustive-tf-cnn-benchmarks:
tf_cnn_benchmarks in NVIDIA's container tensorflow:20.12-tf1-py3. It names no licence; these are its
measurements alone.
"""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

TIMM_NAMES = {
    "vgg11_bn": "vgg11_bn",
    "resnet18": "resnet18",
    "densenet121": "densenet121",
    "vit_base_patch16_224": "vit",
}
"""Our names of the architectures, by timm's."""


def load_timm_rates() -> "pandas.DataFrame":
    """Return what timm's benchmark measured: training with mixed precision on one RTX 3090.

    Returns
    -------
    pandas.DataFrame
        One row per run and network: ``architecture``; ``rate``, images per second; ``batch_size``;
        ``image_size``; ``layout``, nchw or nhwc (``channels_last``); ``torch``, PyTorch's version
        as the file names it; ``commit`` and ``file``.
    """
    rows = _read("timm_rtx3090.csv")
    known = rows["file"].str.extract(r"-(?P<layout>nchw|nhwc)-(?P<torch>pt\d+)-")
    names = {"train_samples_per_sec": "rate", "train_batch_size": "batch_size"}
    names["train_img_size"] = "image_size"
    named = rows.assign(architecture=rows["model"].map(TIMM_NAMES), **known)
    return named.drop(columns="model").rename(columns=names)


def load_two_card_rates() -> "pandas.DataFrame":
    """Return what a TensorFlow benchmark measured on one and on two RTX 3090.

    Returns
    -------
    pandas.DataFrame
        ``model``; ``batch_size``, images per step and card; ``one_card`` and ``two_cards``, images
        per second.
    """
    return _read("two_rtx3090.csv")


def _read(name: str) -> "pandas.DataFrame":
    import pandas as pd

    with resources.files("dsstudy.paper").joinpath(name).open() as file:
        return pd.read_csv(file)
