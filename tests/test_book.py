"""The book over the records of the demo study, in a real browser without a network."""

import ast
import json
import re
import shutil
import subprocess
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Page
from site_checks import check_page, serve, watch
from studies import write_record
from tables import read_table
from waiting import PATIENCE, wait_until

from dsstudy.book import binder_address, book_parts, build_book, page_metadata, study_folders
from dsstudy.errors import InputError
from dsstudy.records.reading import read_lines
from dsstudy.records.study_folder import find_study
from dsstudy.spec.engines import NORMAL
from dsstudy.spec.trial import Trial

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "tests" / "records" / "demo"
NAME = itemgetter("name")


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """Return the folder of a freshly built book."""
    output = tmp_path_factory.mktemp("book")
    return build_book(find_study("runs/demo"), output).parent


@pytest.fixture(scope="module")
def address(book):
    """Serve the book on this machine and return its address."""
    with serve(book) as address:
        yield address


PAGES = ("intro", "traps", "cost_model", "own", "calculators", "engines", "paper", "claims",
         "results", "study", "table1", "table2", "figure1", "data", "api", "glossary",
         "bibliography", "search")  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_pages_load_alone_and_fit_a_phone(page: Page, address, name):
    check_page(page, f"{address}/{name}.html")


def test_tables_have_a_number_for_each_of_42_trials(book):
    for name in ("table1", "table2"):
        table = read_table((book / f"{name}.html").read_text(), name)
        if name == "table2":  # whose other columns are ratios
            table = table[["DeepSpeed (s)", "normal (s)"]]
        texts = table.to_numpy().flatten()
        assert len([text for text in texts if re.match(r"\d+\.\d\d", text)]) == 42


def test_the_interactive_figure_answers(page: Page, address):
    page.goto(f"{address}/figure1.html")
    plot = page.locator(".js-plotly-plot")
    plot.scroll_into_view_if_needed()
    before = plot.locator(".scatterlayer").inner_html()
    plot.locator(".updatemenu-header").first.click()
    plot.locator(".updatemenu-dropdown-button").nth(1).click()
    wait_until(lambda: plot.locator(".scatterlayer").inner_html() != before)
    plot.locator(".scatterlayer .point").first.hover(force=True)
    plot.locator(".hoverlayer text").first.wait_for(timeout=1000 * PATIENCE)
    assert "%" in plot.locator(".hoverlayer").text_content()


def test_pages_share_one_plotly(book):
    assert (book / "_static" / "plotly.min.js").stat().st_size > 3e6
    for name in ("figure1", "results"):
        text = (book / f"{name}.html").read_text()
        assert 'src="_static/plotly.min.js"' in text
        assert len(text) < 2e6


@pytest.fixture
def explorer(browser, book):
    """Return the page of every trial, opened as a file, by a browser that notes what it loads."""
    page = watch(browser.new_page(), book.as_uri())
    page.goto(f"{book.as_uri()}/results.html")
    page.locator("#trial-curves .scatterlayer .point").first.wait_for()
    yield page
    assert not page.errors
    assert not page.away
    page.close()


def column(explorer: Page, title: str) -> list[str]:
    """Return the texts of a column of the table, on its first page."""
    titles = explorer.locator("#trials_wrapper thead .dt-column-title").all_inner_texts()
    place = [" ".join(one.split()) for one in titles].index(title) + 1
    return explorer.locator(f"#trials tbody td:nth-child({place})").all_inner_texts()


def test_the_table_of_trials_sorts_and_filters(explorer: Page):
    title = explorer.locator(".dt-column-title", has_text="best accuracy").first
    title.click()
    title.click()
    accuracies = [float(text) for text in column(explorer, "best accuracy (%)")]
    assert accuracies == sorted(accuracies, reverse=True)
    lines = read_lines(RECORDS / "trials.jsonl")
    assert accuracies == sorted((line["best_accuracy"] for line in lines), reverse=True)[:10]

    explorer.get_by_role("searchbox").first.fill("resnet18")
    assert set(column(explorer, "model")) == {"resnet18"}
    assert "of 6 entries" in explorer.locator(".dt-info").inner_text()
    explorer.get_by_role("searchbox").first.fill("resnet18 deepspeed")
    assert set(column(explorer, "engine")) == {"deepspeed"}
    explorer.get_by_role("searchbox").first.fill("resnet18")
    header = explorer.locator("#trials_wrapper thead th", has_text="engine").first
    header.locator(".dtcc-button").click()
    explorer.get_by_role("button", name="deepspeed", exact=True).click()
    assert column(explorer, "engine") == ["deepspeed"] * 3


