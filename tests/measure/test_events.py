"""Events: found from curves of known shape, and the same alone, in an ensemble and in a sweep."""

import json

import numpy as np
import pytest

import dln
from dln.composing.compose import resolve
from dln.config import SingleConfig
from dln.errors import ConfigError, ExtensionError
from dln.factory import check_names
from dln.measure.events import EVENTS, Column, edge_of_stability, event, first_reach, mode_escapes, mode_order, plateaus
from dln.results.finals import final_values
from dln.results.frames import load_sweep
from dln.results.run import load_run
from dln.sweeps.driver import run_sweep
from tests.sweeps.test_driver import plan_of

STEP = np.arange(0, 1001, 10)


def test_a_level_is_reached_between_records():
    curve = STEP / 100.0
    assert first_reach(STEP, curve, 3.33) == pytest.approx(333)
    assert first_reach(STEP, curve, 0.0) == 0
    assert np.isnan(first_reach(STEP, curve, 11.0))
    assert edge_of_stability(STEP, curve) == pytest.approx(100)


def test_modes_escape_when_theory_says():
    """Two layers, aligned: a(t) = s / (1 + (s / a0 - 1) exp(-2 s t)) reaches half of s at ln(s / a0 - 1) / 2s."""
    s, a0 = np.array([5.0, 3.0, 0.1]), 1e-3
    lr, outputs = 0.001, 3
    t = 2 * lr * STEP / outputs
    strengths = s / (1 + (s / a0 - 1) * np.exp(-2 * s * t[:, None]))
    expected = np.log(s / a0 - 1) / (2 * s) * outputs / (2 * lr)
    found = mode_escapes(STEP, strengths, s)
    np.testing.assert_allclose(found[expected < STEP[-1]], expected[expected < STEP[-1]], rtol=1e-2)
    assert np.isnan(found[expected > STEP[-1]]).all()
    assert mode_order(STEP, strengths[:, ::-1], s[::-1]) == [3 - i for i in np.argsort(expected) if expected[i] < 1000]


def test_modes_that_the_teacher_lacks_are_never_learned():
    strengths = np.linspace(0, 10, len(STEP))[:, None] * np.array([1.0, 0.5, 1e-3, 0.0])
    values = np.array([8.0, 4.0, 1e-15, 0.0])
    np.testing.assert_array_equal(np.isnan(mode_escapes(STEP, strengths, values)), [False, False, True, True])
    assert mode_order(STEP, strengths, values) == [1, 2]


def test_a_level_is_found_among_records_without_a_value():
    curve = np.array([np.nan, 1.0, np.nan, 3.0, np.inf])
    assert first_reach(np.arange(5), curve, 2.0) == 2.0
    assert np.isnan(first_reach(np.arange(5), curve, 4.0))


def test_stairs_have_plateaus():
    falls = [(200, 4.0, 2.0), (600, 2.0, 0.5)]
    loss = np.full(len(STEP), 4.0)
    for at, _, low in falls:
        loss[at < STEP] = low
    found = plateaus(STEP, {"train_loss": loss})
    assert found == {"begin": [0, 210, 610], "end": [200, 600, 1000], "level": [4.0, 2.0, 0.5]}
    assert plateaus(STEP, {"x": 5.0 - STEP / 1000}, column="x") == {"begin": [], "end": [], "level": []}
    assert plateaus(STEP, {"train_loss": loss}, shortest=0.3)["begin"] == [210, 610]


RUN = {
    "max_steps": 400,
    "evaluate_every": 20,
    "dtype": "float64",
    "model": {"hidden_dim": 6, "num_hidden": 1, "gamma": 2.0},
    "training": {"lr": 0.01},
    "metrics": ["mode_strengths"],
    "events": ["mode_escapes", "mode_order", {"name": "plateaus", "params": {"column": "test_loss"}}],
}


