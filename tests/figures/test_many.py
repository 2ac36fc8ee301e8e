"""Figures of many runs."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.legend import Legend

from dln.figures.many import norm_of
from dln.figures.style import LANES, LIGHT_LANES
from dln.history import History
from dln.plotting import plot_sweep, runs
from tests.figures.histories import comparative, config, labels, overlaps, single

pytestmark = pytest.mark.sampled(whole_file=True)


def noisy(seed: int, steps: int = 6) -> History:
    rng = np.random.default_rng(seed)
    return single(steps, noise=lambda s: float(rng.normal()))


def test_seeds_are_thin_lines_of_one_colour_beneath_their_median():
    histories = {seed: noisy(seed) for seed in range(9)}
    ax = runs(histories, "training.batch_seed", "noise")
    *own, middle = ax.lines
    assert {to_hex(line.get_color()) for line in own} == {LIGHT_LANES["_a"].lower()}
    assert max(line.get_zorder() for line in own) < middle.get_zorder()
    np.testing.assert_array_equal(middle.get_ydata(), np.median([h["noise"] for h in histories.values()], axis=0))
    assert labels(ax) == ["9 batch seeds", "median"]
    assert len(ax.figure.axes) == 1  # no colour bar


def test_the_median_of_seeds_is_of_those_that_go_on():
    histories = {0: noisy(0), 1: noisy(1), 2: noisy(2, steps=3), 3: noisy(3, steps=1)}
    histories[2].events = {"diverged_at": 3}
    ax = runs(histories, "model_seed", "noise")
    middle = next(line for line in ax.lines if to_hex(line.get_color()) == LANES["_a"].lower())
    pairs = np.median([histories[0]["noise"], histories[1]["noise"]], axis=0)
    np.testing.assert_allclose(middle.get_ydata()[3:], pairs[3:])
    three = [histories[seed]["noise"][1] for seed in (0, 1, 2)]
    assert middle.get_ydata()[1] == np.median(three)
    assert labels(ax) == ["4 model seeds", "median", "1 diverged"]


def test_seeds_of_comparisons_have_a_median_of_each_model():
    ax = runs({seed: comparative() for seed in range(3)}, "training_a.batch_seed")
    assert labels(ax) == ["3 batch seeds of a", "median of a", "3 batch seeds of b", "median of b"]


def test_a_colour_bar_of_whole_numbers_has_whole_ticks():
    figure = plot_sweep({width: single() for width in range(1, 9)}, "model.num_hidden")
    figure.draw_without_rendering()
    ticks = figure.axes[1].get_yticks()
    assert len(ticks) > 2
    np.testing.assert_array_equal(ticks, np.round(ticks))


def test_close_curves_are_all_seen():
    ax = runs({value: single(steps=20) for value in (0.1, 0.2, 0.3)}, "data.noise_std")
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths[0] > widths[1] > widths[2]
    orders = [line.get_zorder() for line in ax.lines]
    assert orders == sorted(orders)


def test_one_run_is_a_sweep_too():
    assert labels(plot_sweep({0.1: single(steps=1)}, "training.lr").axes[0]) == ["0.1"]


def test_a_sweep_over_time_and_on_paper():
    histories = {lr: single() for lr in (0.1, 0.2)}
    for lr, history in histories.items():
        history.config = config(lr=lr)
    figure = plot_sweep(histories, "training.lr", x="time", style="paper")
    for line, lr in zip(figure.axes[0].lines, histories, strict=True):
        np.testing.assert_allclose(line.get_xdata(), lr * np.arange(6))
    assert figure.get_figwidth() == 3.3
    assert overlaps(figure) == []


def test_an_unknown_column_is_refused():
    for key in ("training.lr", "training.batch_seed"):
        with pytest.raises(KeyError, match="known: "):
            plot_sweep({1: single()}, key, metric="nonsense")


def test_sweep_draws_a_curve_for_each_value_in_the_order_of_the_ramp():
    histories = {lr: single(steps=n) for lr, n in ((0.001, 4), (0.01, 5), (0.1, 6))}
    (ax,) = plot_sweep(histories, "training.lr").axes
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("step", "train loss", "log")
    assert labels(ax) == ["0.001", "0.01", "0.1"]
    legend = ax.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "training.lr"
    for line, handle, history in zip(ax.lines, legend.get_lines(), histories.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), history["train_loss"])
        assert to_hex(line.get_color()) == to_hex(handle.get_color())
    assert len({to_hex(line.get_color()) for line in ax.lines}) == 3


def test_sweep_over_many_numbers_has_a_colour_bar():
    figure = plot_sweep({10.0**-i: single() for i in range(8)}, "training.lr")
    ax, bar = figure.axes
    assert ax.get_legend() is None
    assert (bar.get_ylabel(), bar.get_yscale()) == ("training.lr", "log")


def test_swept_values_map_to_the_ramp_by_decades_if_they_span_one():
    assert isinstance(norm_of([0.001, 0.1]), LogNorm)
    assert type(norm_of([1, 2, 3])) is Normalize
    assert type(norm_of([0, 10, 100])) is Normalize
    assert norm_of([1, 10, None]) is None
    assert norm_of([True, False]) is None
    assert norm_of(["SGD", "Adam"]) is None


def test_sweep_over_names_and_null_has_a_legend():
    assert labels(plot_sweep({1: single(), None: single()}, "training.batch_size").axes[0]) == ["1", "null"]


def test_a_diverged_run_of_a_sweep_is_named_crossed_and_leaves_the_panel():
    wild = single()
    for record in wild.records:
        record["train_loss"] = 10.0 ** (6 * record["step"])
    wild.events = {"diverged_at": 6}
    (ax,) = plot_sweep({0.1: single(), 1.0: wild}, "training.lr").axes
    assert labels(ax) == ["0.1", "1.0 (diverged)"]
    assert ax.get_ylim()[1] < 1e3
    (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert list(cross.get_xdata()) == [6]


def test_sweep_of_comparisons_draws_both_lanes_or_a_metric_of_the_pair():
    histories = {v: comparative(param_distance=float) for v in (1, 2)}
    figure = plot_sweep(histories, "shared.training.lr")
    assert [line.get_linestyle() for line in figure.axes[0].lines] == ["-", "--", "-", "--"]
    legends = figure.axes[0].findobj(Legend)
    assert {text.get_text() for legend in legends for text in legend.get_texts()} == {"a", "b", "1", "2"}
    (ax,) = plot_sweep(histories, "shared.training.lr", metric="param_distance").axes
    assert len(ax.lines) == 2
