"""The book over the records of a demo study, in a real browser with no network."""

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page
from site_checks import check_page, serve

from dsstudy.analysis import study_folder
from dsstudy.book import _stage, build_book, study_folders
from dsstudy.trial import InputError, project_root


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """Return the folder of a freshly built book."""
    output = tmp_path_factory.mktemp("book")
    return build_book(study_folder("runs/demo"), output).parent


@pytest.fixture(scope="module")
def address(book):
    """Serve the book on this machine and return its address."""
    with serve(book) as address:
        yield address


PAGES = ("intro", "paper", "engines", "data", "study", "table1", "table2", "figure1", "claims",
         "cost_model", "own", "api", "bibliography", "search")  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_pages_load_alone_and_fit_a_phone(page: Page, address, name):
    check_page(page, f"{address}/{name}.html")


@pytest.mark.parametrize(
    ("name", "trials"),
    [("table1", "td"), ("table2", "td.col0, td.col1")],  # then the ratios
)
def test_tables_hold_42_cells(page: Page, address, name, trials):
    page.goto(f"{address}/{name}.html")
    cells = page.locator(f"table#T_{name}").locator(trials).all_inner_texts()
    assert len([text for text in cells if re.match(r"\d+\.\d\d", text)]) == 42


def test_the_interactive_figure_answers(page: Page, address):
    page.goto(f"{address}/figure1.html")
    plot = page.locator(".js-plotly-plot")
    plot.scroll_into_view_if_needed()
    before = plot.locator(".scatterlayer").inner_html()
    plot.locator(".updatemenu-header").first.click()
    plot.locator(".updatemenu-dropdown-button").nth(1).click()
    page.wait_for_timeout(500)
    assert plot.locator(".scatterlayer").inner_html() != before
    plot.locator(".scatterlayer .point").first.hover(force=True)
    plot.locator(".hoverlayer text").first.wait_for(timeout=5000)
    assert "%" in plot.locator(".hoverlayer").text_content()


def test_synthetic_pages_say_so(page: Page, address):
    for name in ("study", "table1", "table2", "figure1", "claims", "engines", "cost_model"):
        page.goto(f"{address}/{name}.html")
        assert "synthetic" in page.locator("main").inner_text().lower()


def test_one_study_is_the_book_and_several_are_its_parts(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trials.jsonl").touch()
    assert study_folders(tmp_path) == {"a": tmp_path / "a", "b": tmp_path / "b"}
    assert study_folders(tmp_path / "a") == {"": tmp_path / "a"}
    monkeypatch.setattr("dsstudy.book.project_root", lambda: tmp_path / "new")
    monkeypatch.setattr("dsstudy.study.project_root", lambda: tmp_path / "new")
    with pytest.raises(InputError, match="holds no published study yet"):
        study_folders("book/results/")


def test_pages_on_why_they_differ_are_given_every_study(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "dsstudy.book._execute",
        lambda page, target, parameters, name="": given.setdefault(page, []).append(parameters),
    )
    shutil.copytree(project_root() / "book", tmp_path / "book")
    demo = project_root() / "tests" / "records" / "demo"
    _stage(tmp_path / "book", {"one": demo, "two": demo})
    assert given["cost_model"] == [{"studies": f"{demo},{demo}"}]
    assert given["table2"] == [{"study": str(demo)}] * 2
    assert given["paper"] == [{}]


def test_a_folder_that_is_no_book_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds something that is no book"):
        build_book(tmp_path, tmp_path)
    assert (tmp_path / "thesis.tex").exists()
