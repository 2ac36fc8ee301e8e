"""Pages in a real browser: Chromium without a screen, which reaches nothing but what a test allows."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """Return the path of Chromium; the test that asks for it is skipped where there is none."""
    pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -r requirements-dev.txt"
    )
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium (or set CHROMIUM to its path)")
    return found


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Start Chromium for the block."""
    program = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page that is open, and what it did that no page of ours may do."""

    page: Page
    faults: list[str] = field(default_factory=list)
    """Messages on the console, errors, and requests for anything but what was allowed."""

    def check(self) -> None:
        """Fail where there is a fault."""
        assert not self.faults, "\n".join(self.faults)


@contextlib.contextmanager
def visited(browser: Browser, url: str | Path, allowed: str | None = None, **options: Any) -> Iterator[Visit]:
    """Open a page for the block, at the end of which it must have been silent and asked for nothing else.

    Args:
        browser: What opens it.
        url: Its address; a path is one of a file.
        allowed: How addresses begin that it may ask for; None: its own only, without the fragment.
        **options: Those of playwright's `new_context`, such as viewport and color_scheme.
    """
    address = url.resolve().as_uri() if isinstance(url, Path) else url
    own = allowed or address.partition("#")[0]
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        visit = Visit(page)

        def route(route: Any) -> None:
            if route.request.url.startswith((own, "blob:", "data:")):
                route.continue_()
            else:
                visit.faults.append(f"asked for {route.request.url}")
                route.abort()

        context.route("**/*", route)
        page.on("console", lambda message: visit.faults.append(f"console, {message.type}: {message.text}"))
        page.on("pageerror", lambda error: visit.faults.append(f"error: {error}"))
        page.goto(address)
        yield visit
        visit.check()
    finally:
        context.close()


def until(page: Page, expression: str, seconds: float = 20) -> None:
    """Wait until an expression is true in a page; playwright's own `wait_for_function` is what our policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not true after {seconds} s: {expression}"
        page.wait_for_timeout(20)
