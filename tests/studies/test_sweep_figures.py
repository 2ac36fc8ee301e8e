"""Figures of stored sweeps: what is drawn if nothing is asked, what is asked for, and what cannot be drawn."""

import numpy as np
import polars as pl
import pytest

import dln
from dln.errors import ConfigError, DlnError, StorageError
from dln.figures.style import save_figure
from dln.figures.table_panels import draw_panels
from dln.studies.sweep_asked import Asked
from dln.studies.sweep_figures import FIGURES, sweep_figure
from tests.figures.tables import RATE, SEED, SIZE, WIDTH, entries, made_up

pytestmark = pytest.mark.sampled(whole_file=True)

BASE = {"max_steps": 8, "evaluate_every": 2, SIZE: 5, WIDTH: 5}
SWEEPS = {
    "seeds": {RATE: [0.001, 0.002], SEED: range(6)},
    "alone": {RATE: [0.001, 0.002, 0.004]},
    "only seeds": {SEED: range(3)},
    "lost": {RATE: [0.001, 0.01, 50.0, 60.0], WIDTH: [4, 5, 6, 7], "training.model_seed": range(2)},
    "sums": {RATE: [0.001, 50.0], SEED: range(6), "aggregate": {"over": SEED}},
    "theory": {RATE: [0.001, 0.002], "theory": ["gradient_flow"]},
    "own": {"reference": {SIZE: None}, SIZE: [1, 5], SEED: range(6), "comparative_metrics": ["param_distance"]},
    "pair": {
        "shared.training.lr": [0.001, 0.002],
        "training_b.batch_size": [1, 5],
        "shared.training.batch_seed": range(6),
    },
    "events": {RATE: [0.01, 0.02], SEED: range(6), "metrics": ["mode_strengths"], "events": ["mode_escapes"]},
    "four": {RATE: [0.001, 0.002], WIDTH: [4, 5], "model.gamma": [1.0, 1.5], SIZE: [1, 5], SEED: range(6)},
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    place = tmp_path_factory.mktemp("stored")
    for name, axes in SWEEPS.items():
        base = BASE if name != "pair" else {"max_steps": 8, "evaluate_every": 2}
        dln.run_sweep({**base, **axes}, directory=place / name)
    return place


@pytest.mark.parametrize(
    ("name", "options", "about"),
    [
        ("seeds", {}, "test_loss: mean over training.batch_seed with 95 % interval, colour training.lr"),
        ("alone", {}, "test_loss of 3 runs, colour training.lr"),
        ("only seeds", {}, "test_loss of 3 runs"),
        ("lost", {}, "map of final test_loss: mean over training.model_seed over model.hidden_dim and training.lr"),
        ("sums", {}, "test_loss: mean over training.batch_seed with 95 % interval, colour training.lr"),
        ("theory", {}, "test_loss, test_loss_gradient_flow, colour training.lr"),
        ("own", {"figure": "ratio"}, "ratio of the mean test_loss_b to reference, over training.batch_seed, with 95 %"),
        (
            "pair",
            {"figure": "finals", "metric": ["test_loss"]},
            "final test_loss_b: mean over training_a.batch_seed and",
        ),
        (
            "own",
            {"figure": "plane", "metric": ["train_loss", "test_loss"]},
            "test_loss_b: mean over training.batch_seed",
        ),
        ("events", {"metric": ["mode_escapes[1]"]}, "final mode_escapes[1]: mean over training.batch_seed with 95 %"),
        ("lost", {"x": "time", "rows": WIDTH}, "test_loss of 32 runs, colour training.lr, rows model.hidden_dim"),
    ],
)
def test_what_is_drawn_is_said(stored, name, options, about):
    assert sweep_figure(stored / name, Asked(**options))[1].startswith(about)


@pytest.mark.sampled
@pytest.mark.parametrize("name", [*SWEEPS])
def test_every_figure_draws_every_sweep_or_says_in_a_line_why_not(stored, name):
    """Warnings are errors: what is drawn is drawn without one."""
    drawn, refused = 0, []
    for figure in FIGURES:
        metric = ["train_loss", "test_loss"] if figure == "plane" else None
        try:
            made, _ = sweep_figure(stored / name, Asked(figure=figure, metric=metric))
        except DlnError as error:
            refused.append(str(error))
        else:
            made.draw_without_rendering()
            drawn += 1
    assert not [message for message in refused if "\n" in message or "failed" in message]
    assert drawn >= (0 if name == "four" else 2)


def test_a_frame_is_drawn_as_its_directory_is(stored):
    for asked in (Asked(), Asked(figure="finals"), Asked(figure="runs", by=[RATE])):
        [one], [other] = (
            sweep_figure(what, asked)[0].axes for what in (stored / "seeds", dln.load_sweep(stored / "seeds"))
        )
        for line, again in zip(one.lines, other.lines, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), again.get_ydata())


