"""Figures: what is drawn equals what was recorded, on the axes a reader expects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_hex

from dln.errors import StorageError
from dln.figures.many import norm_of
from dln.figures.style import LANES, NotebookFigure
from dln.history import History
from dln.plotting import plot_comparison, plot_run, plot_sweep, save_figure


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The last figure is drawn when a test ends: what cannot be drawn, or not without a warning, is found then."""
    undrawn = []

    class Remembered(NotebookFigure):
        def __init__(self, **about) -> None:
            super().__init__(**about)
            undrawn.append(self)

        def draw(self, renderer) -> None:
            super().draw(renderer)
            if self in undrawn:
                undrawn.remove(self)

    for file in ("panels", "many"):
        monkeypatch.setattr(f"dln.figures.{file}.NotebookFigure", Remembered)
    yield
    for figure in undrawn[-1:]:
        figure.draw_without_rendering()


def single(steps: int = 6, **columns) -> History:
    records = [
        {"step": s, "train_loss": 10.0 ** (1 - s), "test_loss": 2 * 10.0 ** (1 - s)}
        | {name: f(s) for name, f in columns.items()}
        for s in range(steps)
    ]
    return History(records)


def comparative(**columns) -> History:
    records = [
        {"step": s}
        | {
            f"{split}_loss_{lane}": (s + 1.0) / scale
            for split in ("train", "test")
            for lane, scale in (("a", 1), ("b", 2))
        }
        | {name: f(s) for name, f in columns.items()}
        for s in range(5)
    ]
    return History(records)


def panel(figure, label: str) -> Axes:
    return next(ax for ax in figure.axes if ax.get_ylabel() == label)


def labels(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


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


def test_divergence_and_stops_are_marked_in_every_panel_and_named_once():
    history = single(weight_norm=float)
    history.events = {"diverged_at": 7}
    figure = plot_run(history)
    for ax in figure.axes:
        np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [7, 7])
    assert labels(figure.axes[0]) == ["train", "test", "diverged at 7"]
    assert labels(figure.axes[1]) == []


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
    assert [len(ax.lines) for ax in plot_run(History([], {"diverged_at": 0})).axes] == [1]
    one = plot_run(single(steps=1)).axes[0]
    assert [line.get_marker() for line in one.lines] == ["o", "o"]


def test_lanes_differ_by_colour_and_splits_by_line():
    history = comparative()
    (ax,) = plot_comparison(history).axes
    assert labels(ax) == ["a train", "a test", "b train", "b test"]
    assert [line.get_color() for line in ax.lines] == [LANES["_a"]] * 2 + [LANES["_b"]] * 2
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--", "-", "--"]
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), history["train_loss_b"])


def test_model_metrics_overlay_lanes_and_metrics_of_the_pair_stand_alone():
    history = comparative(
        **{"norm_a": float, "norm_b": float, "parts_a.x": float, "parts_a.y": float, "parts_b.x": float},
        param_distance=lambda s: 0.1 * s,
    )
    figure = plot_comparison(history)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "norm", "parts", "param distance"]
    assert labels(panel(figure, "norm")) == ["a", "b"]
    assert labels(panel(figure, "parts")) == ["a x", "a y", "b x"]
    distance = panel(figure, "param distance")
    assert (len(distance.lines), distance.get_yscale(), labels(distance)) == (1, "linear", [])
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
    assert ax.lines[-1].get_color() == LANES["_b"]
    assert labels(ax)[-1] == "b diverged at 5"


def test_a_smooth_curve_lies_above_a_noisy_one():
    history = comparative(m_a=lambda s: float(s), m_b=lambda s: 2.0 * (-1) ** s)
    smooth, noisy = panel(plot_comparison(history), "m").lines
    assert smooth.get_zorder() > noisy.get_zorder()


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
        assert line.get_color() == handle.get_color()
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
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    (ax,) = plot_sweep(histories, "shared.training.lr", metric="param_distance").axes
    assert len(ax.lines) == 2


def test_figures_leave_matplotlib_as_it_was():
    from matplotlib import pyplot

    before = dict(rcParams)
    plot_run(single(v=lambda s: [1.0, 2.0])).draw_without_rendering()
    plot_sweep({1: single()}).draw_without_rendering()
    assert dict(rcParams) == before
    assert pyplot.get_fignums() == []


def test_figures_look_the_same_wherever_they_are_drawn():
    before, figure = plot_run(single())._repr_png_(), plot_run(single())
    with rc_context({"font.size": 31, "axes.linewidth": 5}):
        assert figure._repr_png_() == before


def test_legends_cover_no_data():
    figure = plot_run(single(v=float))
    figure.draw_without_rendering()
    ax = figure.axes[0]
    legend = ax.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 >= ax.get_window_extent().y1


@pytest.mark.sampled
@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_save_figure_makes_folders_and_follows_the_suffix(suffix: str, start: bytes, tmp_path):
    path = save_figure(plot_run(single()), tmp_path / "new" / "folder" / f"figure{suffix}")
    assert path == tmp_path / "new" / "folder" / f"figure{suffix}"
    assert path.read_bytes().startswith(start)


def test_png_has_200_dots_an_inch(tmp_path):
    from matplotlib.image import imread

    figure = plot_run(single())
    width, height = figure.get_size_inches()
    assert imread(save_figure(figure, tmp_path / "f.png")).shape[:2] == (round(200 * height), round(200 * width))


def test_save_figure_refuses_other_suffixes_and_unwritable_places(tmp_path):
    with pytest.raises(StorageError, match=r"\.png, \.pdf or \.svg"):
        save_figure(plot_run(single()), tmp_path / "figure.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        save_figure(plot_run(single()), tmp_path / "file" / "figure.png")


def test_notebooks_show_a_figure():
    assert plot_run(single())._repr_png_().startswith(b"\x89PNG")


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
    losses, of_modes, distances = figure.axes
    dashed = [line for line in losses.lines if line.get_linestyle() != "-"]
    assert [line.get_label() for line in dashed] == ["flow, lr sharpness 0.02"]
    np.testing.assert_array_equal(dashed[0].get_ydata(), history["train_loss_flow"])
    [band] = losses.collections
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(9.0 + 0.1)
    assert [line.get_linestyle() for line in of_modes.lines] == ["-", "-", "--", "--"]
    assert [line.get_label() for line in distances.lines] == ["flow", "sgd"]
    assert len({line.get_linestyle() for line in distances.lines}) == 2
    [_, flag] = plot_run(history, ["not_gaussian"]).axes
    assert [line.get_label() for line in flag.lines] == ["flow"]
