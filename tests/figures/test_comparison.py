"""Figures of comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dln.figures.style import LANES, LIGHT_LANES, PAIR, PALETTE
from dln.history import History
from dln.plotting import losses, metric, plot_comparison
from tests.figures.histories import comparative, config, curves, labels, legend_of, overlaps, panel

pytestmark = pytest.mark.sampled(whole_file=True)


def pair(a: dict, b: dict) -> dict:
    """A stored config of a comparison whose models are trained otherwise."""
    one, other = config(**a), config(**b)
    sections = {f"{name}{end}": of[name] for end, of in (("_a", one), ("_b", other)) for name in ("model", "training")}
    return sections | {"callbacks_a": [], "callbacks_b": [], "data": one["data"]}


def test_models_are_named_by_what_differs_in_their_configs():
    history = comparative(norm_a=float, norm_b=float)
    history.config = pair({"lr": 0.01}, {"lr": 0.02})
    figure = plot_comparison(history)
    assert legend_of(figure) == ["a: lr 0.01", "b: lr 0.02", "train", "test"]
    assert labels(figure.axes[0]) == labels(figure.axes[1]) == []  # said once
    assert labels(metric(history, "norm")) == ["a: lr 0.01", "b: lr 0.02"]
    history.config = pair({}, {})
    assert labels(losses(history))[:2] == ["a", "b"]


def test_a_reference_is_named_by_what_it_sets():
    history = comparative()
    history.config = config(batch_size=5) | {"reference": {"training.batch_size": None}}
    assert labels(losses(history, levels=False)) == [
        "a: batch size full",
        "b: batch size 5",
        "train",
        "test",
        "train, batch of 5 (b)",
    ]


def test_many_differences_are_not_all_told():
    history = comparative()
    history.config = pair({}, {"lr": 0.3, "batch_size": 3, "optimizer": "Adam", "criterion": "L1Loss"})
    assert labels(losses(history))[1] == "b: lr 0.3, batch size 3, optimizer Adam, ..."


def test_a_noisy_loss_of_one_model_is_light_and_beneath():
    history = comparative()
    history.config = pair({}, {"batch_size": 5})
    ax = losses(history, levels=False)
    light = [line for line in ax.lines if to_hex(line.get_color()) == LIGHT_LANES["_b"].lower()]
    np.testing.assert_array_equal(light[0].get_ydata(), history["train_loss_b"])
    assert light[0].get_zorder() < min(line.get_zorder() for line in ax.lines if line is not light[0])


def test_vectors_of_several_layers_have_a_panel_for_each_model():
    columns = {f"layer_values_{lane}.{i}": lambda s, i=i: [s + 1.0 * i, 0.5] for lane in "ab" for i in (1, 2)}
    history = comparative(**columns)
    figure = plot_comparison(history)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "layer values, a", "layer values, b"]
    for ax, lane in zip(figure.axes[1:], "ab", strict=True):
        assert labels(ax) == ["layer 1", "layer 2"]
        colors = [to_hex(line.get_color()) for line in curves(ax)]
        assert colors == [color.lower() for color in np.repeat(PALETTE[:2], 2)]
        np.testing.assert_array_equal(curves(ax)[2].get_ydata(), history[f"layer_values_{lane}.2"][:, 0])
    together = metric(history, "layer_values")
    assert labels(together) == ["a", "b", "layer 1", "layer 2"]
    assert {line.get_linestyle() for line in curves(together)} == {"-", "--"}


def test_theories_of_both_models_are_drawn_with_their_conditions():
    history = comparative(train_loss_flow_a=float, train_loss_flow_b=float)
    history.events = {"lr_sharpness_flow_a": 0.1, "lr_sharpness_flow_b": 0.2}
    ax = losses(history)
    assert labels(ax)[-1].split() == ["flow,", "lr", "sharpness", "0.1", "(a),", "lr", "sharpness", "0.2", "(b)"]
    dashed = [line for line in ax.lines if line.get_label() == "flow"]
    assert [list(line.get_ydata()) for line in dashed] == [list(map(float, range(5)))] * 2
    assert [ax.get_ylabel() for ax in plot_comparison(history).axes] == ["loss"]


@pytest.mark.parametrize("style", ["default", "paper"])
def test_nothing_overlaps(style):
    history = comparative(v_a=lambda s: [9.0, 5.0], v_b=lambda s: [9.0, 1.0], param_distance=float)
    history.config = pair({"lr": 0.01}, {"lr": 0.02, "batch_size": 5})
    history.config["callbacks_b"] = [{"name": "switch_batch_size", "params": {"step": 3, "batch_size": None}}]
    history.events = {"diverged_at_b": 5}
    assert overlaps(plot_comparison(history, style=style)) == []


def test_a_comparison_of_models_that_diverge_at_once_is_drawn():
    (ax,) = plot_comparison(History([], {"diverged_at_a": 0, "diverged_at_b": 0})).axes
    assert [text.get_text() for text in ax.texts] == ["a diverged at 0", "b diverged at 0"]


def test_lanes_differ_by_colour_and_splits_by_line():
    history = comparative()
    (ax,) = plot_comparison(history).axes
    assert labels(ax) == ["a", "b", "train", "test"]
    assert [to_hex(line.get_color()) for line in ax.lines] == [c.lower() for c in np.repeat([*LANES.values()], 2)]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--", "-", "--"]
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), history["train_loss_b"])


def test_model_metrics_overlay_lanes_and_metrics_of_the_pair_stand_alone():
    history = comparative(
        **{"norm_a": float, "norm_b": float, "parts_a.x": float, "parts_a.y": float, "parts_b.x": float},
        param_distance=lambda s: 0.1 * s,
    )
    figure = plot_comparison(history)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "norm", "parts", "param distance"]
    assert [to_hex(line.get_color()) for line in panel(figure, "norm").lines] == [c.lower() for c in LANES.values()]
    assert labels(panel(figure, "parts")) == ["x", "y"]
    parts = [(to_hex(line.get_color()), line.get_linestyle()) for line in panel(figure, "parts").lines]
    assert parts == [(LANES["_a"].lower(), "-"), (LANES["_a"].lower(), "--"), (LANES["_b"].lower(), "-")]
    distance = panel(figure, "param distance")
    assert (len(distance.lines), distance.get_yscale(), labels(distance)) == (1, "linear", [])
    assert to_hex(distance.lines[0].get_color()) == PAIR.lower()
    assert [ax.get_ylabel() for ax in plot_comparison(history, ["param_distance"]).axes] == ["loss", "param distance"]


def test_vector_metrics_of_two_lanes_are_two_families():
    history = comparative(v_a=lambda s: [9.0, 5.0], v_b=lambda s: [9.0, 1.0])
    ax = panel(plot_comparison(history), "v")
    assert len(ax.lines) == 4
    assert len({to_hex(line.get_color()) for line in ax.lines}) == 4
    assert [text.get_text() for text in ax.texts] == ["1", "2", "2"]  # where lanes agree, one label does


def test_a_lane_that_explodes_does_not_squeeze_the_other():
    history = comparative()
    for record in history.records:
        record["train_loss_b"] = 10.0 ** (8 * record["step"])
    (squeezed,) = plot_comparison(history).axes
    assert squeezed.get_ylim()[1] > 1e30
    history.events = {"diverged_at_b": 5}
    (ax,) = plot_comparison(history).axes
    low, high = ax.get_ylim()
    assert 0.5 < low < 1
    assert 5 < high < 10
    assert [(text.get_text(), text.get_color()) for text in ax.texts] == [("b diverged at 5", LANES["_b"])]


def test_a_smooth_curve_lies_above_a_noisy_one():
    history = comparative(m_a=lambda s: float(s), m_b=lambda s: 2.0 * (-1) ** s)
    smooth, noisy = panel(plot_comparison(history), "m").lines
    assert smooth.get_zorder() > noisy.get_zorder()
