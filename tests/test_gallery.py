"""The gallery: every page's commands and Python, as a reader would give them, and its numbers beside predicted ones."""

import re

import pytest

from docs.make_gallery import GALLERY, LARGEST, answer, follow_all, pages

PAGES = pages()
each = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The directory in which the commands of every page have been given, each in a directory of its name."""
    scratch = tmp_path_factory.mktemp("gallery")
    follow_all(PAGES, scratch)
    return scratch


@pytest.mark.long
@each
def test_python_prints_what_the_page_says(page, followed):
    assert answer(page, followed / page.name) == page.block("text")


@pytest.mark.long
@each
def test_commands_make_a_picture_that_fits(page, followed):
    for made in (followed / page.name / page.picture, GALLERY / page.picture):
        assert made.read_bytes()[:4] == b"\x89PNG"
        assert made.stat().st_size <= LARGEST


@each
def test_measured_and_predicted_numbers_agree(page):
    compared = page.compared()
    assert compared
    for measured, predicted, tolerance in compared:
        assert abs(measured - predicted) <= tolerance


@each
def test_a_page_has_all_parts_in_order(page):
    parts = [
        r"^# \S.*\n\n",  # title
        r"^[A-Z](?s:.)*?\$(?s:.)*?\n\n",  # a paragraph, with a formula
        r"^```bash\n(?s:.)*?^```\n\n",
        rf"^!\[[^\]]{{40,}}\]\({page.picture}\)\n\n",  # the picture, in words
        r"^```python\n(?s:.)*?^```\n\n",
        r"^```text\n(?s:.)*?^```\n\n",
        r"^Tolerance: (?s:.)*?\n\n",
        r"^Source: (?s:.)*?\b(19|20)\d\d\b(?s:.)*\Z",
    ]
    assert re.compile(r"(?:(?s:.)*?)".join(f"(?:{part})" for part in parts), re.MULTILINE).match(page.text)
    assert 1 <= len(page.commands) <= 3


def test_the_index_lists_every_page_and_no_other():
    listed = re.findall(r"\]\((\w+)\.md\)", (GALLERY / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == [page.name for page in PAGES]
