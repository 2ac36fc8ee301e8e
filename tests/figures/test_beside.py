"""What stands beside what is measured: the teacher, the losses at saddles, the largest stable sharpness."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dln.errors import ConfigError
from dln.experiment import run_experiment
from dln.figures.rates import limit_of
from dln.figures.style import LIMIT, TEACHER
from dln.figures.target import levels_of
from dln.plotting import losses, metric, plot_run, sharpness, strengths
from tests.figures.histories import config, labels, of, overlaps, single

pytestmark = pytest.mark.sampled(whole_file=True)

SMALL = ["max_steps=40", "evaluate_every=4", "model.num_hidden=1", "model.hidden_dim=6", "training.lr=0.005"]


def heights(artists):
    return [line.get_ydata()[0] for line in artists]


def test_the_teachers_singular_values_stand_beside_those_of_the_map():
    history = run_experiment([*SMALL, "metrics=[singular_values]", "data.rotate=true", "data.params.scale=7"])
    ax = strengths(history)
    lines = of(ax, "teacher")
    np.testing.assert_allclose(heights(lines), 7 * np.array([1, 0.8, 0.6, 0.4, 0.2]))
    assert {to_hex(line.get_color()) for line in lines} == {TEACHER.lower()}
    assert ax.get_ylim()[1] > 7
    assert "teacher" in labels(ax)
    assert len(of(plot_run(history).axes[1], "teacher")) == 5


def test_only_as_many_of_the_teachers_values_as_are_recorded_and_none_where_it_changes():
    top = "metrics=[{name: singular_values, params: {top: 2}, label: leading}]"
    history = run_experiment([*SMALL, top])
    assert len(of(plot_run(history).axes[1], "teacher")) == 2
    switch = "callbacks=[{name: switch_teacher, params: {step: 20, factor: -1}}]"
    assert of(strengths(run_experiment([*SMALL, "metrics=[singular_values]", switch])), "teacher") == []
    unknown = single(singular_values=lambda s: [1.0, 2.0])
    assert of(strengths(unknown), "teacher") == []


def test_data_of_ones_own_have_their_own_teacher(tmp_path):
    from dln import Dataset

    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5))
    data = Dataset.from_arrays(x, x @ rng.normal(size=(5, 5)).T)
    history = run_experiment([*SMALL, "metrics=[singular_values]"], dataset=data)
    assert history.config is not None
    assert "data" not in history.config  # what stands there is of other data
    assert of(strengths(history), "teacher") == []


def test_levels_are_the_losses_at_the_saddles_of_the_runs_own_data():
    start = ["model.init=balanced", "model.init_params.norm=0.01", "data.noise_std=0.5", "dtype=float64"]
    recorded = run_experiment([*SMALL, *start, "theory=[plateaus]"])
    own = run_experiment([*SMALL, *start])
    np.testing.assert_allclose(levels_of(own), recorded["levels_plateaus"][0], rtol=1e-12)
    ax = losses(own, levels=True)
    low, high = ax.get_ylim()
    shown = [level for level in recorded["levels_plateaus"][0] if low <= level <= high]
    np.testing.assert_allclose(heights(of(ax, "level")), shown)
    assert "saddles" in labels(ax)
    assert [ax.get_ylabel() for ax in plot_run(recorded).axes] == ["loss"]  # where levels stand


@pytest.mark.parametrize(
    "change",
    [
        ["model.num_hidden=0"],
        ["model.bias=true"],
        ["training.criterion=L1Loss"],
        ["model.gamma=0", "model.alpha=3"],  # it starts far from the origin
    ],
)
def test_there_are_no_levels_where_there_are_no_saddles_on_the_way(change):
    history = run_experiment([*SMALL, *change])
    assert levels_of(history) is None
    assert of(losses(history), "level") == []
    with pytest.raises(ConfigError, match=r"theory=\[plateaus\]"):
        losses(history, levels=True)


def test_the_sharpness_stands_beside_two_over_the_rate_of_each_step():
    callbacks = "callbacks=[{name: lr_decay, params: {factor: 0.5, interval: 20}}]"
    history = run_experiment([*SMALL, "training.lr=0.1", "metrics=[sharpness,edge_of_stability]", callbacks])
    recorded = history["edge_of_stability"]
    for record in history.records:
        del record["edge_of_stability"]
    ax = sharpness(history)
    (line,) = of(ax, "limit")
    np.testing.assert_allclose(line.get_ydata(), recorded, rtol=1e-6)
    np.testing.assert_allclose(line.get_ydata(), 20.0 * 2 ** (history["step"] // 20))
    assert to_hex(line.get_color()) == LIMIT.lower()
    assert [text.get_text() for text in of(ax, "name")] == ["2 / lr"] or "2 / lr" in labels(ax)
    assert overlaps(plot_run(history)) == []


@pytest.mark.parametrize(
    ("training", "expected", "name"),
    [
        ({"optimizer_params": {"momentum": 0.9}}, 2 * 1.9 / 0.1, "edge of stability"),
        ({"optimizer_params": {"weight_decay": 0.5}}, 20 - 0.5, "edge of stability"),
        ({}, 20, "2 / lr"),
    ],
)
def test_the_limit_is_the_optimizers_own(training, expected, name):
    history = single(sharpness=float)
    history.config = config(**training)
    limit = limit_of(history, "")
    assert limit is not None
    assert limit.name == name
    np.testing.assert_allclose(limit.values, expected)


def test_adam_has_no_limit_and_neither_has_a_run_without_a_config():
    history = single(sharpness=float)
    assert limit_of(history, "") is None
    history.config = config(optimizer="Adam")
    assert limit_of(history, "") is None
    assert of(sharpness(history), "limit", "name") == []
    recorded = single(sharpness=float, edge_of_stability=lambda s: 3.0)
    assert heights(of(sharpness(recorded), "limit")) == [3.0]


def test_a_limit_far_above_is_named_and_squeezes_nothing():
    history = single(sharpness=lambda s: 1.0 + s)
    history.config = config(lr=0.001)
    ax = sharpness(history)
    assert ax.get_ylim()[1] < 10
    assert labels(ax) == ["2 / lr is 2000"]


def test_a_metric_alone_has_nothing_beside_it():
    history = run_experiment([*SMALL, "metrics=[singular_values]"])
    assert of(metric(history, "singular_values"), "teacher") == []