def test_finals_are_the_last_records_of_the_runs_and_events_what_was_found(stored):
    frame = dln.load_sweep(stored / "events")
    for metric, values in (
        ("test_loss", frame["test_loss"].list.last()),
        ("mode_escapes[1]", frame["mode_escapes"].list.get(0)),
    ):
        [axes] = sweep_figure(stored / "events", Asked(figure="finals", metric=[metric]))[0].axes
        means = [values.filter(frame[RATE] == rate).mean() for rate in (0.01, 0.02)]
        drawn = axes.lines[0].get_ydata()
        np.testing.assert_allclose(np.nan_to_num(drawn, nan=-1), [-1 if m is None else m for m in means], rtol=1e-6)


def test_the_share_of_runs_that_diverge_is_a_value_too(stored):
    axes = sweep_figure(stored / "lost", Asked(figure="map", metric=["diverged"], by=[RATE, WIDTH]))[0].axes[0]
    shown = axes.collections[0].get_array()
    frame = dln.load_sweep(stored / "lost")
    share = frame.group_by(WIDTH, RATE).agg(pl.col("diverged_at").is_not_null().mean()).sort(WIDTH, RATE)
    np.testing.assert_allclose(shown.ravel(), share["diverged_at"])
    when = (
        sweep_figure(stored / "lost", Asked(figure="map", metric=["diverged_at"], by=[RATE, WIDTH]))[0]
        .axes[0]
        .collections[0]
        .get_array()
    )
    mean = frame.group_by(WIDTH, RATE).agg(pl.col("diverged_at").mean()).sort(WIDTH, RATE)["diverged_at"]
    np.testing.assert_allclose(np.ma.filled(when, np.nan).ravel(), mean.cast(float).fill_null(np.nan))


def test_sums_tell_how_many_diverge_although_their_last_record_is_before(stored):
    [axes] = sweep_figure(stored / "sums", Asked())[0].axes
    assert "50 (6 of 6 diverged)" in entries(axes.get_figure())
    for what in (stored / "lost", dln.load_sweep(stored / "lost")):
        table = dln.aggregate(what, "training.model_seed", by=[RATE, WIDTH], of="test_loss")
        gone = dln.load_sweep(stored / "lost").group_by(RATE, WIDTH).agg(pl.col("diverged_at").count().alias("gone"))
        both = table.join(gone, on=[RATE, WIDTH])
        assert both["lost"].to_list() == both["gone"].to_list()
        assert both["lost"].max() == 2
        assert both["diverged"].max() < 2  # at the last record some had not yet


def test_lanes_are_told_apart_once_and_a_reference_is_called_one(stored):
    for name, told in (("own", ["1", "5", "reference", "run"]), ("pair", ["0.001", "0.002", "a", "b"])):
        figure = sweep_figure(stored / name, Asked())[0]
        assert entries(figure)[:4] == told
        assert figure.axes[0].get_ylabel() == "test loss"


def test_an_axis_is_called_by_what_is_on_it(stored):
    for name, metric, told in (
        ("theory", ["test_loss_gradient_flow"], "test loss gradient flow"),
        ("theory", ["test_loss_gradient_flow", "test_loss"], "test loss"),
        ("seeds", ["train_loss", "test_loss"], "train loss, test loss"),
        ("events", ["mode_strengths"], "mode strengths"),
    ):
        assert sweep_figure(stored / name, Asked(metric=metric))[0].axes[0].get_ylabel() == told


