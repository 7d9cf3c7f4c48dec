"""Image folders as users have them: each file is read correctly, or named with its fault."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import folder_trial, two_classes
from PIL import Image

from dsstudy.errors import InputError
from dsstudy.images.data import check_data, load_data
from dsstudy.images.image_cache import cache_folder
from dsstudy.launching.run import run_trial
from dsstudy.spec.trial import Trial


def save_8_bit(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(f"{path}.png")


def save_16_bit(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels.astype(np.uint16) * 257).save(f"{path}.png")


def save_16_bit_pgm(pixels: np.ndarray, path: Path) -> None:
    values = (pixels.astype(">u2") * 257).astype(">u2").tobytes()
    Path(f"{path}.pgm").write_bytes(b"P5 32 32 65535\n" + values)


def save_16_bit_tiff(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels.astype(np.uint16) * 257).save(f"{path}.tiff")


@pytest.mark.parametrize("save", [save_16_bit, save_16_bit_pgm, save_16_bit_tiff])
def test_16_bits_hold_the_images_that_8_bits_hold(tmp_path, save):
    eight = load_data(folder_trial(two_classes(tmp_path / "eight", save_8_bit)))
    sixteen = load_data(folder_trial(two_classes(tmp_path / "sixteen", save)))
    assert torch.equal(eight.train.images, sixteen.train.images)
    assert eight.train.images.unique().tolist() == [*range(40, 46), *range(160, 166)]


def test_the_accuracy_of_16_bits_equals_that_of_8_bits(tmp_path):
    reached = []
    for name, save in (("eight", save_8_bit), ("sixteen", save_16_bit)):
        root = two_classes(tmp_path / name, save)
        record = run_trial(folder_trial(root, epochs=8, output_dir=str(tmp_path / f"{name} trial"),
                                        optimizer="adam"))  # fmt: skip
        reached.append([epoch["test_accuracy"] for epoch in record.epochs()])
    assert reached[0] == reached[1]
    assert reached[0][-1] > 90


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_an_unknown_range_are_refused(tmp_path, mode):
    root = two_classes(tmp_path / "grey", save_8_bit)
    Image.new(mode, (32, 32), 1).save(root / "train" / "dark" / "deep.tiff")
    with pytest.raises(
        InputError, match=r"deep\.tiff, which is not a readable image .*8 or 16 bit"
    ):
        load_data(folder_trial(root))


def broken_link(file: Path) -> None:
    file.symlink_to("nowhere")


def link_to_itself(file: Path) -> None:
    file.symlink_to(file)


def large(file: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(file, format="PNG")


def cut_off(file: Path) -> None:
    Image.new("RGB", (32, 32)).save(file, format="BMP")
    file.write_bytes(file.read_bytes()[:40])


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (broken_link, "is a broken link"),
        (link_to_itself, "is a broken link"),
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is not a file"),
        (Path.touch, "is not a readable image"),
        (large, "is not a readable image .*400000000 pixels"),
        (cut_off, "is not a readable image"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, make, what):
    root = two_classes(tmp_path / "grey", save_8_bit)
    make(root / "test" / "light" / "odd one.png")
    with pytest.raises(InputError, match=rf"light/odd one\.png, which {what}.*: replace or remove"):
        load_data(folder_trial(root))
    assert not list(cache_folder().glob("decoding-*"))


def test_files_in_another_format_are_said_to_be_left_out(tmp_path, capsys):
    root = two_classes(tmp_path / "grey", save_8_bit)
    for number in range(3):
        (root / "train" / "dark" / str(number)).with_suffix(".png").rename(
            root / "train" / "dark" / f"{number}.HEIC"
        )
    (root / "train" / "dark" / "Thumbs.db").touch()  # is left out silently
    data = load_data(folder_trial(root))
    said = capsys.readouterr().out
    assert "3 files are left out" in said
    assert "3 .heic" in said
    assert len(data.train) == 9
    load_data(folder_trial(root), fingerprint=data.fingerprint)  # as each rank does
    assert not capsys.readouterr().out


def test_a_single_class_is_refused(tmp_path):
    root = two_classes(tmp_path / "grey", save_8_bit)
    for split in ("train", "test"):
        shutil.rmtree(root / split / "dark")
    with pytest.raises(InputError, match="has one class, light, and a classifier needs two"):
        check_data(folder_trial(root))


def test_the_classes_are_counted_without_decoding(tmp_path):
    root = two_classes(tmp_path / "grey", save_8_bit)
    assert check_data(folder_trial(root)) == 2
    assert check_data(Trial()) == 10


@pytest.mark.parametrize("damage", ["cut off", "absent", "another array"])
def test_a_damaged_cache_is_decoded_again(tmp_path, damage):
    root = two_classes(tmp_path / "grey", save_8_bit)
    data = load_data(folder_trial(root))
    before = data.train.images  # copied now: they are read from the file that is to be damaged
    file = cache_folder() / data.fingerprint / "train.npy"
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:500])
    elif damage == "absent":
        file.unlink()
    else:
        np.save(file, np.zeros((3, 3)))
    assert torch.equal(load_data(folder_trial(root)).train.images, before)
    assert len(np.load(file)) == 12


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
def test_a_full_cache_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def save_noise(pixels, path):
        generator = np.random.default_rng(pixels[0, 0])
        save_8_bit(generator.integers(0, 255, (400, 400), np.uint8), path)

    root = two_classes(tmp_path / "grey", save_noise)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    try:
        monkeypatch.setenv("DSSTUDY_CACHE", str(disk))
        with pytest.raises(InputError, match=r"has no room for 12 MB of .*DSSTUDY_"):
            load_data(folder_trial(root, image_size=400))
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    root = two_classes(tmp_path / "grey", save_8_bit)
    (tmp_path / "file").touch()
    monkeypatch.setenv("DSSTUDY_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written .*: free some space there, or set"):
        load_data(folder_trial(root))
