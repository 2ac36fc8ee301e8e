"""Figures: what is drawn equals what was recorded, on the axes a reader expects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dln.errors import ConfigError, StorageError
from dln.figures.style import BATCH, PALETTE, TEST, THEORY, TRAIN
from dln.history import History
from dln.plotting import losses, metric, plot_run, plot_sweep, save_figure
from tests.figures.histories import config, curves, labels, legend_of, of, overlaps, panel, single

pytestmark = pytest.mark.sampled(whole_file=True)


def test_losses_are_on_a_log_axis_and_equal_the_history():
    history = single()
    (ax,) = plot_run(history, title="A run").axes
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("step", "loss", "log")
    assert labels(ax) == ["train", "test"]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "-"]
    for line, name in zip(ax.lines, ("train_loss", "test_loss"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), history["step"])
        np.testing.assert_array_equal(line.get_ydata(), history[name])


def test_title_stands_above_the_figure():
    assert plot_run(single(), title="Saddle to saddle").get_suptitle() == "Saddle to saddle"
    assert plot_run(single()).get_suptitle() == ""


def test_every_metric_has_a_panel_or_those_that_are_named_in_their_order():
    history = single(weight_norm=float, gradient_norm=float)
    assert [ax.get_ylabel() for ax in plot_run(history).axes] == ["loss", "weight norm", "gradient norm"]
    named = plot_run(history, ["gradient_norm", "weight_norm"])
    assert [ax.get_ylabel() for ax in named.axes] == ["loss", "gradient norm", "weight norm"]
    assert len(plot_run(history, []).axes) == 1


@pytest.mark.sampled
@pytest.mark.parametrize(("panels", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3))])
def test_panels_fill_rows_and_the_lowest_of_each_column_names_the_steps(panels: int, shape: tuple[int, int]):
    figure = plot_run(single(**{f"m{i}": float for i in range(panels - 1)}))
    assert len(figure.axes) == panels
    assert figure.axes[0].get_gridspec().get_geometry() == shape
    assert sum(ax.get_xlabel() == "step" for ax in figure.axes) == min(panels, shape[1])


def test_unknown_column_raises_what_the_history_raises():
    with pytest.raises(KeyError, match="did you mean 'weight_norm'"):
        plot_run(single(weight_norm=float), ["weight_nrom"])
    with pytest.raises(KeyError, match="known: "):
        plot_sweep({1: single()}, "training.lr", metric="nonsense")


def test_a_vector_metric_is_a_family_with_a_ramp_and_labelled_ends():
    history = single(singular_values=lambda s: [3.0 * s, 2.0 * s, 0.0])
    ax = panel(plot_run(history), "singular values")
    assert len(ax.lines) == 3
    np.testing.assert_array_equal(np.column_stack([line.get_ydata() for line in ax.lines]), history["singular_values"])
    assert len({to_hex(line.get_color()) for line in ax.lines}) == 3
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3"]
    assert [to_hex(t.get_color()) for t in ax.texts] == [to_hex(line.get_color()) for line in ax.lines]


def test_curves_that_end_together_share_a_label():
    pair = panel(plot_run(single(v=lambda s: [float(s), 0.0, s + 1e-3])), "v")
    assert [text.get_text() for text in pair.texts] == ["1, 3", "2"]
    many = panel(plot_run(single(v=lambda s: [float(s)] + [0.0] * 6)), "v")
    assert [text.get_text() for text in many.texts] == ["1", "2–7"]  # noqa: RUF001


def test_columns_of_a_dict_metric_share_a_panel():
    history = single(**{"norms.first": float, "norms.last": lambda s: 2.0 * s})
    ax = panel(plot_run(history), "norms")
    assert labels(ax) == ["first", "last"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), history["norms.last"])


def test_metrics_are_on_a_log_axis_only_if_a_linear_one_hides_them():
    figure = plot_run(
        single(
            falling=lambda s: 10.0**-s,
            exploding=lambda s: 10.0 ** (3 * s),
            growing=lambda s: s + 1.0,
            signed=lambda s: (-10.0) ** -s,
            with_zeros=lambda s: 0.0 if s == 0 else 100.0**-s,
        )
    )
    scales = {ax.get_ylabel(): ax.get_yscale() for ax in figure.axes[1:]}
    assert scales == {
        "falling": "log",
        "exploding": "log",
        "growing": "linear",
        "signed": "linear",
        "with zeros": "log",
    }


@pytest.mark.sampled
@pytest.mark.parametrize("values", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [1.0, 0.0], [math.nan, math.nan]])
def test_zero_and_missing_losses_are_tolerated(values: list[float], tmp_path):
    history = History([{"step": i, "train_loss": v} for i, v in enumerate(values)])
    figure = plot_run(history)
    finite = [v if math.isfinite(v) else math.nan for v in values]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), finite)
    save_figure(figure, tmp_path / "f.png")


def test_missing_values_of_a_vector_metric_are_gaps():
    records = [{"step": 0, "train_loss": 1.0, "v": [1.0, 2.0]}, {"step": 1, "train_loss": 1.0}]
    ax = panel(plot_run(History(records)), "v")
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [2.0, np.nan])


def test_a_run_without_records_or_with_one_is_drawn():
    (empty,) = plot_run(History([], {"diverged_at": 0})).axes
    assert [text.get_text() for text in empty.texts] == ["diverged at 0"]
    one = plot_run(single(steps=1)).axes[0]
    assert [line.get_marker() for line in one.lines] == ["o", "o"]


def test_theories_are_drawn_dark_and_dashed_over_what_they_predict_with_how_good_they_are():
    def modes(s):
        return [s + 1.0, 2.0]

    told = {"train_loss_flow": lambda s: 9.0 ** (1 - s), "train_loss_std_flow": lambda s: 0.1}
    told |= {
        "not_gaussian_flow": lambda s: 1.0,
        "modes_flow": modes,
        "end_to_end_distance_flow": lambda s: 0.5,
        "end_to_end_distance_sgd": lambda s: 0.7,
    }
    history = single(modes=modes, **told)
    history.events = {"lr_sharpness_flow": 0.02}
    figure = plot_run(history)
    loss, of_modes, distances = figure.axes
    dashed = [line for line in loss.lines if line.get_linestyle() != "-"]
    assert [to_hex(line.get_color()) for line in dashed] == [THEORY]
    assert legend_of(figure) == ["train", "test", "flow, lr sharpness 0.02"]
    assert labels(loss) == labels(of_modes) == []  # said once
    np.testing.assert_array_equal(dashed[0].get_ydata(), history["train_loss_flow"])
    [band] = loss.collections
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(9.0 + 0.1)
    assert [line.get_linestyle() for line in of_modes.lines] == ["-", "-", "--", "--"]
    assert labels(distances) == ["sgd"]
    flow, sgd = (line.get_linestyle() for line in distances.lines)
    assert flow == dashed[0].get_linestyle() != sgd
    [_, flag] = plot_run(history, ["not_gaussian"]).axes
    assert [line.get_linestyle() for line in flag.lines] == [flow]


def test_conditions_of_theories_are_not_torn_apart():
    history = single(train_loss_flow=float)
    names = ("lr_sharpness", "balance_gap", "alignment_gap", "whitening_gap")
    history.events = {f"{name}_flow": 0.01 for name in names}
    told = labels(plot_run(history, style="paper").axes[0])[-1]
    lines = [line.strip().rstrip(",") for line in told.split("\n")]
    assert len(lines) > 1
    assert ", ".join(lines).split(", ") == [
        "flow",
        *(f"{name.replace('_', ' ')} 0.01" for name in names),
    ]


def test_vectors_of_several_layers_have_a_colour_each_and_numbers_of_modes():
    """As layer_singular_values: inner layers have more values than the map, which are light and have no numbers."""
    history = single(**{f"layer_values.{i}": lambda s, i=i: [4.0 + s, 2.0] + [0.1 * i] * (i == 2) for i in (1, 2, 3)})
    ax = panel(plot_run(history), "layer values")
    assert labels(ax) == ["layer 1", "layer 2", "layer 3"]
    colors = [to_hex(line.get_color(), keep_alpha=True) for line in curves(ax)]
    assert [color[:7] for color in colors] == [color.lower() for color in np.repeat(PALETTE[:3], (2, 3, 2))]
    assert [color[7:] for color in colors] == ["ff", "ff", "ff", "ff", "4c", "ff", "ff"]
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    widths = [line.get_linewidth() for line in curves(ax)]
    assert widths[0] > widths[2] > widths[5]  # layers that lie on each other are all seen


@pytest.mark.parametrize("layers", [2, 7])
def test_any_number_of_layers_is_told_apart(layers):
    history = single(**{f"layer_values.{i}": lambda s, i=i: [float(s + i), 0.0] for i in range(layers)})
    ax = panel(plot_run(history), "layer values")
    assert len({to_hex(line.get_color()) for line in curves(ax)}) == layers == len(labels(ax))


def test_curves_that_lie_on_each_other_are_all_seen_and_others_are_not_widened():
    ax = panel(plot_run(single(v=lambda s: [float(s)])), "v")
    plain = curves(ax)[0].get_linewidth()
    history = single(**{"v.x": float, "v.y": float, "v.z": lambda s: s + 2.0})
    widths = [line.get_linewidth() for line in curves(panel(plot_run(history), "v"))]
    assert widths[0] > widths[1] == widths[2] == plain


def test_a_loss_on_batches_says_so_and_lies_light_beneath_the_one_on_the_whole_set():
    history = single(full_train_loss=lambda s: 9.0 ** (1 - s))
    history.config = config(batch_size=5)
    ax = losses(history, levels=False)
    assert labels(ax) == ["train, batch of 5", "train, whole set", "test"]
    batch, whole, test = ax.lines
    assert [to_hex(line.get_color()) for line in ax.lines] == [color.lower() for color in (BATCH, TRAIN, TEST)]
    assert batch.get_zorder() < min(whole.get_zorder(), test.get_zorder())
    np.testing.assert_array_equal(whole.get_ydata(), history["full_train_loss"])
    assert [a.get_ylabel() for a in plot_run(history).axes] == ["loss"]  # where all losses stand


@pytest.mark.parametrize(
    ("training", "data", "label"),
    [
        ({"batch_size": None}, {}, "train"),
        ({"batch_size": 20}, {}, "train"),
        ({"batch_size": 5}, {}, "train, batch of 5"),
        ({"batch_size": 5}, {"online": True}, "train, fresh batch of 5"),
        ({"batch_size": None, "label_noise": 0.5}, {}, "train, noisy labels"),
    ],
)
def test_what_the_training_loss_is_of_is_known_from_the_config(training, data, label):
    history = single()
    history.config = config(**training)
    history.config["data"] |= data
    assert labels(losses(history, levels=False))[0] == label


def test_without_a_config_what_is_recorded_tells_of_batches():
    assert labels(losses(single(full_train_loss=lambda s: 7.0)))[:2] == ["train, batch", "train, whole set"]
    assert labels(losses(single(full_train_loss=lambda s: 10.0 ** (1 - s)))) == ["train", "test"]


def test_metrics_over_the_loss_run_to_the_right_as_the_loss_falls():
    history = single(weight_norm=float)
    loss, norm = plot_run(history, x="loss").axes
    assert (norm.get_xlabel(), norm.get_xscale()) == ("train loss", "log")
    assert norm.xaxis_inverted()
    np.testing.assert_array_equal(norm.lines[0].get_xdata(), history["train_loss"])
    np.testing.assert_array_equal(norm.lines[0].get_ydata(), history["weight_norm"])
    assert legend_of(loss.figure) == ["test"]
    untested = History([{"step": 0, "train_loss": 1.0}])
    with pytest.raises(ConfigError, match="add metrics"):
        plot_run(untested, x="loss")


def test_time_is_the_sum_of_the_learning_rates_of_all_updates():
    history = single(weight_norm=float)
    history.config = config(lr=0.5)
    history.config["callbacks"] = [{"name": "lr_decay", "params": {"factor": 0.1, "interval": 2}}]
    ax = metric(history, "weight_norm", x="time")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0, 0.5, 1.0, 1.05, 1.1, 1.105])
    recorded = single(time=lambda s: s**2.0)
    np.testing.assert_array_equal(losses(recorded, x="time").lines[0].get_xdata(), recorded["time"])
    with pytest.raises(ConfigError, match="add time to its metrics"):
        losses(single(), x="time")
    history.config["callbacks"] = [{"name": "of_mine", "params": {}}]  # which may change the rate
    with pytest.raises(ConfigError, match="not known"):
        metric(history, "weight_norm", x="time")


def test_unknown_axes_styles_and_directories_are_refused_in_a_line(tmp_path):
    for wrong, match in (({"x": "steps"}, "there are step, time, loss"), ({"style": "papers"}, "did you mean 'paper'")):
        with pytest.raises(ConfigError, match=match):
            plot_run(single(), **wrong)
    with pytest.raises(StorageError, match="no run in"):
        plot_run(tmp_path)


def test_figures_compose_on_axes_of_ones_own():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    history = single(weight_norm=float)
    assert losses(history, left) is left
    assert metric(history, "weight_norm", right) is right
    assert figure.axes == [left, right]
    assert overlaps(figure) == []


@pytest.mark.parametrize("style", ["default", "paper"])
def test_nothing_overlaps_however_much_there_is(style):
    layers = {f"layer_values.{i}": lambda s, i=i: [s + 1.0, i / (1 + s)] for i in range(5)}
    history = single(40, **layers, v=lambda s: [1.0] * 9)
    history.events = {"diverged_at": 40, "mode_escapes": [3.0, 5.0, 20.0, None], "edge_of_stability": 12.5}
    history.config = config(batch_size=5)
    params = {"schedule": {10: 5, 14: None, 30: 7}}
    history.config["callbacks"] = [{"name": "multi_switch_batch_size", "params": params}]
    figure = plot_run(history, title="A title", style=style)
    assert overlaps(figure) == []
    assert len(of(figure.axes[0], "mark")) > 8


def test_names_with_odd_characters_are_drawn_as_they_are(tmp_path):
    names = ["a$b$c", "x_{1}^2", "<img>", "sum%", "\\frac"]
    figure = plot_run(single(**dict.fromkeys(names, float), **{"keys.$": float, "keys.%": float}))
    assert [ax.get_ylabel().replace("\\$", "$").strip() for ax in figure.axes[1:]] == [
        *(name.replace("_", " ") for name in names),
        "keys",
    ]
    save_figure(figure, tmp_path / "f.pdf")


def any_history(rng: np.random.Generator) -> History:
    """A history of columns, numbers and events such as there may be, most of them odd."""

    def number() -> float:
        odd = [math.nan, math.inf, 0.0, -1.0, 10.0 ** rng.uniform(-90, 90)]
        return float(rng.choice(odd)) if rng.random() < 0.2 else float(rng.normal(1, 1) ** 2)

    steps, lanes = int(rng.choice([0, 1, 2, 30])), ["_a", "_b"] if rng.random() < 0.5 else [""]
    columns = {"param_distance": 0} if len(lanes) > 1 else {}
    layers = int(rng.choice([1, 2, 6]))
    for lane in lanes:
        columns |= {f"{name}_loss{lane}": 0 for name in ("train", "test", "full_train") if rng.random() < 0.8}
        columns |= {f"train_loss{lane}": 0, f"sharpness{lane}": 0, f"singular_values{lane}": int(rng.choice([1, 5]))}
        columns |= {f"layer_values{lane}.{i}": int(rng.choice([1, 8])) for i in range(layers)}
        columns |= {f"{name}_flow{lane}": 0 for name in ("train_loss", "train_loss_std") if rng.random() < 0.5}
    records = [
        {"step": 7 * s} | {name: [number() for _ in range(k)] if k else number() for name, k in columns.items()}
        for s in range(steps)
    ]
    escapes = [rng.uniform(0, 7 * steps) if rng.random() < 0.8 else None for _ in range(4)]
    events = {f"diverged_at{lanes[-1]}": 7 * steps, f"mode_escapes{lanes[0]}": escapes}
    return History(records, {name: value for name, value in events.items() if rng.random() < 0.6})


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(24))
def test_any_history_is_drawn_and_nothing_overlaps(seed):
    rng = np.random.default_rng(seed)
    x, style, title = rng.choice(["step", "loss"]), rng.choice(["default", "paper"]), rng.choice(["", "A title"])
    assert overlaps(plot_run(any_history(rng), x=str(x), style=str(style), title=str(title) or None)) == []
