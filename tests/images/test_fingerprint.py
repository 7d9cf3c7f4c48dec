"""The fingerprint of a folder: always that of its content, read anew only after a change."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from image_folders import folder_trial, noise_folder
from PIL import Image

from dsstudy.errors import InputError
from dsstudy.images import fingerprint, image_cache, image_folder
from dsstudy.images.data import load_data
from dsstudy.images.folder_state import FolderState
from dsstudy.images.image_cache import cache_folder
from dsstudy.launching.run import run_trial


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Return a folder with a cache of its own."""
    monkeypatch.setenv("DSSTUDY_CACHE", str(tmp_path / "cache"))
    return noise_folder(tmp_path / "noise")


@pytest.fixture
def readings(monkeypatch) -> list[Path]:
    """Return a list that gets the folder each time all its files are read."""
    folders, real = [], image_folder.hash_files

    def hash_files(folder, files):
        folders.append(folder)
        return real(folder, files)

    monkeypatch.setattr(image_folder, "hash_files", hash_files)
    return folders


def content_hash(root: Path) -> str:
    """Compute the fingerprint as it is published: of names, sizes and bytes, in order."""
    digest = hashlib.sha256()
    for split in ("train", "test"):
        for file in sorted((root / split).glob("*/*")):
            content = file.read_bytes()
            digest.update(f"/{file.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def load(root: Path) -> str:
    return load_data(folder_trial(root)).fingerprint


def kept_file() -> Path:
    (file,) = (cache_folder() / "fingerprints").iterdir()
    return file


def test_an_unchanged_folder_is_read_once(root, readings):
    """Each start used to read every file."""
    assert load(root) == load(root) == content_hash(root)
    assert readings == [root]


def test_a_trial_in_this_process_reads_its_folder_once(root, readings, tmp_path):
    """The process that starts a trial and the one that trains it may be the same."""
    run_trial(folder_trial(root, epochs=1, output_dir=str(tmp_path / "trial")))
    assert readings == [root]


def swapped_bytes(file: Path) -> None:
    """Change the content alone: the name, the size and the time of the content stay."""
    times, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_bytes(file.read_bytes())
    swapped_bytes(other)
    times = file.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)


def link_to_another(file: Path) -> None:
    other = file.with_name("1.bmp").rename(file.parents[2] / "elsewhere.bmp")
    file.with_name("1.bmp").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(other)


def renamed(file: Path) -> None:
    file.rename(file.with_name("9.bmp"))


def exchanged(file: Path) -> None:
    """Give two files of different classes each other's name: no file itself changes."""
    other, between = file.parents[1] / "light" / file.name, file.with_name("between")
    file.rename(between)
    other.rename(file)
    between.rename(other)


def added(file: Path) -> None:
    Image.new("RGB", (32, 32)).save(file.with_name("9.bmp"))


@pytest.mark.parametrize(
    "change", [swapped_bytes, replaced, link_to_another, renamed, exchanged, added, Path.unlink]
)
def test_any_change_is_noticed(root, readings, change):
    first = load(root)
    change(root / "train" / "dark" / "0.bmp")
    assert load(root) == content_hash(root) != first
    assert len(readings) == 2


def test_a_link_to_a_folder_follows_its_target(root, readings, tmp_path):
    """A link such as `current` may be set to another version of the images."""
    other = noise_folder(tmp_path / "other")
    swapped_bytes(other / "train" / "dark" / "0.bmp")
    link = tmp_path / "current"
    link.symlink_to(root)
    assert load(link) == content_hash(root)
    link.unlink()
    link.symlink_to(other)
    assert load(link) == content_hash(other)
    assert load(root) == content_hash(root)
    assert len(readings) == 2  # the same folder by two names is read once


@pytest.mark.parametrize("tick", [1, 1_000_000_000])  # times in nanoseconds, or in whole seconds
@pytest.mark.parametrize("age", [0.0, 0.5, 1.5])
def test_a_file_is_read_when_its_next_change_will_show(monkeypatch, tick, age):
    """Written again within the granularity of its time, it would look the same."""
    newest = 1_700_000_000_000_000_000 + tick % 1_000_000_000
    clock = [newest + int(age * 1e9)]
    monkeypatch.setattr(fingerprint.time, "time_ns", lambda: clock[0])
    monkeypatch.setattr(
        fingerprint.time, "sleep", lambda seconds: clock.append(clock.pop() + round(seconds * 1e9))
    )
    fingerprint.wait_for_tick(FolderState({}, newest))
    granularity = 2.0 if tick == 1_000_000_000 else 0.1
    assert clock[0] - newest == pytest.approx(max(age, granularity) * 1e9, abs=1000)


def test_files_from_the_future_are_read_each_time(root, readings):
    """Where clocks differ, nobody knows whether a change would show."""
    file = root / "train" / "dark" / "0.bmp"
    os.utime(file, (time.time() + 86_400,) * 2)
    assert load(root) == load(root) == content_hash(root)
    assert len(readings) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:40],
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: "\0" * len(text),
        lambda text: json.dumps(json.loads(text) | {"fingerprint": "../../../etc"}),
        lambda text: json.dumps(json.loads(text) | {"fingerprint": None}),
        lambda text: json.dumps(json.loads(text) | {"read_at": "yesterday"}),
    ],
)
def test_a_damaged_fingerprint_is_read_anew(root, readings, damage):
    first = load(root)
    kept_file().write_text(damage(kept_file().read_text()))
    assert load(root) == load(root) == first
    assert len(readings) == 2  # the second of the three; the third finds it repaired


