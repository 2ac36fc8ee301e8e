"""How a page is put together: what is in it is escaped, hashed and licensed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from dln.figures import style
from dln.web.page import SCRIPTS, STYLES, as_json, asset, page

ROOT = Path(__file__).resolve().parents[2]
UPLOT = {  # of uplot 1.6.32 as npm has it
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


class Parsed(HTMLParser):
    """The tags of a page, and the texts of its scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._within = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._within = tag if tag in ("script", "style") else None

    def handle_data(self, data):
        if self._within:
            self.texts.append((self.tags[-1], data))

    def handle_endtag(self, tag):
        self._within = None


@pytest.mark.parametrize("name", UPLOT)
def test_uplot_is_as_it_was_published(name):
    content = files("dln.web").joinpath("uplot", name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == UPLOT[name]


def test_the_policy_names_the_hash_of_every_script_and_style():
    parsed = Parsed(page("t", "<p>b</p>", ["window.a = 1;"], ["p { color: red; }"], {"d": [1]}, {"b": "AAAA"}))
    (rule,) = [attrs["content"] for tag, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(part.split(" ", 1) for part in rule.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in rule
    for kind in ("script", "style"):
        texts = [text for (tag, attrs), text in parsed.texts if tag == kind and "type" not in attrs]
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
        assert rules[f"{kind}-src"].split(" ") == hashes
        assert len(hashes) > 1
    assert not [attrs for _, attrs in parsed.tags if "src" in attrs or "href" in attrs or "style" in attrs]


NASTY = ["</script><script>alert(1)</script>", "<!--", "<img src=x onerror=alert(1)>", "\u2028&amp;", "\udcff", '"\\']


@given(
    st.recursive(
        st.text() | st.sampled_from(NASTY) | st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.lists
    )
)
def test_data_come_back_as_they_were_and_open_no_tag(told):
    text = page("t", "", data={"d": told})
    ((_, found),) = [(tag, text) for tag, text in Parsed(text).texts if tag[1].get("id") == "d"]
    assert json.loads(found) == told
    assert "<" not in found


def test_a_title_is_text_and_not_html():
    assert "<title>&lt;img src=x onerror=alert(1)&gt;</title>" in page("<img src=x onerror=alert(1)>", "")


def test_what_would_break_a_page_is_refused():
    with pytest.raises(ValueError, match="early"):
        page("t", "", ["'</script>'"])
    with pytest.raises(ValueError, match="JSON"):
        as_json([float("inf")])
    with pytest.raises(ValueError, match="base64"):
        page("t", "", blocks={"b": "<script>"})


def test_colours_are_those_of_figures():
    source = asset("colours.js")

    def listed(name):
        return re.findall(r"#[0-9a-fA-F]{6}", re.search(rf"dln\.{name} = (\[|\{{).*?;", source, re.S)[0])

    assert listed("PALETTE")[: len(style.PALETTE)] == [*style.PALETTE]
    assert listed("LANES") == [*style.LANES.values()]
    assert listed("COLOURS") == [style.TRAIN, style.TEST, style.BATCH, style.TEACHER, style.LIMIT]
    ramp = np.array([to_rgb(colour) for colour in listed("RAMP")])
    assert np.abs(ramp - colormaps["viridis"](np.linspace(0, 0.88, len(ramp)))[:, :3]).max() < 0.01


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "/" not in name])
def test_scripts_are_javascript(name):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on this machine")
    subprocess.run([node, "--check", str(files("dln.web").joinpath(name))], check=True)


@pytest.mark.parametrize("name", [*SCRIPTS, *STYLES])
def test_assets_are_in_the_package(name):
    assert asset(name)