def test_more_keys_than_a_figure_tells_apart_are_refused_and_some_may_be_fixed(stored):
    with pytest.raises(ConfigError, match=r"would be left: name what to show with --by, fix the others with --where"):
        sweep_figure(stored / "four", Asked())
    figure, _ = sweep_figure(stored / "four", Asked(where={SIZE: 5}))
    assert len(figure.axes) == 4
    frame = dln.load_sweep(stored / "four").filter(pl.col(SIZE) == 5)
    axes = figure.axes[0]  # of the first values of the keys of columns and rows
    per = figure.legends[0].get_title().get_text()
    assert per in ("gamma", "learning rate", "width")
    firsts = {key: frame[key].min() for key in (RATE, WIDTH, "model.gamma")}
    some = frame.filter(*(pl.col(key) == value for key, value in firsts.items()))
    np.testing.assert_allclose(axes.lines[0].get_ydata()[-1], some["test_loss"].list.last().mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "error", "told"),
    [
        ("seeds", {"figure": "pie"}, ConfigError, "no figure 'pie' of a sweep; known: curves, finals"),
        ("seeds", {"figure": "map"}, ConfigError, "a map needs two keys that vary, and there is training.lr"),
        ("seeds", {"figure": "plane"}, ConfigError, "a plane is of two curves: --metric train_loss,sharpness"),
        ("seeds", {"figure": "ratio"}, ConfigError, "a ratio is to a baseline: name it, as --baseline"),
        ("seeds", {"where": {RATE: 0.5}}, StorageError, "has training.lr=0.5; it has training.lr=0.001, 0.002"),
        ("seeds", {"rows": "model.gama"}, StorageError, "no key 'model.gama'"),
        ("seeds", {"x": "loss", "metric": ["train_loss"]}, ConfigError, "that would be train_loss against itself"),
        ("seeds", {"middle": "median", "band": "std"}, ConfigError, "around the mean, not the median"),
        ("only seeds", {"figure": "finals"}, ConfigError, "no key but seeds varies"),
        ("sums", {"figure": "runs"}, StorageError, "keeps sums, no curves of single runs"),
        ("events", {"figure": "curves", "metric": ["mode_escapes"]}, ConfigError, "is an event, one value a run"),
        (
            "events",
            {"figure": "finals", "metric": ["mode_escapes"]},
            ConfigError,
            "is a vector: name one of its entries",
        ),
        (
            "events",
            {"figure": "finals", "metric": ["escapes"]},
            ConfigError,
            "has no 'escapes'; did you mean 'mode_escapes'",
        ),
        (
            "events",
            {"figure": "plane", "metric": ["test_loss", "mode_strengths"]},
            ConfigError,
            "draws one curve, not mode_",
        ),
        (
            "own",
            {"figure": "ratio", "metric": ["test_loss", "train_loss"]},
            ConfigError,
            "draws one curve, not test_loss_a",
        ),
        ("pair", {"x": "time"}, ConfigError, "lanes have rates of their own: draw against step"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(stored, name, options, error, told):
    with pytest.raises(error, match=told) as raised:
        sweep_figure(stored / name, Asked(**options))
    assert "\n" not in str(raised.value)


def test_panels_have_one_scale_one_legend_and_are_not_too_many():
    frame = made_up({"model.gamma": [float(i) for i in range(6)]}, 2)

    def panel(rows, axes, beside):
        axes.plot([0, 1], [0, rows["model.gamma"][0]], label="line")
        axes.legend()

    figure = draw_panels(frame, panel, columns="model.gamma")
    assert [axes.get_title() for axes in figure.axes] == [f"gamma {i}" for i in range(6)]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert entries(figure) == ["line"]
    assert not any(axes.get_legend() for axes in figure.axes)
    assert len({round(axes.get_position().y0, 3) for axes in figure.axes}) == 2  # in two rows
    many = made_up({"model.gamma": [float(i) for i in range(50)]}, 1)
    with pytest.raises(ConfigError, match=r"50 panels, one for each value of model.gamma, are more than 48"):
        draw_panels(many, panel, columns="model.gamma")


def test_long_names_of_axes_do_not_reach_into_the_next_panel(stored):
    asked = Asked(figure="ratio", baseline={RATE: 0.001}, rows="model.gamma", where={WIDTH: 5, SIZE: 5}, by=[RATE])
    figure = sweep_figure(stored / "four", asked)[0]
    upper, lower = (axes.yaxis.label.get_window_extent() for axes in figure.axes)
    assert figure.axes[0].get_ylabel().replace("\n", " ") == "test loss / learning rate 0.001"
    assert lower.y1 < upper.y0


def test_on_paper_a_figure_is_as_wide_as_a_column_and_nothing_is_cut(stored, tmp_path):
    for options, width in (({}, 3.3), ({"columns": RATE}, 6.9)):
        figure = sweep_figure(stored / "seeds", Asked(style="paper", **options))[0]
        assert figure.get_figwidth() == width
        box, whole = figure.get_tightbbox(), figure.get_size_inches()
        assert box.x0 >= -0.01
        assert box.y0 >= -0.01
        assert box.x1 <= whole[0] + 0.01
        assert box.y1 <= whole[1] + 0.01
        path = save_figure(figure, tmp_path / "paper.pdf")
        assert b"/FontFile2" in path.read_bytes()  # TrueType, embedded
