"""The page in a real browser: what is moved is trained, what is drawn are the numbers of `run_experiments`."""

from __future__ import annotations

import contextlib
import csv
import http.server
import io
import json
import shlex
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dln
from dln.composing.loader import load_config
from dln.config import SingleConfig
from dln.explorer.controls import CONTROLS
from dln.explorer.door import explore_here
from dln.explorer.presets import PRESETS
from dln.explorer.question import Question
from tests.browser import Visit, started, visited
from tests.explorer.serving import Running, running_server

pytestmark = pytest.mark.browser

SMALL = {"model.hidden_dim": 6, "max_steps": 40, "training.lr": 0.002}
BASE = "&".join(f"{key}={value}" for key, value in {**SMALL, "seeds": 3, "records": 17}.items())
USUAL = [f"{key}={value}" for key, value in SMALL.items()] + ["evaluate_at={linear: 17}"]

MOVED: dict[str, Any] = {
    "model.num_hidden": 1,
    "model.hidden_dim": 9,
    "model.gamma": 0.5,
    "model.alpha": 1.5,
    "model.init": "orthogonal",
    "training.lr": 0.004,
    "training.batch_size": 7,
    "training.label_noise": 0.5,
    "max_steps": 60,
    "data.params.matrix": "power_law",
    "data.params.scale": 3.0,
    "data.rotate": True,
    "data.whiten": True,
    "data.noise_std": 1.0,
    "data.train_samples": 20,
    "model.in_dim": 3,
    "model.out_dim": 4,
}
"""What each control is moved to; those that mean something with some words of another one have a test of their own."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server() as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as made:
        yield made


@pytest.fixture
def visit(server: Running, browser: Any) -> Iterator[Visit]:
    with visited(browser, f"{server.address}#{BASE}", server.origin) as made:
        settle(made)
        yield made


def settle(visit: Visit) -> None:
    """Wait for the end of the answer."""
    visit.page.locator("#state[data-busy=false]").wait_for(timeout=60_000)


def setting(visit: Visit, key: str, lane: str = "a") -> Any:
    return visit.page.locator(f'[data-key="{key}"][data-lane="{lane}"]')


def move(visit: Visit, key: str, value: Any, lane: str = "a") -> None:
    """Set a control as a person does, and wait for the picture."""
    row = setting(visit, key, lane)
    if isinstance(value, bool):
        row.locator("input").set_checked(value)
    elif isinstance(value, str):
        row.locator("select").select_option(value)
    else:
        row.locator("input[type=number]").fill("" if value is None else str(value))
        row.locator("input[type=number]").press("Enter")
    settle(visit)


def curves(visit: Visit, panel: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return x and y of the labelled curves of a panel."""
    read = "(p) => dln.explorer.spec(p)?.curves.map((c) => [c.label, Array.from(c.x), Array.from(c.y, String)]) ?? []"
    return {label: (np.array(x), np.array(y, float)) for label, x, y in visit.page.evaluate(read, panel) if label}


def expected(overrides: list[str], seeds: int = 3, vary: str = "training.model_seed") -> list[dln.History]:
    return dln.run_experiments([[*overrides, f"{vary}={seed}"] for seed in range(seeds)])


def agree(visit: Visit, histories: list[dln.History], suffix: str = "", label: str = "") -> None:
    """Check that the page draws medians of these runs."""
    for panel, name, column in (("losses", "training", "train_loss"), ("losses", "test", "test_loss")):
        x, y = curves(visit, panel)[name + label]
        values = np.stack([history[column + suffix] for history in histories])
        assert x.tolist() == histories[0]["step"].tolist()
        assert np.allclose(y, np.median(values, 0), rtol=1e-6, equal_nan=True)


def test_there_is_a_movement_for_every_control():
    assert {control.key for control in CONTROLS if control.when is None} == {*MOVED}