def test_a_click_gives_a_trials_curves(explorer: Page):
    epochs = {
        name: len(list(some)) for name, some in groupby(read_lines(RECORDS / "epochs.jsonl"), NAME)
    }
    name = max(epochs, key=epochs.get)
    explorer.get_by_role("searchbox").first.fill(name)
    explorer.locator("#trials tbody tr").click()
    chosen = explorer.locator("#trial-curves")
    assert name in chosen.locator(".choice").inner_text()
    loss, accuracy, rate = chosen.locator(".js-plotly-plot").all()
    assert accuracy.locator(".scatterlayer .point").count() == epochs[name]
    assert loss.locator(".scatterlayer .trace").count() == 2  # training and test
    assert rate.locator(".ytitle").text_content() == "learning rate"
    explorer.get_by_role("searchbox").first.fill("")
    rows = explorer.locator("#trials tbody tr:not(.selected)")
    rows.first.click(modifiers=["ControlOrMeta"])
    assert accuracy.locator(".scatterlayer .trace").count() == 2  # two trials
    assert chosen.locator(".differs").count() > 0


def test_synthetic_pages_say_so(page: Page, address):
    for name in (
        "study", "table1", "table2", "figure1", "claims", "results", "engines", "cost_model"
    ):  # fmt: skip
        page.goto(f"{address}/{name}.html")
        assert "synthetic" in page.locator("main").inner_text().lower()


