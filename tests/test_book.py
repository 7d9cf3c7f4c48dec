"""The book over the records of a demo study, in a real browser with no network."""

import functools
import http.server
import re
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from dsstudy.analysis import study_folder
from dsstudy.book import build_book
from dsstudy.trial import InputError

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """Return the folder of a freshly built book."""
    output = tmp_path_factory.mktemp("book")
    return build_book(study_folder("runs/demo"), output).parent


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(book):
    """Serve the book on this machine and return its address."""
    handler = functools.partial(QuietHandler, directory=str(book))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
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
    page = browser.new_page()
    page.errors, page.away = [], []
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda r: page.away.append(r.url) if leaves(r.url, address) else None)
    yield page
    page.close()


def leaves(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


PAGES = ("intro", "paper", "engines", "table1", "table2", "figure1", "claims", "own", "api",
         "bibliography", "search")  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_pages_load_alone_and_fit_a_phone(page: Page, address, name):
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{address}/{name}.html", wait_until="load")
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} scrolls sideways at {width} pixels: {wide}"
    assert not page.errors
    assert not page.away


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
    for name in ("table1", "table2", "figure1", "claims"):
        page.goto(f"{address}/{name}.html")
        assert "synthetic" in page.locator("main").inner_text().lower()


def test_a_folder_that_is_no_book_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds something that is no book"):
        build_book(tmp_path, tmp_path)
    assert (tmp_path / "thesis.tex").exists()