@pytest.mark.parametrize("key", MOVED)
def test_every_control_moves_the_curves_to_what_is_trained(visit, key):
    before = curves(visit, "losses")["training"][1]
    move(visit, key, MOVED[key])
    after = curves(visit, "losses")["training"][1]
    assert not np.array_equal(before, after)
    agree(visit, expected([*USUAL, f"{key}={MOVED[key]}"]))


@pytest.mark.parametrize(
    ("key", "value", "needs"),
    [
        ("data.params.alpha", 2.5, "data.params.matrix=power_law"),
        ("data.params.rank", 3, "data.params.matrix=low_rank"),
        ("model.init_params.strength", 0.5, "model.init=aligned"),
    ],
)
def test_controls_that_need_a_word_are_there_when_it_is_said(visit, key, value, needs):
    assert setting(visit, key).is_hidden()
    move(visit, *needs.split("="))
    assert setting(visit, key).is_visible()
    before = curves(visit, "losses")["training"][1]
    move(visit, key, value)
    assert not np.array_equal(before, curves(visit, "losses")["training"][1])
    agree(visit, expected([*USUAL, needs, f"{key}={value}"]))


def test_seeds_and_what_they_are_of(visit):
    move(visit, "seeds", 6)
    agree(visit, expected(USUAL, 6))
    move(visit, "training.batch_size", 5)
    visit.page.select_option("#own-vary", label="batches")
    settle(visit)
    agree(visit, expected([*USUAL, "training.batch_size=5"], 6, "training.batch_seed"))
    assert "6 seeds, 40 steps" in visit.page.inner_text("#state")


def test_a_slider_moves_by_the_keyboard_and_its_field_follows(visit):
    row = setting(visit, "model.num_hidden")
    slider = row.locator("input[type=range]")
    slider.focus()
    visit.page.keyboard.press("ArrowRight")
    settle(visit)
    assert row.locator("input[type=number]").input_value() == "4"
    agree(visit, expected([*USUAL, "model.num_hidden=4"]))
    log = setting(visit, "training.lr").locator("input[type=range]")
    log.focus()
    visit.page.keyboard.press("End")
    settle(visit)
    assert setting(visit, "training.lr").locator("input[type=number]").input_value() == "10"
    assert "3 diverged" in visit.page.inner_text("#state")
    size = setting(visit, "training.batch_size").locator("input[type=range]")
    assert size.get_attribute("aria-valuetext") == "full batch"


def test_sharpness_modes_values_and_the_teacher_are_drawn(visit):
    histories = expected([*USUAL, "metrics=[mode_strengths,singular_values,sharpness]"])
    for panel, word, column in (("modes", "mode", "mode_strengths"), ("values", "value", "singular_values")):
        found = curves(visit, panel)
        for i in range(5):
            median = np.median([history[column][:, i] for history in histories], 0)
            assert np.allclose(found[f"{word} {i + 1}"][1], median, rtol=1e-5, atol=1e-7)
    steps, sharpness = curves(visit, "sharpness")["sharpness"]
    at = [histories[0]["step"].tolist().index(step) for step in steps]
    assert np.allclose(sharpness, np.median([h["sharpness"][at] for h in histories], 0), rtol=1e-6)
    assert (curves(visit, "sharpness")["2 / lr"][1] == 1000).all()
    levels = visit.page.evaluate("dln.explorer.spec('modes').levels.map((level) => level.y)")
    assert np.allclose(levels, [10, 8, 6, 4, 2])
    visit.page.uncheck("#own-sharpness")
    settle(visit)
    assert visit.page.locator("[data-panel=sharpness]").is_hidden()


