"""Fixtures that several test files use."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from site_checks import CHROMIUM, watch

from dsstudy.images.data import load_data
from dsstudy.records.study_folder import write_study
from dsstudy.spec.study import Study, load_study
from dsstudy.spec.trial import Trial


@pytest.fixture
def short(tmp_path):
    """Return a function that makes a trial of 20 steps, with its record in a folder of its own."""

    def make(name: str = "trial", **parameters) -> Trial:
        few = {"epochs": 1, "train_images": 320, "test_images": 100}
        return Trial(**(few | parameters), output_dir=str(tmp_path / name))

    return make


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Return an image folder of PNG files: 20 training and 10 test images of two classes."""
    root = tmp_path_factory.mktemp("folder") / "shapes"
    data = load_data(Trial(train_images=100, test_images=50))
    for split, count in (("train", 20), ("test", 10)):
        images, labels = getattr(data, split).images.numpy(), getattr(data, split).labels
        for label, name in enumerate(("disc", "square")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in np.flatnonzero(labels == label)[: count // 2]:
                Image.fromarray(images[index].transpose(1, 2, 0)).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def browser():
    assert CHROMIUM, "install Chromium (Debian: apt install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """Return a page that notes errors, and requests that leave this machine."""
    page = watch(browser.new_page(), address)
    yield page
    page.close()


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Return a function that reads a study from its text and writes its study.json."""
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))

    def make(text: str) -> Study:
        file = tmp_path / "planned.yaml"
        file.write_text(text)
        study = load_study(file)
        write_study(study)
        return study

    return make
