"""A built book served on this machine, and what is checked on each of its pages."""

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder and yield its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def watch(page: Page, address: str) -> Page:
    """Let a page note errors, and requests that leave this machine."""
    page.errors, page.away = [], []
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda r: page.away.append(r.url) if leaves(r.url, address) else None)
    return page


def leaves(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def check_page(page: Page, url: str) -> None:
    """Load a page: nothing from elsewhere, no error, no sideways scrolling even on a phone."""
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(url, wait_until="load")
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{url} scrolls sideways at {width} pixels: {wide}"
    assert not page.errors
    assert not page.away