def test_two_settings_side_by_side_and_their_distance(visit):
    visit.page.check("#compare")
    assert setting(visit, "model.gamma", "b").is_visible()
    assert setting(visit, "data.noise_std", "b").count() == 0
    move(visit, "training.lr", 0.004, "b")
    move(visit, "training.batch_size", 5, "b")
    words = ["training.lr=0.004", "training.batch_size=5"]
    told = ["reference={training.lr: 0.002, training.batch_size: null}", "comparative_metrics=[param_distance]"]
    histories = expected([*(word for word in USUAL if "lr" not in word), *words, *told])
    for lane in "ab":
        agree(visit, histories, f"_{lane}", f", {lane.upper()}")
    distance = curves(visit, "distance")["of the weights"][1]
    assert np.allclose(distance, np.median([h["param_distance"] for h in histories], 0), rtol=1e-5)
    visit.page.uncheck("#compare")
    settle(visit)
    agree(visit, expected(USUAL))
    assert visit.page.locator("[data-panel=distance]").is_hidden()


def test_b_leaves_a_on_the_way(visit):
    visit.page.check("#compare")
    move(visit, "training.batch_size", 5, "b")
    visit.page.fill("#own-branch", "20")
    visit.page.press("#own-branch", "Enter")
    settle(visit)
    steps, distance = curves(visit, "distance")["of the weights"]
    assert (distance[steps <= 20] == 0).all()
    assert (distance[steps > 20] > 0).all()


def test_theory_a_further_metric_and_the_axis_of_steps(visit):
    move(visit, "model.init", "aligned")
    move(visit, "data.whiten", True)
    for name, value in (("theory", "aligned modes"), ("further", "weight norm"), ("spacing", "log")):
        visit.page.select_option(f"#own-{name}", label=value)
        settle(visit)
    words = ["model.init=aligned", "data.whiten=true", "metrics=[weight_norm]", "theory=[aligned_modes]"]
    (history,) = expected([*(w for w in USUAL if "evaluate" not in w), *words, "evaluate_at={log: 17}"], 1)
    steps, predicted = curves(visit, "losses")["aligned_modes"]
    assert steps.tolist() == history["step"].tolist()[1:]  # there is no step 0 on a logarithmic axis
    assert np.allclose(predicted, history["train_loss_aligned_modes"][1:], rtol=1e-6)
    assert np.allclose(curves(visit, "further")["weight_norm"][1], history["weight_norm"][1:], rtol=1e-6)
    assert "alignment gap" in visit.page.inner_text("#state")
    move(visit, "model.init", "gamma")
    assert "start with model.init=aligned" in visit.page.inner_text("#state")


def test_single_seeds_and_axes_are_drawn_without_training_anew(visit, server):
    pieces = server.worker.pieces
    count = "dln.explorer.spec('losses').curves.length"
    before = visit.page.evaluate(count)
    visit.page.check("#own-curves")
    assert visit.page.evaluate(count) == before + 2 * 3
    visit.page.uncheck("#own-logarithmic")
    assert visit.page.evaluate("dln.explorer.spec('losses').y.log") is False
    assert server.worker.pieces == pieces


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_is_its_question_and_its_address_brings_it_back(browser, server, preset):
    asked: list[dict] = []
    with visited(browser, f"{server.address}#max_steps=5", server.origin) as visit:
        visit.page.on("request", lambda request: asked.append(json.loads(request.post_data or "{}")))
        settle(visit)
        visit.page.select_option("#preset", label=preset.name)
        settle(visit)
        assert visit.page.inner_text("#look") == f"{preset.look} ({preset.source})"
        assert Question.of(asked[-1]["question"]) == preset.question()
        visit.page.wait_for_timeout(400)  # the address follows a moment later
        drawn, address = curves(visit, "losses"), visit.page.url
    with visited(browser, address, server.origin) as again:
        settle(again)
        found = curves(again, "losses")
        assert {*found} == {*drawn}
        assert all(np.array_equal(found[name][1], drawn[name][1], equal_nan=True) for name in drawn)