def test_a_run_tells_what_happened_in_it(tmp_path):
    history = dln.run_experiment(RUN, directory=tmp_path / "run")
    escapes = history.events["mode_escapes"]
    assert len(escapes) == 5
    values = [10, 8, 6, 4, 2]  # of the default teacher
    for at, curve, value in zip(escapes, history["mode_strengths"].T, values, strict=True):
        if at is not None:
            np.testing.assert_allclose(np.interp(at, history["step"], curve), value / 2)
        else:
            assert (curve < value / 2).all()
    order = sorted((at, i) for i, at in enumerate(escapes, start=1) if at is not None)
    assert history.events["mode_order"] == [i for _, i in order]
    assert len(order) > 1
    assert load_run(tmp_path / "run").events == history.events
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["events"] == history.events
    assert dln.run_experiment({**RUN, "engine": "autograd"}).events["mode_order"] == history.events["mode_order"]
    (again,) = dln.run_experiments([RUN])
    assert again.events == history.events


def test_both_lanes_of_a_comparison_have_their_own():
    run = {key: value for key, value in RUN.items() if key not in ("model", "training", "metrics")}
    lanes = {"shared": {"model": RUN["model"], "training": RUN["training"]}, "model_b": {"gamma": 1.5}}
    history = dln.run_experiment({**run, **lanes, "model_metrics": ["mode_strengths"]})
    alone = dln.run_experiment(RUN)
    assert history.events["mode_escapes_a"] == alone.events["mode_escapes"]
    assert history.events["plateaus_a.begin"] == alone.events["plateaus.begin"]
    assert history.events["mode_escapes_b"] != history.events["mode_escapes_a"]


def test_a_sweep_keeps_the_events_of_every_run(tmp_path):
    pytest.importorskip("xarray")
    overrides = ["max_steps=400", "evaluate_every=20", "metrics=[mode_strengths]", "events=[mode_escapes,plateaus]"]
    plan = plan_of(*overrides, "training.lr=0.005,0.01,50", "data.data_seed=0,1")
    run_sweep(plan, tmp_path)
    rows = {row["run"]: row for row in load_sweep(tmp_path).iter_rows(named=True)}
    for cell in range(len(plan)):
        events = dln.run_experiment(plan.config(cell)).events
        assert "mode_escapes" in events
        for name, value in events.items():
            assert rows[plan.identity(cell)][name] == value
    assert load_run(tmp_path / "0").events == dln.run_experiment(plan.config(0)).events
    data = dln.to_xarray(load_sweep(tmp_path))
    assert data["mode_escapes"].dims == ("data.data_seed", "training.lr", "mode_escapes_list")
    assert data["mode_strengths"].dims[:3] == ("data.data_seed", "training.lr", "record")
    assert final_values(tmp_path)["diverged"].to_list() == [0, 0, 2]


def test_whole_numbers_are_whole_alone_and_in_a_table(tmp_path):
    overrides = ["max_steps=300", "metrics=[mode_strengths]", "events=[mode_escapes,mode_order]"]
    plan = plan_of(*overrides, "training.lr=1e-6,0.02", "data.params.matrix=power_law_topk")
    run_sweep(plan, tmp_path)
    orders = load_sweep(tmp_path)["mode_order"].to_list()
    assert sorted(map(len, orders)) == [0, 2]
    alone = dln.run_experiment(plan.config(1)).events["mode_order"]
    assert alone in ([1, 2], [2, 1])
    assert all(type(i) is int for order in [alone, *orders] for i in order)


def test_two_uses_of_one_event_have_labels():
    early = {"name": "mode_escapes", "label": "early", "params": {"fraction": 0.1}}
    found = dln.run_experiment({**RUN, "events": ["mode_escapes", early]}).events
    pairs = [(a, b) for a, b in zip(found["early"], found["mode_escapes"], strict=True) if b is not None]
    assert pairs
    assert all(a < b for a, b in pairs)


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_events_see_a_lane_as_far_as_it_was_trained(engine):
    """One lane diverges, the other is stopped and keeps its weights while the other goes on."""
    if "test_last" not in EVENTS:

        @event("test_last", of=["train_loss"])
        def last(step, columns, train_loss, column: Column = "train_loss"):
            return {"step": int(step[-1]), "value": float(columns[column][-1])}

    stop = {"name": "stop_at_loss", "params": {"target": 5.0}}
    norms = {"name": "test_last", "label": "norm", "params": {"column": "layers.1"}}
    config = {
        **{k: v for k, v in RUN.items() if k not in ("metrics", "model", "training")},
        "engine": engine,
        "evaluate_every": 1,
        "shared": {"model": RUN["model"], "training": RUN["training"]},
        "model_metrics": [{"name": "layer_singular_values", "label": "layers", "params": {"top": 1}}],
        "events": ["test_last"],
    }
    history = dln.run_experiment({**config, "training_b": {"lr": 50}, "callbacks_a": [stop]})
    assert history.events["test_last_a.step"] == history.events["stopped_at_a"]
    assert history.events["test_last_b.step"] == history.events["diverged_at_b"] - 1
    going_on = dln.run_experiment({**config, "callbacks_a": [stop]})
    assert going_on.final["step"] == 400
    assert going_on.events["test_last_a.step"] == going_on.events["stopped_at_a"] < 400
    with pytest.raises(ConfigError, match=r"'layers.1' has 1 numbers a record"):
        dln.run_experiment({**config, "events": [norms]})
    lost = dln.run_experiment({**config, "dtype": "float32", "shared": {"model": {"alpha": 1e12}}})
    assert lost.events == {"diverged_at_a": 0, "diverged_at_b": 0}