def test_one_study_is_the_book_and_several_are_its_parts(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trials.jsonl").touch()
    assert study_folders(tmp_path) == {"a": tmp_path / "a", "b": tmp_path / "b"}
    assert study_folders(tmp_path / "a") == {"": tmp_path / "a"}
    monkeypatch.setattr("dsstudy.book.project_root", lambda: tmp_path / "new")
    monkeypatch.setattr("dsstudy.paths.project_root", lambda: tmp_path / "new")
    with pytest.raises(InputError, match="holds no published study yet"):
        study_folders("book/results/")


def pages(folders: dict[str, Path], name: str) -> list[tuple[str, dict]]:
    """Return where in the book a page is, and what its notebook is given."""
    found = [page for _, some in book_parts(folders) for page in some if page.name == name]
    return [(page.path, page.parameters) for page in found]


def test_a_page_is_given_what_its_notebook_says_that_it_is_over(tmp_path):
    two = {"one": RECORDS, "two": RECORDS}
    both = {"studies": [str(RECORDS)] * 2}
    assert pages(two, "results") == [("results", both)]
    assert pages(two, "cost_model") == [("cost_model", both)]
    assert pages(two, "table2") == [(f"{n}/table2", {"study": str(RECORDS)}) for n in two]
    assert pages(two, "paper") == [("paper", {})]
    assert pages({"": RECORDS}, "table2") == [("table2", {"study": str(RECORDS)})]


def test_a_study_of_its_own_has_its_pages_and_no_other_study_has_them(tmp_path):
    folders = {}
    for study in ("demo", "lenet-full", "bridge"):
        folders[study] = shutil.copytree(RECORDS, tmp_path / study)
        text = (RECORDS / "study.json").read_text()
        (folders[study] / "study.json").write_text(text.replace('"demo"', f'"{study}"'))
    parts = {caption: pages for caption, pages in book_parts(folders)}
    records = [page for page in parts["Records"] if page.study]
    of_study = ["study", "table1", "table2", "figure1"]
    assert [page.path for page in records] == [
        *(f"demo/{page}" for page in of_study),
        *(f"lenet-full/{page}" for page in [*of_study, "lenet_full"]),
        "bridge/study",
    ]
    assert [page.path for page in records if not page.is_section] == [
        f"{study}/study" for study in folders
    ]
    # The book lacks the other chapters.
    why = [page.path for page in parts["Why"]]
    assert why == ["bridge/bridge", "traps", "cost_model", "headroom", "tensors"]


def study_paths(folder: Path) -> list[str]:
    """Return the pages over a study in a book of its own."""
    return [page.path for _, some in book_parts({"": folder}) for page in some if page.study]


def test_a_study_of_own_networks_has_a_page_on_them_and_none_on_the_papers_tables(tmp_path):
    for model in ("nets:wide", "nets:deep"):
        write_record(tmp_path / "own", Trial(model=model))
    assert study_paths(tmp_path / "own") == ["study", "networks"]
    write_record(tmp_path / "own", Trial(model="resnet18"))
    assert study_paths(tmp_path / "own") == ["study", "table1", "table2", "figure1", "networks"]


def test_every_notebook_says_what_it_is_over():
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        about = page_metadata(file.stem)
        assert set(about) <= {"over", "study", "cells"}, file.name
        cells = nbformat.read(file, as_version=4).cells
        (given, *_) = [
            ast.unparse(statement.targets[0])
            for cell in cells
            if "parameters" in cell.metadata.get("tags", [])
            for statement in ast.parse(cell.source).body
        ] or [None]
        expected = {"study": "study", "all studies": "studies"}.get(about["over"])
        assert expected == (given if given in ("study", "studies") else None), file.name
        # The answer comes first: only parameters, loading and warnings may stand before it.
        answers = [n for n, cell in enumerate(cells) if "answer" in cell.metadata.get("tags", [])]
        assert len(answers) <= 1
        assert all(cell.cell_type == "code" for cell in cells[1 : (answers or [1])[0]]), file.name


@pytest.mark.parametrize(
    ("remote", "repository"),
    [
        ("https://github.com/reader/a.study.git", "reader/a.study"),
        ("https://token@github.com/reader/study/", "reader/study"),
        ("git@github.com:reader/study.git", "reader/study"),
        ("https://example.org/reader/study.git", None),
        (None, None),
    ],
)
def test_a_clone_from_github_knows_its_binder(tmp_path, monkeypatch, remote, repository):
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    if remote:
        subprocess.run([*git, "remote", "add", "origin", remote], check=True)
    monkeypatch.setattr("dsstudy.book.project_root", lambda: tmp_path)
    address = binder_address()
    assert bool(address) == bool(repository)
    assert not repository or f"/gh/{repository}/HEAD?" in address


def test_a_folder_that_is_not_a_book_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds something that is not a book"):
        build_book(tmp_path, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_what_a_network_may_be_is_what_was_tried():
    # If this fails, run: python tests/searches/nets.py
    lines = (ROOT / "book" / "own.md").read_text().splitlines()
    header, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    said = {
        (kind, column): cell
        for kinds, *cells in rows
        for kind in kinds.split("; ")
        for column, cell in zip(header[1:], cells, strict=True)
    }
    tried = json.loads((ROOT / "tests" / "searches" / "results" / "nets.json").read_text())["tried"]
    losses = {one["net"]: one.get("losses") for one in tried if one["engine"] == NORMAL}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for one in tried:
        what = one["outcome"]
        # With batch normalisation, each rank normalises its own half of a batch.
        exact = 5e-3 if one["net"] == "lazy" else 5e-5
        if what == "trains" and not np.allclose(one["losses"], losses[one["net"]], rtol=exact):
            what = "trains, and nothing says so"  # that it is not what normal training does
        outcomes = found.setdefault((one["kind"], one["column"]), {})
        assert outcomes.setdefault(f"stage {one['zero_stage']}: ", what) == what
    for place, outcomes in found.items():
        if len(set(outcomes.values())) == 1:
            outcomes = {"": next(iter(outcomes.values()))}
        words = "; ".join(stage + what for stage, what in outcomes.items())
        assert re.sub(r": (give|remove) [^;]*", "", said.pop(place)) == words, place
    assert not said
