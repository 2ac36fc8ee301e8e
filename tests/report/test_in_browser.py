"""Reports in a real browser: each control does what it says, and the page says what is stored."""

from __future__ import annotations

import csv
import math

import numpy as np
import polars as pl
import pytest

import dln
from dln.report.write import report
from dln.results.finals import final_values
from tests.browser import started, until, visited
from tests.report.samples import ODD, ODDER

pytestmark = pytest.mark.browser

ROUGHLY = 2e-3
"""Numbers of curves are quantised; the page states how coarsely, which is checked in `test_the_error_is_stated`."""


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(stored, tmp_path_factory):
    place = tmp_path_factory.mktemp("pages")
    names = ["run", "pair", "lost", "rates", "seeds", "sums", "odd", "study"]
    return {name: report(stored / name, place / f"{name}.html").path for name in names}


@pytest.fixture
def opened(browser, pages):
    """Returns f(name, fragment): the page of a report, once it is drawn."""

    def open_page(name, fragment="", **options):
        return visited(browser, f"{pages[name].as_uri()}#{fragment}", allowed=pages[name].as_uri(), **options)

    return open_page


def ready(visit):
    visit.page.wait_for_selector("html[data-ready]")
    return visit.page


def choose(page, name, value):
    page.locator(f"select[name='{name}']").select_option(value)
    settle(page)


def settle(page):
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


CURVES = """() => dln.shown.curves.charts().map((chart) => {
  const { label, x, y, curves, levels, marks } = chart.spec();
  const told = (values) => values && Array.from(values, (value) => (Number.isFinite(value) ? value : null));
  return { label, x, y, levels, marks, curves: curves.map((curve) => ({
    ...curve, x: told(curve.x), y: told(curve.y), low: told(curve.low), high: told(curve.high),
  })) };
})"""


def charts(page):
    """Return what the charts of a page show."""
    return page.evaluate(CURVES)


