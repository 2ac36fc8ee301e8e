"""The book is built by Zensical and by mkdocs-material without a warning, and read from files with no network."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import started, visited

pytestmark = pytest.mark.site
ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md"))
PHONE = 390
"""Width of a telephone's screen, in pixels."""
OFFLINE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
"""A network that leads nowhere."""
QUIET = {"NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}


def built_by_zensical(source, target):
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", "site", "build", "outputs", "multirun", ".cache")
    )
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(
        command, cwd=source, env=os.environ | OFFLINE | QUIET, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (source / "site").rename(target)


def built_by_material(source, target):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | OFFLINE | QUIET, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=[built_by_zensical, built_by_material])
def site(request, tmp_path_factory):
    pytest.importorskip("zensical")
    folder = tmp_path_factory.mktemp("book")
    target = folder / request.param.__name__
    request.param(folder / "source", target)
    return target


class Links(HTMLParser):
    """Collects what a page links to or loads, and the anchors that it has."""

    def __init__(self):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag in ("script", "img", "iframe", "source") and attrs.get("src"):
            self.loaded.append(attrs["src"])
        if tag == "link" and attrs.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(attrs["href"])


def read(page):
    found = Links()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def test_every_page_is_built_and_every_link_leads_somewhere(site):
    assert {page for page in PAGES if not (site / page).exists()} == set()
    pages = {path.resolve(): read(path) for path in site.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            # The page of an unknown address stands in no folder: its links begin at the root.
            start = site if path.name == "404.html" else path.parent
            target = (start / unquote(parts.path).lstrip("/" if start == site else "")) if parts.path else path
            target = (target / "index.html" if target.is_dir() else target).resolve()
            if not target.exists() or (
                parts.fragment and target in pages and parts.fragment not in pages[target].anchors
            ):
                wrong.append(f"{path.name}: {link}")
    assert wrong == []


def test_nothing_is_loaded_from_another_host(site):
    for path in site.rglob("*.html"):
        assert [one for one in read(path).loaded if urlsplit(one).netloc] == [], path
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")) == [], path


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


def test_search_works_from_files(site, browser):
    with visited(
        browser, site / "sweeps.html", allowed=site.as_uri(), viewport={"width": 1200, "height": 900}
    ) as visit:
        visit.page.keyboard.press("/")
        visit.page.wait_for_timeout(300)
        visit.page.keyboard.type("rerun")
        visit.page.locator("a[href*='sweeps.html']", has_text="Going on").first.wait_for(timeout=10_000)


def test_pages_are_no_wider_than_a_phone_and_formulas_are_drawn(site, browser):
    small = {"viewport": {"width": PHONE, "height": 800}}
    with visited(browser, site / "index.html", allowed=site.as_uri(), **small) as visit:
        for name in PAGES[:: 1 if "zensical" in site.name else 4]:  # the other is the fallback
            visit.page.goto((site / name).as_uri())
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE, name
            formulas = visit.page.locator(".arithmatex").count()
            assert visit.page.locator(".arithmatex .katex").count() >= formulas, name
            assert visit.page.locator(".katex-error").count() == 0, name


def test_examples_in_docstrings_are_code(site):
    page = (site / "api" / "models.html").read_text(encoding="utf-8")
    assert "&gt;&gt;&gt; " in page or "gp" in page  # prompts, as text or as a token of the highlighter
    for name in PAGES:
        if name.parent.name == "api":
            assert "<blockquote>" not in (site / name).read_text(encoding="utf-8"), name