@pytest.mark.parametrize("value", [[[1.0]], "word", [1, [2, 3]], {"x": object()}])
def test_an_event_that_is_no_number_is_named(value):
    if "test_odd" not in EVENTS:

        @event("test_odd")
        def odd(step):
            return ODD[0]

    ODD[:] = [value]
    with pytest.raises(ExtensionError, match="event 'test_odd' failed"):
        dln.run_experiment({**RUN, "events": ["test_odd"]})


ODD: list = []


def test_what_is_not_finite_is_null():
    if "test_infinite" not in EVENTS:

        @event("test_infinite")
        def infinite(step):
            return {"a": [np.inf, 1.0, np.nan], "b": -np.inf, "c": None, "d": True}

    found = dln.run_experiment({**RUN, "events": ["test_infinite"]}).events
    expected = {"a": [None, 1.0, None], "b": None, "c": None, "d": 1}
    assert {key: found[f"test_infinite.{key}"] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("plateaus", {"column": "los"}, "events[0].params.column: there is no column 'los'"),
        ("plateaus", {"column": "step"}, "events[0].params.column: there is no column 'step'"),
        (
            "plateaus",
            {"column": "mode_strengths"},
            "events[0].params.column: the column 'mode_strengths' has 5 numbers",
        ),
        ("plateaus", {"column": "mode_strengths.1"}, "there is no column 'mode_strengths.1'"),
        ("plateaus", {"tolerance": -0.1}, "events[0].params.tolerance"),
        ("plateaus", {"shortest": 1.5}, "events[0].params.shortest"),
        ("mode_escapes", {"fraction": float("nan")}, "events[0].params.fraction"),
        ("mode_escapes", {"fraction": 0}, "events[0].params.fraction"),
    ],
)
@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_parameters_of_events_are_checked_before_the_first_step(name, params, words, engine, tmp_path):
    config = {**RUN, "engine": engine, "events": [{"name": name, "params": params}]}
    with pytest.raises(ConfigError) as caught:
        dln.run_experiment(config, directory=tmp_path / "run")
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError) as caught:
        check_names(resolve(config, SingleConfig))
    assert words in str(caught.value)


def test_what_an_event_needs_is_asked_for_before_the_run():
    with pytest.raises(ConfigError, match="needs the column 'mode_strengths'; add it to the metrics"):
        dln.run_experiment({**RUN, "metrics": []})
    with pytest.raises(ConfigError, match="needs the column 'mode_strengths'"):
        dln.run_experiments([{**RUN, "metrics": []}])
    with pytest.raises(ConfigError, match="did you mean 'plateaus'"):
        dln.run_experiment({**RUN, "events": ["plateus"]})
    with pytest.raises(ConfigError, match=r"events\[0\].params.fraction"):
        dln.run_experiment({**RUN, "events": [{"name": "mode_escapes", "params": {"fraction": "half"}}]})


def test_ones_own_event():
    if "test_least" not in EVENTS:

        @event("test_least", of=["test_loss"])
        def least(step, test_loss, above: float = 0.0):
            if above > 1e6:
                raise ValueError("too high")
            return max(above, test_loss.min())

    history = dln.run_experiment({**RUN, "events": ["test_least"]})
    assert history.events["test_least"] == history["test_loss"].min()
    with pytest.raises(ExtensionError, match=r"test_least.*too high"):
        dln.run_experiment({**RUN, "events": [{"name": "test_least", "params": {"above": 1e7}}]})
