"""Events: found from curves of known shape, and the same alone, in an ensemble and in a sweep."""

import json

import numpy as np
import pytest

import dln
from dln.errors import ConfigError, ExtensionError
from dln.events import EVENTS, edge_of_stability, event, first_reach, mode_escapes, mode_order, plateaus
from dln.frames import load_sweep
from dln.show import final_values
from dln.store import load_run
from dln.sweep import run_sweep
from tests.test_sweep import plan_of

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
