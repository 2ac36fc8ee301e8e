"""Charts and heat maps in a real browser."""

from __future__ import annotations

import json

import pytest

from dln.web.page import page
from tests.browser import started, until, visited

pytestmark = pytest.mark.browser

BODY = '<div id="chart"></div><div id="heat"></div>'
SPEC = {
    "label": "loss",
    "x": {"label": "step"},
    "y": {"label": "loss", "log": True},
    "curves": [
        {
            "label": "lr 0.1",
            "colour": "#0072B2",
            "x": [0, 10, 20, 30],
            "y": [1.0, 1e-2, 1e-4, 1e-6],
            "low": [0.5, 5e-3, 5e-5, 5e-7],
            "high": [2.0, 2e-2, 2e-4, 2e-6],
        },
        {
            "label": "<b>flow</b>",
            "colour": "--ink",
            "dash": [6, 3],
            "x": [0, 10, 20],
            "y": [1.0, 0.0, 3e-4],
            "crosses": [25],
        },
    ],
    "levels": [{"y": 1e-3, "label": "plateau"}],
    "marks": [{"x": 15, "label": "switch"}],
}
HEAT = {
    "label": "final loss",
    "x": {"label": "lr", "ticks": ["0.1", "0.2", "0.4"]},
    "y": {"label": "gamma", "ticks": ["1", "<i>2</i>"]},
    "valueLabel": "loss",
    "values": [1, 2, 3, 4, 5, None],
    "states": [None, None, None, None, None, "2 of 2 diverged"],
    "log": True,
}


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


@pytest.fixture
def path(tmp_path):
    script = f"""
    const chart = window.chart = dln.chart(document.getElementById("chart"), {{
      onPick: (curve, i) => (window.point = [curve.label, i]),
    }});
    chart.draw({json.dumps(SPEC)});
    const spec = {json.dumps(HEAT)};
    spec.values = spec.values.map((value) => value ?? NaN);
    window.heat = dln.heat(document.getElementById("heat"), {{ onPick: (cell) => (window.cell = cell) }});
    heat.draw(spec);
    """
    path = tmp_path / "page.html"
    path.write_text(page("charts", BODY, [script]), encoding="utf-8")
    return path


def test_a_chart_says_its_values_by_mouse_by_keys_and_as_a_table(browser, path):
    with visited(browser, path) as visit:
        plot = visit.page.locator("#chart .plot")
        plot.hover(position={"x": 100, "y": 60})
        assert "step 0" in visit.page.locator("#chart .readout").inner_text()
        plot.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
            plot.press(key)
        said = visit.page.locator("#chart [role=status]").inner_text()
        assert said == "step 20, lr 0.1: 10⁻⁴ (5·10⁻⁵ to 2·10⁻⁴)"
        plot.press("ArrowDown")
        assert visit.page.locator("#chart [role=status]").inner_text() == "step 20, <b>flow</b>: 3·10⁻⁴"
        plot.press("Enter")
        assert visit.page.evaluate("window.point") == ["<b>flow</b>", 2]
        visit.page.locator("#chart summary").click()
        rows = visit.page.locator("#chart tbody tr").all_inner_texts()
        assert [row.split("\t") for row in rows][2:] == [["20", "10⁻⁴", "3·10⁻⁴"], ["30", "10⁻⁶", "-"]]
        assert "zero or negative" in visit.page.locator("#chart > p").inner_text()


def test_zooming_by_keys_and_back(browser, path):
    scales = "(() => { const { x } = chart.scales(); return [x.min, x.max]; })()"
    with visited(browser, path) as visit:
        whole = visit.page.evaluate(scales)
        plot = visit.page.locator("#chart .plot")
        plot.press("+")
        closer = visit.page.evaluate(scales)
        assert (closer[1] - closer[0]) * 2 == pytest.approx(whole[1] - whole[0])
        plot.press("Escape")
        assert visit.page.evaluate(scales) == whole
        visit.page.mouse.move(200, 80)
        visit.page.mouse.down()
        visit.page.mouse.move(400, 160, steps=5)
        visit.page.mouse.up()
        until(visit.page, f"{scales}[0] > {whole[0]}")
        visit.page.mouse.dblclick(300, 100)
        until(visit.page, f"{scales}[0] === {whole[0]}")


def test_a_heat_map_is_picked_by_mouse_and_by_keys(browser, path):
    with visited(browser, path) as visit:
        canvas = visit.page.locator("#heat canvas.plot")
        box = canvas.bounding_box()
        canvas.click(position={"x": box["width"] - 20, "y": box["height"] - 60})
        assert visit.page.evaluate("window.cell") == 2  # the lowest row is the first
        canvas.focus()
        for key in ("ArrowUp", "ArrowUp", "ArrowRight", "ArrowRight", "ArrowRight"):
            canvas.press(key)
        said = visit.page.locator("#heat [role=status]").inner_text()
        assert said == "lr 0.4, gamma <i>2</i>: loss no value, 2 of 2 diverged"
        canvas.press("Enter")
        assert visit.page.evaluate("window.cell") == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_reader(browser, path, scheme):
    with visited(browser, path, color_scheme=scheme) as visit:
        papers = [visit.page.evaluate("dln.colour('--paper')")]
        for theme in ("light", "dark", "auto"):
            visit.page.evaluate(f"dln.setTheme('{theme}')")
            papers.append(visit.page.evaluate("dln.colour('--paper')"))
        light, dark = "rgb(255, 255, 255)", "rgb(22, 24, 28)"
        assert papers == [{"light": light, "dark": dark}[scheme], light, dark, {"light": light, "dark": dark}[scheme]]