def test_copies_are_of_what_is_drawn(browser, server):
    permissions = ["clipboard-read", "clipboard-write"]
    address = f"{server.address}#{BASE}&model.gamma=1.5"
    with visited(browser, address, server.origin, permissions=permissions) as visit:
        settle(visit)
        copied = {}
        for kind in ("command", "yaml", "python"):
            visit.page.click(f"[data-copy={kind}]")
            visit.page.locator("#state", has_text="Copied.").wait_for()
            copied[kind] = visit.page.evaluate("navigator.clipboard.readText()")
            assert visit.page.inner_text("#copied").strip() == copied[kind].strip()
            visit.page.evaluate("document.getElementById('state').textContent = ''")
        words = shlex.split(copied["command"])
        assert words[:3] == ["dln", "run", "-m"]
        config = load_config([word for word in words[3:] if "range" not in word], SingleConfig)
        assert (config.model.gamma, config.max_steps, config.training.lr) == (1.5, 40, 0.002)
        made: dict[str, Any] = {}
        exec(copied["python"], made)
        agree(visit, made["histories"])
        assert "gamma: 1.5" in copied["yaml"]


def test_data_and_picture_are_taken_along(visit):
    with visit.page.expect_download() as caught:
        visit.page.click("#data")
    text = caught.value.path().read_text(encoding="utf-8")
    head, *parts = text.split("# curves\n")
    assert head.startswith("# dln run -m")
    rows = [*csv.DictReader(io.StringIO(parts[0].split("# sharpness")[0]))]
    histories = expected(USUAL)
    assert [int(row["step"]) for row in rows] == histories[0]["step"].tolist()
    for seed, history in enumerate(histories):
        assert np.allclose([float(row[f"train_loss seed {seed}"]) for row in rows], history["train_loss"], rtol=1e-6)
    with visit.page.expect_download() as caught:
        visit.page.click("#figure")
    assert caught.value.suggested_filename == "explored.pdf"
    assert caught.value.path().read_bytes().startswith(b"%PDF")
    with visit.page.expect_download() as caught:
        visit.page.click("#picture")
    import matplotlib.image

    image = matplotlib.image.imread(caught.value.path())
    assert image.shape[0] > 400
    assert image.shape[1] > 800
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 20


def test_while_a_slider_is_dragged_older_questions_are_dropped_and_the_last_is_drawn(visit):
    asked = []
    visit.page.on("request", lambda request: asked.append(request.url))
    places = [200 + 2 * (i % 60) for i in range(300)]
    visit.page.evaluate(
        """async (places) => {
          window.kept = 0; // how often the address is set
          const own = history.replaceState.bind(history);
          history.replaceState = (...told) => (window.kept++, own(...told));
          const slider = document.getElementById("a-model-gamma");
          for (const place of places) {
            slider.value = place;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((resolve) => setTimeout(resolve, 2));
          }
        }""",
        places,
    )
    settle(visit)
    gamma = setting(visit, "model.gamma").locator("input[type=number]").input_value()
    agree(visit, expected([*USUAL, f"model.gamma={gamma}"]))
    assert 2 <= len(asked) < len(places)
    drawn = "new Set(dln.explorer.pictures.filter((one) => one.kind === 'curves').map((one) => one.number)).size"
    assert visit.page.evaluate(drawn) >= 3  # the first one, some on the way, and the last
    visit.page.wait_for_timeout(400)
    assert 1 <= visit.page.evaluate("window.kept") < 20
    assert f"model.gamma={gamma}" in visit.page.url


def test_what_cannot_be_trained_is_told_and_goes_away(visit):
    visit.page.evaluate("() => { window.notes = []; }")
    move(visit, "data.train_samples", 5)
    with visit.page.expect_response("**/answer"):
        move(visit, "training.batch_size", 50)
    fault = visit.page.locator("#fault")
    assert "training.batch_size" in fault.inner_text()
    move(visit, "training.batch_size", 3)
    assert fault.is_hidden()
    agree(visit, expected([*USUAL, "data.train_samples=5", "training.batch_size=3"]))


def test_odd_fragments_are_passed_over(browser, server):
    odd = "&".join([BASE, "nonsense=1", "training.lr", "model.gamma={", "b.data.noise_std=3", "__proto__=1", "view=2"])
    with visited(browser, f"{server.address}#{odd}", server.origin) as visit:
        settle(visit)
        agree(visit, expected(USUAL))