def test_a_fingerprint_that_cannot_be_kept_is_read_each_time(root, readings):
    """A cache may be readable only, or its disk full: whoever has the images decoded can train."""
    first = load(root)
    kept_file().unlink()
    (cache_folder() / "fingerprints").rmdir()
    (cache_folder() / "fingerprints").touch()
    assert load(root) == load(root) == first
    assert len(readings) == 3


def test_processes_that_keep_a_fingerprint_at_once_leave_a_whole_one(root):
    code = (
        "import sys; from pathlib import Path; from dsstudy.images.fingerprint import *\n"
        "for _ in range(200):\n"
        "    keep_fingerprint(Path(sys.argv[1]), FolderState({}, 0), 16 * 'a', 10**19)\n"
        "    assert kept_fingerprint(Path(sys.argv[1]), FolderState({}, 0)) == 16 * 'a'\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(root)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [kept_file()] == list((cache_folder() / "fingerprints").iterdir())


def cut_off(file: Path) -> None:
    os.truncate(file, 100)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (cut_off, r"train/light/0\.bmp has another size, time or place on disk"),
        (swapped_bytes, r"train/light/0\.bmp has another size, time or place on disk"),
        (Path.unlink, r"train/light/0\.bmp is gone"),
        (added, r"train/light/9\.bmp is new"),
    ],
)
@pytest.mark.parametrize("moment", ["hash_files", "read_image_size", "decode_image"])
def test_a_folder_changed_while_it_is_read_is_one_sentence(
    root, readings, monkeypatch, moment, change, what
):
    """Before, the cache could get images under the fingerprint of others, for ever."""
    module = image_cache if moment == "decode_image" else image_folder
    real, changes = getattr(module, moment), [change]

    def meanwhile(*arguments):
        with contextlib.suppress(IndexError):  # several threads call this
            changes.pop()(root / "train" / "light" / "0.bmp")
        return real(*arguments)

    monkeypatch.setattr(module, moment, meanwhile)
    sentence = rf"noise was changed while it was read \({what}\): wait until nothing writes"
    with pytest.raises(InputError, match=sentence):
        load(root)
    assert not [entry for entry in cache_folder().glob("*") if entry.is_dir()]
    if change is not cut_off:  # which leaves a damaged image
        monkeypatch.setattr(module, moment, real)
        assert load(root) == content_hash(root)


def test_a_class_that_vanishes_while_it_is_read_is_one_sentence(root, monkeypatch):
    real = image_folder.hash_files

    def hash_files(folder, files):
        (root / "test" / "light").rename(root / "light")
        return real(folder, files)

    monkeypatch.setattr(image_folder, "hash_files", hash_files)
    with pytest.raises(InputError, match=r"were changed while they were read: .*test/light"):
        load(root)


def test_a_file_that_goes_right_after_the_folder_was_listed_is_one_sentence(root, monkeypatch):
    real = image_folder.list_images

    def list_images(folder):
        listed = real(folder)
        (root / "test" / "light" / "3.bmp").unlink()
        return listed

    monkeypatch.setattr(image_folder, "list_images", list_images)
    with pytest.raises(InputError, match=r"changed while it was read \(test/light/3\.bmp is gone"):
        load(root)


def test_a_file_whose_state_the_system_does_not_show_is_named(root, monkeypatch):
    """It is not gone: a folder may be listed and yet not be searched, without that permission."""
    real = os.stat

    def stat(path, **options):
        if str(path).endswith("light/3.bmp"):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(InputError, match=r"3\.bmp, which cannot be read \(Permission denied\)"):
        load(root)


def test_a_damaged_file_in_an_unchanged_folder_is_no_change(root):
    cut_off(root / "train" / "light" / "0.bmp")
    with pytest.raises(InputError, match=r"0\.bmp, which is not a readable image"):
        load(root)


def test_a_rank_refuses_other_images_than_those_of_its_trial(root):
    """With its fingerprint believed, it would decode them under a wrong name, or mix up labels."""
    first = load(root)
    exchanged(root / "train" / "dark" / "0.bmp")
    with pytest.raises(InputError, match="have changed since the trial started"):
        load_data(folder_trial(root), fingerprint=first)


def test_the_decoded_images_are_those_of_the_fingerprint(root):
    """Whatever was changed and changed back, the cache shows the images that are there."""
    file = root / "train" / "dark" / "0.bmp"
    before = load_data(folder_trial(root)).train.images
    content = file.read_bytes()
    swapped_bytes(file)
    changed = load_data(folder_trial(root)).train.images
    file.write_bytes(content)
    again = load_data(folder_trial(root)).train.images
    assert torch.equal(before, again)
    assert not torch.equal(before, changed)