@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_is_wider_than_the_page(browser, path, width):
    with visited(browser, path, viewport={"width": width, "height": 800}) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_policy_stops_what_is_not_the_pages_own(browser, tmp_path):
    path = tmp_path / "page.html"
    body = '<img src="https://example.org/a.png" onerror="window.run = 1">'
    body += '<p id="p" style="color: red" onclick="window.run = 1">x</p>'
    path.write_text(page("evil", body), encoding="utf-8")
    with visited(browser, path) as visit:
        visit.page.locator("#p").click()
        assert visit.page.evaluate("window.run") is None
        blocked = [fault for fault in visit.faults if "Content Security Policy" in fault]
        assert len(blocked) >= 3  # the picture, the style and the handlers, each told on the console
        assert not [fault for fault in visit.faults if fault.startswith("asked for")]
        visit.faults.clear()


def test_numbers_read_as_people_write_them(browser, path):
    cases = {
        0: "0", 1: "1", 0.001: "0.001", 0.00012345: "1.234·10⁻⁴", 1e-4: "10⁻⁴", -2.5e-9: "-2.5·10⁻⁹",
        1234567: "1234567", 0.1: "0.1", 99999.96: "100000", 1.5e300: "1.5·10³⁰⁰", 2e-308: "2·10⁻³⁰⁸",
    }  # fmt: skip
    with visited(browser, path) as visit:
        told = visit.page.evaluate("values => values.map((value) => dln.number(value))", list(cases))
        assert told == [*cases.values()]
        assert visit.page.evaluate("[NaN, Infinity, -Infinity].map((value) => dln.number(value))") == ["-", "∞", "-∞"]


def test_ticks_are_round_numbers_of_the_axis(browser, path):
    with visited(browser, path) as visit:

        def ticks(kind, *args):
            return visit.page.evaluate(f"dln.{kind}Ticks({', '.join(map(str, args))})")

        assert ticks("linear", 0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
        assert ticks("log", 1e-9, 1, 3) == [1e-9, 1e-6, 1e-3, 1]
        assert ticks("log", 1e-5, 1e-4, 5) == [1e-5, 2e-5, 5e-5, 1e-4]
        for low, high in ((0.97, 1.03), (1e-6, 1.1e-6), (3e-4, 7e-4), (1e-300, 1e300)):
            found = ticks("log", low, high, 5)
            assert 2 <= len(found) <= 9
            assert all(low * 0.999 <= tick <= high * 1.001 for tick in found)


def test_of_a_band_that_reaches_zero_the_upper_half_is_drawn_and_that_is_told(browser, tmp_path):
    curve = {
        "x": [0, 1, 2],
        "y": [1.0, 1.0, 1.0],
        "low": [0.5, -1.0, 0.5],
        "high": [10.0, 10.0, 10.0],
        "colour": "#ff0000",
    }
    spec = {"label": "band", "x": {"label": "x"}, "y": {"label": "y", "log": True}, "curves": [curve]}
    path = tmp_path / "page.html"
    script = f"window.chart = dln.chart(document.getElementById('chart')); chart.draw({json.dumps(spec)});"
    path.write_text(page("band", BODY, [script]), encoding="utf-8")
    red = """() => {
      const canvas = document.querySelector("#chart canvas");
      const { data } = canvas.getContext("2d").getImageData(canvas.width / 2 + 20, 0, 1, canvas.height);
      const rows = Array.from({ length: canvas.height }, (_, i) => i);
      return rows.filter((i) => data[4 * i] > data[4 * i + 1] + 20).length / canvas.height;
    }"""
    with visited(browser, path) as visit:
        assert "upper half" in visit.page.locator("#chart > p").inner_text()
        visit.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert 0.05 < visit.page.evaluate(red) < 0.9


def test_ticks_are_drawn_whatever_the_range(browser, tmp_path):
    """uPlot draws none where numbers have many digits: its own axes run from 0 to 1."""
    path = tmp_path / "page.html"
    ranges = {"tiny": [1e-300, 3e-300], "huge": [1.0, 1e300], "far": [1e16, 1e16 + 64]}
    specs = [
        {
            "label": name,
            "x": {"label": "x"},
            "y": {"label": "y", "log": name == "huge"},
            "curves": [{"x": [0, 1], "y": ends}],
        }
        for name, ends in ranges.items()
    ]
    script = f"""
    const told = [];
    const fill = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {{
      told.push(text);
      fill.call(this, text, ...rest);
    }};
    const chart = dln.chart(document.getElementById("chart"));
    window.written = (spec) => new Promise((done) => {{
      told.length = 0;
      chart.draw(spec);
      requestAnimationFrame(() => requestAnimationFrame(() => done([...told])));
    }});
    window.specs = {json.dumps(specs)};
    """
    path.write_text(page("ticks", BODY, [script]), encoding="utf-8")
    with visited(browser, path) as visit:
        for i, name in enumerate(ranges):
            texts = visit.page.evaluate(f"written(specs[{i}])")
            numbers = {text for text in texts if text and text[0].isdigit()}
            assert len(numbers) >= 6, (name, texts)  # of both axes