def test_a_fragment_with_a_value_that_there_is_not_is_told(browser, server):
    word = "model.init=%22%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22"
    with visited(browser, f"{server.address}#{BASE}&{word}", server.origin) as visit:
        visit.page.locator("#fault").wait_for()
        assert "no such choice as '<img src=x onerror=alert(1)>'" in visit.page.inner_text("#fault")
        assert visit.page.locator("img").count() == 0
        visit.faults = [fault for fault in visit.faults if "422" not in fault]  # the browser notes what is refused


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_nothing_stands_out_of_the_window(browser, server, scheme, width):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    with visited(browser, f"{server.address}#{BASE}&compare=true&b.model.gamma=2", server.origin, **options) as visit:
        settle(visit)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 28)")
        for panel in ("losses", "modes", "values", "distance", "sharpness"):
            assert visit.page.locator(f"[data-panel={panel}] canvas").is_visible()


def test_everything_is_reached_by_tab_and_has_a_name(visit):
    named = """() => [...document.querySelectorAll("input, select, button")].filter((one) => one.checkVisibility())
      .map((one) => [one, one.getAttribute("aria-label") || one.labels?.[0]?.innerText || one.innerText])
      .map(([one, name]) => [one.id || one.type, name.trim()])"""
    parts = visit.page.evaluate(named)
    assert len(parts) > 40
    assert all(name for _, name in parts), parts
    visit.page.focus("#preset")
    seen = set()
    for _ in range(len(parts) + 30):
        seen.add(visit.page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
        visit.page.keyboard.press("Tab")
    assert {"a-model-gamma", "a-training-lr", "own-theory", "compare", "Width, exactly"} <= seen
    assert visit.page.locator("#state").get_attribute("aria-live") == "polite"
    assert visit.page.locator("[data-panel=losses] [role=application]").get_attribute("aria-label").startswith("Losses")


def test_a_server_that_has_gone_is_told(browser):
    with running_server() as gone, visited(browser, f"{gone.address}#{BASE}", gone.origin) as visit:
        settle(visit)
        visit.page.context.set_offline(True)
        move(visit, "model.gamma", 2.0)
        assert "Is dln explore still running?" in visit.page.inner_text("#fault")
        visit.faults = [fault for fault in visit.faults if "ERR_INTERNET_DISCONNECTED" not in fault]


def test_it_runs_in_a_cell_of_a_notebook_of_this_machine(browser):
    pytest.importorskip("IPython")
    cell = explore_here(height=700)
    with notebook(cell._repr_html_()) as address, visited(browser, address, "http://127.0.0.1:") as visit:
        frame = visit.page.frame_locator("iframe")
        frame.locator("#state[data-busy=false]").wait_for(timeout=60_000)
        assert frame.locator("[data-panel=losses] canvas").is_visible()
        frame.locator("#a-model-num_hidden").press("ArrowLeft")
        frame.locator("#state[data-busy=false]").wait_for(timeout=60_000)
        assert "32 seeds" in frame.locator("#state").inner_text()


def test_the_command_s_page_is_held_by_no_frame(browser, server):
    held = f'<iframe src="{server.address}"></iframe>'
    with notebook(held) as address, visited(browser, address, "http://127.0.0.1:") as visit:
        visit.page.wait_for_load_state("networkidle")
        assert visit.page.frame_locator("iframe").locator("#state").count() == 0
        visit.faults.clear()  # the browser notes that it was refused


@contextlib.contextmanager
def notebook(html: str) -> Iterator[str]:
    """Serve a page of another origin of this machine; yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 204)
            self.send_header("content-type", "text/html")
            self.end_headers()
            if self.path == "/":
                self.wfile.write(f"<!doctype html><title>notebook</title>{html}".encode())

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}/"
        made.shutdown()