def rows_of(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def numbers(values):
    return np.array([math.nan if value is None else value for value in values])


def test_curves_are_means_with_intervals_and_follow_the_controls(opened, stored):
    table = dln.aggregate(
        stored / "seeds", "training.batch_seed", ["training.lr", "training.batch_size"], quantiles=(0.1, 0.5, 0.9)
    )
    parts = table.partition_by(["training.lr", "training.batch_size"], maintain_order=True)

    def check(chart, column, middle, ends, x=lambda rows: rows["step"]):
        assert len(chart["curves"]) == len(parts)
        for curve, rows in zip(chart["curves"], parts, strict=True):
            count = len(rows)
            np.testing.assert_allclose(numbers(curve["x"])[:count], x(rows).to_numpy(), rtol=ROUGHLY)
            wanted = rows[f"{column} {middle}"].cast(float).fill_null(math.nan)
            np.testing.assert_allclose(numbers(curve["y"])[:count], wanted, rtol=ROUGHLY)
            assert (curve["low"] is None) == (ends is None)
            for name, end in zip(("low", "high"), ends or (), strict=False):
                wanted = rows[f"{column} {end}"].cast(float).fill_null(math.nan)
                np.testing.assert_allclose(numbers(curve[name])[:count], wanted, rtol=ROUGHLY)

    with opened("seeds") as visit:
        page = ready(visit)
        [chart] = charts(page)
        check(chart, "test_loss", "mean", ("low", "high"))
        choose(page, "metric", "train_loss")
        check(charts(page)[0], "train_loss", "mean", ("low", "high"))
        choose(page, "middle", "median")
        check(charts(page)[0], "train_loss", "q0.5", None)
        choose(page, "band", "quantiles")
        check(charts(page)[0], "train_loss", "q0.5", ("q0.1", "q0.9"))
        choose(page, "x", "time")
        check(charts(page)[0], "train_loss", "q0.5", ("q0.1", "q0.9"), lambda rows: rows["step"] * rows["training.lr"])
        choose(page, "x", "test_loss")
        choose(page, "middle", "mean")
        check(charts(page)[0], "train_loss", "mean", None, lambda rows: rows["test_loss mean"])


def test_ratios_are_drawn_of_all_that_are_no_baselines(opened, stored):
    with opened("study", "middle=ratio&part=online") as visit:
        [chart] = charts(ready(visit))
    table = pl.read_parquet(stored / "study" / "tables" / "online.parquet")
    wanted = table["test_loss ratio"].drop_nulls()
    told = [value for curve in chart["curves"] for value in curve["y"] if value is not None]
    np.testing.assert_allclose(np.sort(told), wanted.sort(), rtol=ROUGHLY)
    assert chart["y"]["label"] == "test_loss / baseline"
    assert [level["y"] for level in chart["levels"]] == [1]


def test_single_runs_are_those_that_are_stored(opened, stored):
    frame = dln.load_sweep(stored / "seeds").sort("training.lr", "training.batch_size", "training.batch_seed")
    with opened("seeds", "middle=single") as visit:
        [chart] = charts(ready(visit))
        assert len(chart["curves"]) == len(frame)
        for curve, wanted in zip(chart["curves"], frame["test_loss"].to_list(), strict=True):
            np.testing.assert_allclose(numbers(curve["y"])[: len(wanted)], wanted, rtol=ROUGHLY)
        assert all(curve["low"] is None for curve in chart["curves"])


def test_axes_are_logarithmic_where_that_is_chosen(opened):
    with opened("seeds") as visit:
        page = ready(visit)
        for name, scale, axis, log in [
            ("yscale", "log", "y", True),
            ("yscale", "linear", "y", False),
            ("xscale", "log", "x", True),
        ]:
            choose(page, name, scale)
            assert charts(page)[0][axis]["log"] is log


def test_colours_and_panels_are_by_keys(opened):
    with opened("seeds") as visit:
        page = ready(visit)
        [chart] = charts(page)
        assert [curve["colour"] for curve in chart["curves"]] == [
            c for c in ("#0072B2", "#E69F00", "#009E73") for _ in "ab"
        ]
        choose(page, "colour", "training.batch_size")
        assert [curve["colour"] for curve in charts(page)[0]["curves"]] == ["#0072B2", "#E69F00"] * 3
        choose(page, "panels", "training.lr")
        assert [chart["label"] for chart in charts(page)] == [
            f"test_loss, learning rate {lr}" for lr in ("0.001", "0.01", "50")
        ]
        assert [len(chart["curves"]) for chart in charts(page)] == [2, 2, 2]
        legend = page.locator("#curves .keys").first.locator("li").all_inner_texts()
        assert legend == ["batch size 1", "batch size 5"]


def test_runs_are_chosen_by_their_keys(opened):
    with opened("seeds") as visit:
        page = ready(visit)
        page.locator("#curves details > summary", has_text="Runs").click()
        page.locator("input[name='only.training.lr'][value='50']").uncheck()
        settle(page)
        assert len(charts(page)[0]["curves"]) == 4
        assert page.locator("#table tbody tr").count() == 4
        assert "diverged" not in page.locator("#curves [role=status].muted").inner_text()
        page.locator("button", has_text="all runs").click()
        settle(page)
        assert len(charts(page)[0]["curves"]) == 6
        assert "6 of 18 runs diverged" in page.locator("#curves [role=status].muted").inner_text()


CELLS = """() => {
  const { values, states } = dln.shown.map.heat.spec();
  return [Array.from(values, (value) => (Number.isFinite(value) ? value : null)), states];
}"""
TABLE = "dln.shown.table.columns().map((column) => [column.name, Array.from(column.values)])"


@pytest.mark.parametrize("name", ["seeds", "sums"])
def test_the_phase_diagram_has_the_means_of_its_cells(opened, stored, name):
    ends = final_values(stored / "seeds", ["test_loss"], ["training.batch_size", "training.lr"])
    with opened(name) as visit:
        page = ready(visit)
        values, states = page.evaluate(CELLS)
        np.testing.assert_allclose(numbers(values), ends["test_loss"].fill_null(math.nan), rtol=1e-6)
        assert states == ["3 of 3 diverged" if lost else "" for lost in ends["diverged"]]
        choose(page, "map", "*diverged")
        assert page.evaluate(CELLS)[0] == [0, 0, 1] * 2


def test_events_are_values_of_the_diagram_and_statistics_are_of_its_cells(opened, stored):
    frame = dln.load_sweep(stored / "seeds")
    with opened("seeds", "map=diverged_at&mapof=max") as visit:
        page = ready(visit)
        lost = frame.filter(frame["training.lr"] == 50)
        wanted = [lost.filter(lost["training.batch_size"] == size)["diverged_at"].max() for size in (1, 5)]
        assert page.evaluate(CELLS)[0] == [None, None, wanted[0], None, None, wanted[1]]
        choose(page, "map", "test_loss")
        rows = frame.filter((frame["training.lr"] == 0.01) & (frame["training.batch_size"] == 5))
        ends = [values[-1] for values in rows["test_loss"].to_list()]
        for statistic, wanted in {"max": max(ends), "min": min(ends), "median": np.median(ends)}.items():
            choose(page, "mapof", statistic)
            assert page.evaluate(CELLS)[0][4] == pytest.approx(wanted, rel=1e-6)


def test_a_click_on_a_cell_shows_its_curves(opened):
    with opened("seeds") as visit:
        page = ready(visit)
        canvas = page.locator("#map canvas.plot")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        canvas.click(position={"x": 100, "y": box["height"] - 60})
        settle(page)
        assert page.locator("#cell").inner_text() == "test_loss where learning rate 0.001, batch size 1"
        shown = page.evaluate("dln.shown.map.chart().spec().curves.map((curve) => Array.from(curve.y))")
        assert shown == [charts(page)[0]["curves"][0]["y"]]
        page.locator("button", has_text="no cell").click()
        settle(page)
        assert page.evaluate("dln.shown.map.chart()") is None


def test_the_table_is_sorted_and_saved(opened, stored, tmp_path):
    frame = dln.load_sweep(stored / "seeds")
    with opened("seeds") as visit:
        page = ready(visit)
        choose(page, "rows", "runs")
        assert page.locator("#table tbody tr").count() == len(frame)
        page.locator("#table th button", has_text="train_loss").click()
        settle(page)
        with page.expect_download() as download:
            page.locator("button", has_text="save table").click()
        download.value.save_as(tmp_path / "table.csv")
        rows = rows_of(tmp_path / "table.csv")
        losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
        assert losses == sorted(losses)
        np.testing.assert_allclose(
            sorted(losses), sorted(values[-1] for values in frame["train_loss"].to_list()), rtol=1e-6
        )
        page.locator("#table th button", has_text="train_loss").click()
        settle(page)
        assert page.locator("#table th[aria-sort=descending]").inner_text() == "train_loss ▼"
        choose(page, "rows", "conditions")
        means = dict(page.evaluate(TABLE))
        assert means["runs"] == [3] * 6
        assert means["diverged"] == [0, 0, 0, 0, 3, 3]


def test_curves_and_pictures_are_saved(opened, tmp_path):
    with opened("seeds") as visit:
        page = ready(visit)
        with page.expect_download() as download:
            page.locator("button", has_text="save curves").click()
        download.value.save_as(tmp_path / "curves.csv")
        rows = rows_of(tmp_path / "curves.csv")
        first = charts(page)[0]["curves"][0]
        told = [float(row["value"]) for row in rows if row["curve"] == first["label"]]
        assert told == [value for value in first["y"] if value is not None]
        with page.expect_download() as download:
            page.locator("button", has_text="save pictures").click()
        download.value.save_as(tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


FRAGMENT = (
    "metric=train_loss&x=time&xscale=log&yscale=linear&colour=training.batch_size&panels=training.lr&middle=median"
    "&band=quantiles&only.training.lr=0.001&only.training.lr=0.01&map=train_loss&mapof=max&mapx=training.batch_size"
    "&mapy=training.lr&maplog=log&cellx=5&celly=0.01&rows=runs&sort=train_loss&down=yes&theme=dark"
)


def test_the_address_keeps_all_choices(opened):
    names = ["metric", "x", "xscale", "yscale", "colour", "panels", "middle", "band", "map", "mapof", "mapx", "mapy"]
    names += ["maplog", "rows", "theme"]
    with opened("seeds", FRAGMENT) as visit:
        page = ready(visit)
        shown = {name: page.locator(f"select[name='{name}']").input_value() for name in names}
        wanted = dict(pair.split("=") for pair in FRAGMENT.split("&") if not pair.startswith("only"))
        assert shown == {name: wanted[name] for name in names}
        assert page.locator("#cell").inner_text() == "train_loss where batch size 5, learning rate 0.01"
        before = charts(page)
        choose(page, "theme", "light")
        choose(page, "theme", "dark")
        page.reload()
        assert charts(ready(visit)) == before
        assert sorted(page.evaluate("location.hash.slice(1)").split("&")) == sorted(FRAGMENT.split("&"))
        page.evaluate("location.hash = '#metric=test_loss'")  # an address that is pasted into the open page
        until(page, "dln.shown.curves.charts().length === 1")
        assert charts(page)[0]["label"] == "test_loss"


def test_a_run_shows_everything_and_what_theories_say(opened, stored):
    history = dln.load_run(stored / "run")
    with opened("run") as visit:
        page = ready(visit)
        shown = {chart["label"]: chart for chart in charts(page)}
        assert list(shown) == ["loss", "sharpness", "end_to_end_distance_gradient_flow", "singular_values"]
        told = {curve["label"]: curve for curve in shown["loss"]["curves"]}
        for label, column in {
            "test": "test_loss",
            "train": "train_loss",
            "test gradient_flow": "test_loss_gradient_flow",
        }.items():
            np.testing.assert_allclose(numbers(told[label]["y"]), history[column], rtol=ROUGHLY)
            assert bool(told[label].get("dash")) == ("flow" in label)
        assert "lr sharpness" in page.locator("#curves [role=status].muted").inner_text()
        page.locator("input[name=theory]").uncheck()
        settle(page)
        assert len(charts(page)[0]["curves"]) == 2


def test_sharpness_stands_beside_2_over_lr(opened):
    with opened("rates", "metric=sharpness") as visit:
        page = ready(visit)
        assert [level["y"] for level in charts(page)[0]["levels"]] == pytest.approx([2 / 0.001, 2 / 0.002])
        choose(page, "metric", "test_loss")
        [chart] = charts(page)
        assert chart["levels"] == []
        assert [(curve["colour"], bool(curve.get("dash"))) for curve in chart["curves"]] == [
            ("#0072B2", False),
            ("#E69F00", False),
            ("#0072B2", True),
            ("#E69F00", True),
        ]


def test_a_comparison_tells_its_lanes_apart(opened):
    with opened("pair") as visit:
        [losses, distance] = charts(ready(visit))
        colours = {curve["label"]: (curve["colour"], bool(curve.get("dash"))) for curve in losses["curves"]}
        assert colours == {
            "a train": ("#0072B2", False),
            "a test": ("#0072B2", True),
            "b train": ("#D55E00", False),
            "b test": ("#D55E00", True),
        }
        assert len(distance["curves"]) == 1


def test_a_run_that_diverged_has_a_cross_and_its_end(opened, stored):
    history = dln.load_run(stored / "lost")
    with opened("lost") as visit:
        page = ready(visit)
        assert charts(page)[0]["curves"][0]["crosses"] == [history.diverged_at]
        rows = dict(row.split("\t") for row in page.locator("#table tbody tr").all_inner_texts())
        assert rows["diverged_at"] == str(history.diverged_at)


def test_a_study_has_its_sentences_and_its_parts(opened, stored):
    with opened("study") as visit:
        page = ready(visit)
        assert "leaves its baseline" in page.locator("#sentences pre").inner_text()
        first = charts(page)
        choose(page, "part", "online")
        assert charts(page) != first
        assert "online=true" in page.locator("#about pre").first.inner_text()


def test_names_are_text_whatever_they_hold(opened):
    with opened("odd", "metric=*") as visit:
        page = ready(visit)
        assert page.evaluate("window.alert.toString()") == "function alert() { [native code] }"
        labels = [chart["label"] for chart in charts(page)]
        assert {ODD, ODDER, "__proto__"} <= set(labels)
        assert page.locator("img").count() == 0
        assert page.locator("h3", has_text=ODDER).count() == 1


def test_the_error_is_stated(opened):
    with opened("seeds") as visit:
        page = ready(visit)
        stated = page.evaluate("dln.shown.part.curves.error")
        assert 0 < stated <= ROUGHLY
        assert "relative error of at most" in page.locator("#about").inner_text()
        assert "Leon Sorokin" in page.locator("#about").text_content()


def test_commands_are_copied_or_where_that_is_forbidden_selected(opened):
    with opened("study") as visit:
        page = ready(visit)
        commands = page.locator("#about h3:text('Commands') + pre").text_content()
        assert "dln run -m" in commands
        copy = page.locator("button", has_text="copy")
        page.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.written = text; }; }")
        copy.click()
        until(page, "window.written !== undefined")
        assert page.evaluate("window.written") == commands
        page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('no'); }; }")
        page.locator("button", has_text="copied").click()
        until(page, "getSelection().toString().length > 0")
        assert page.evaluate("getSelection().toString()").strip() == commands.strip()


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(opened):
    with opened("seeds") as visit:
        page = ready(visit)
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("select, input, button, canvas.plot, .plot")]
              .filter((one) => !one.closest(".uplot"))
              .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel))
              .map((one) => one.outerHTML)"""
        )
        assert unnamed == []
        reached = []
        for _ in range(45):
            page.keyboard.press("Tab")
            told = page.evaluate("document.activeElement.name || document.activeElement.ariaLabel || ''")
            reached += [told] if told not in reached else []
        wanted = [
            "theme",
            "metric",
            "x",
            "xscale",
            "yscale",
            "colour",
            "panels",
            "middle",
            "band",
            "map",
            "mapof",
            "mapx",
        ]
        assert [name for name in reached if name in wanted] == wanted
        assert any("test_loss: 6 curves" in name for name in reached)
        assert any("3 by 2 cells" in name for name in reached)


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("name", ["run", "seeds", "study", "odd"])
def test_nothing_is_wider_than_the_page(opened, name, width):
    with opened(name, viewport={"width": width, "height": 800}) as visit:
        assert ready(visit).evaluate("document.documentElement.scrollWidth") <= width


def test_paper_is_white_and_has_no_controls(opened):
    with opened("seeds", "theme=dark") as visit:
        page = ready(visit)
        assert page.evaluate("dln.colour('--paper')") == "rgb(22, 24, 28)"
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("dln.colour('--paper')") == "rgb(255, 255, 255)"
        page.emulate_media(media="print")
        assert not page.locator("select[name=metric]").is_visible()
        page.emulate_media(media="screen")
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("dln.colour('--paper')") == "rgb(22, 24, 28)"
