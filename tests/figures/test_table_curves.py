"""Curves of tables: what is drawn is what numpy finds in the runs, and the legend says what it is."""

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from scipy import stats

import dln
from dln.errors import ConfigError
from dln.figures.style import DARK, PALETTE, RAMP
from dln.figures.table_curves import curves
from dln.figures.table_finals import finals
from dln.figures.table_plane import plane
from dln.figures.table_ratio import ratio
from tests.figures.tables import RATE, SEED, SIZE, STEPS, crosses, entries, made_up, matrix, named

pytestmark = pytest.mark.sampled(whole_file=True)

LOST = {(0.1, 0): 2, (0.1, 3): 3, (1.0, 0): 1, (1.0, 1): 2, (1.0, 2): 2, (1.0, 3): 1, (1.0, 4): 2}


@pytest.fixture(scope="module")
def frame():
    return made_up({RATE: [0.01, 0.1, 1.0]}, lost=LOST)


@pytest.fixture(scope="module")
def table(frame):
    return dln.aggregate(frame, SEED, quantiles=(0.1, 0.5, 0.9))


@pytest.mark.filterwarnings("ignore:All-NaN slice|Mean of empty slice|Degrees of freedom")
def test_lines_are_means_of_the_runs_that_are_left_and_the_legend_says_how_many_those_are(frame, table):
    axes = curves(table, ["test_loss"], RATE)
    told = ["0.01", "0.1 (2 of 5 diverged)", "1 (5 of 5 diverged)", "mean of 5 runs, 95 % interval"]
    assert entries(axes) == [*told, "diverged: 7 of 15 runs; curves are means of the others"]
    for label, rate in (("0.01", 0.01), ("0.1", 0.1), ("1", 1.0)):
        runs = matrix(frame, **{RATE: rate})
        x, y = named(axes)[label].get_data()
        there = np.searchsorted(STEPS, x)
        np.testing.assert_allclose(y, np.nanmean(runs, 0)[there])
    [alone] = [fill for fill in axes.collections if to_hex(fill.get_facecolor()[0]) == to_hex(RAMP(0.0))]
    runs = matrix(frame, **{RATE: 0.01})
    low, high = stats.t.interval(0.95, 4, runs.mean(0), stats.sem(runs))
    low = np.where(low > 0, low, axes.get_ylim()[0] / 10)  # down to the edge of the logarithmic axis
    corners = alone.get_paths()[0].vertices
    for step, ends in zip(STEPS, np.transpose([low, high]), strict=True):
        np.testing.assert_allclose(np.ptp(corners[corners[:, 0] == step][:, 1]), np.ptp(ends))
    assert sorted(crosses(axes)) == [10, 20, 30]  # the first records without a run, or the last of all


def test_what_is_drawn_after_a_run_was_lost_does_not_set_the_range():
    frame = made_up({RATE: [0.01, 0.1]}, lost={(0.1, 0): 3})
    wild = frame.with_columns(
        pl.when((pl.col(RATE) == 0.1) & (pl.col(SEED) == 0))
        .then(pl.lit([1.0, 1e20, 1e30]))
        .otherwise("test_loss")
        .alias("test_loss")
    )
    top = curves(dln.aggregate(wild, SEED), ["test_loss"], RATE).get_ylim()[1]
    assert top < 10


@pytest.mark.parametrize(
    ("middle", "band", "told"),
    [
        ("median", "quantiles", "median of 5 runs, 10 to 90 % of them"),
        ("median", "interval", "median of 5 runs, too few for an interval"),
        ("mean", "std", "mean of 5 runs, one standard deviation"),
        ("mean", "none", "mean of 5 runs"),
    ],
)
def test_the_middle_and_the_band_are_those_that_are_asked_for(frame, table, middle, band, told):
    axes = curves(table, ["test_loss"], RATE, middle=middle, band=band)
    runs = matrix(frame, **{RATE: 0.01})
    np.testing.assert_allclose(named(axes)["0.01"].get_ydata(), getattr(np, middle)(runs, 0))
    assert told in entries(axes)
    if band == "std":
        corners = axes.collections[0].get_paths()[0].vertices
        spread = np.ptp(corners[corners[:, 0] == 0][:, 1])
        np.testing.assert_allclose(spread, 2 * runs[:, 0].std(ddof=1))
    assert bool(axes.collections) == ("too few" not in told and band != "none")


def test_colours_say_what_a_key_is():
    sizes = made_up({SIZE: [1, 2, 5, 10, None]}, seeds=2)
    axes = curves(dln.aggregate(sizes, SEED), ["test_loss"], SIZE)
    shown = {label: to_hex(line.get_color()) for label, line in named(axes).items()}
    assert [*shown] == ["1", "2", "5", "10", "full"]
    assert (shown["1"], shown["10"], shown["full"]) == (to_hex(RAMP(0.0)), to_hex(RAMP(1.0)), DARK)
    assert shown["2"] == to_hex(RAMP(np.log10(2)))
    words = curves(dln.aggregate(made_up({"model.init": ["b", "a"]}), SEED), ["test_loss"], "model.init")
    assert [to_rgb(line.get_color()) for line in named(words).values()] == [*map(to_rgb, PALETTE[:2])]
    seeds = dln.aggregate(made_up({"training.model_seed": [0, 1, 2]}), SEED)
    assert len({to_rgb(line.get_color()) for line in curves(seeds, ["test_loss"], "training.model_seed").lines}) == 1


def test_many_numbers_have_a_colour_bar_of_their_own_scale():
    rates = np.logspace(-3, 0, 9).tolist()
    axes = curves(dln.aggregate(made_up({RATE: rates}), SEED), ["test_loss"], RATE)
    [lines] = [found for found in axes.collections if isinstance(found, LineCollection)]
    np.testing.assert_allclose(lines.get_array(), rates)
    assert (lines.norm.vmin, lines.norm.vmax) == (rates[0], rates[-1])
    assert np.isclose(lines.norm(rates[4]), 0.5)
    figure = axes.get_figure()
    assert [other.get_ylabel() for other in figure.axes if other is not axes] == ["learning rate"]
    assert entries(axes) == ["mean of 5 runs, 95 % interval"]


def test_time_is_lr_times_step_and_losses_fall_to_the_right(table):
    timed = named(curves(table, ["test_loss"], RATE, x="time"))
    np.testing.assert_allclose(timed["0.1"].get_xdata(), 0.1 * STEPS)
    axes = curves(table, ["sharpness"], RATE, x="loss")
    assert axes.xaxis_inverted()
    assert axes.get_xlabel() == "test loss"
    some = table.filter(table[RATE] == 0.01)
    np.testing.assert_array_equal(named(axes)["0.01"].get_data(), (some["test_loss mean"], some["sharpness mean"]))


@pytest.mark.parametrize("log", [None, "y", "xy", "none"])
def test_zeros_have_no_place_on_a_logarithmic_axis_and_do_not_break_it(log):
    axes = curves(dln.aggregate(made_up({RATE: [0.1, 0.2]}, zero=True), SEED), ["test_loss"], RATE, log=log)
    assert axes.get_yscale() == ("log" if log and "y" in log else "linear")  # by itself an axis hides nothing
    assert axes.get_xscale() == ("log" if log == "xy" else "linear")
    assert all(np.isfinite(axes.get_ylim()))


def test_one_run_of_one_record_is_a_dot():
    alone = made_up({RATE: [0.1]}, seeds=2).with_columns(pl.col("step", "test_loss", "sharpness").list.head(1))
    [line] = curves(dln.aggregate(alone, SEED, RATE), ["test_loss"], RATE).lines
    assert line.get_marker() == "o"


def test_names_of_users_are_drawn_as_they_are():
    axes = curves(dln.aggregate(made_up({"model.init": ["$x^", "_y_"]}), SEED), ["test_loss"], "model.init")
    assert entries(axes)[:2] == [r"\$x^", " _y_"]


def test_several_curves_are_told_apart_once_not_in_pairs(table):
    axes = curves(table, ["test_loss", "sharpness"], RATE)
    assert entries(axes)[:5] == ["0.01", "0.1 (2 of 5 diverged)", "1 (5 of 5 diverged)", "test loss", "sharpness"]
    dashes = {label.split(",")[0]: line.get_linestyle() for label, line in named(axes).items()}
    assert len({*dashes.values()}) == 2
    alone = curves(table.filter(table[RATE] == 0.01), ["test_loss", "sharpness"])
    assert [to_hex(line.get_color()) for line in alone.lines] != [to_hex(alone.lines[0].get_color())] * 2


def test_ratios_have_their_interval_and_no_line_for_the_baseline(frame):
    table = dln.aggregate(frame, SEED, of="test_loss", baseline={RATE: 0.01})
    axes = ratio(table, per=RATE)
    assert [*named(axes)] == ["0.1", "1"]
    runs, base = matrix(frame, **{RATE: 0.1})[:, 0], matrix(frame, **{RATE: 0.01})[:, 0]
    np.testing.assert_allclose(named(axes)["0.1"].get_ydata()[0], runs.mean() / base.mean())
    colours = {label: line.get_color() for label, line in named(curves(table, ["test_loss"], RATE)).items()}
    assert {label: line.get_color() for label, line in named(axes).items()} == {n: colours[n] for n in ("0.1", "1")}
    assert entries(axes)[:2] == ["0.1 (2 of 5 diverged)", "1 (5 of 5 diverged)"]
    with pytest.raises(ConfigError, match="compares test_loss with nothing: aggregate with a baseline"):
        ratio(dln.aggregate(frame, SEED), per=RATE)


def test_finals_are_means_with_intervals_and_only_a_cross_where_all_diverge(frame, table):
    axes = finals(table)
    [line] = [line for line in axes.lines if line.get_marker() == "o"]
    ends = [matrix(frame, **{RATE: rate})[:, -1] for rate in (0.01, 0.1)]
    np.testing.assert_allclose(line.get_ydata(), [np.nanmean(end) for end in ends])
    np.testing.assert_allclose(line.get_xdata(), [0.01, 0.1])
    assert crosses(axes) == [0.1, 1.0]
    assert axes.get_xscale() == "log"
    assert "diverged: 7 of 15 runs; means of the others" in entries(axes)


def test_words_and_null_have_places_of_their_own_on_an_axis():
    axes = finals(dln.aggregate(made_up({SIZE: [1, 5, None]}), SEED), x=SIZE)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5", "full"]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0, 1, 2])


def test_a_plane_has_the_way_of_each_condition(table):
    axes = plane(table, "test_loss", "sharpness", RATE)
    some = table.filter(table[RATE] == 0.01)
    np.testing.assert_array_equal(named(axes)["0.01"].get_data(), (some["test_loss mean"], some["sharpness mean"]))
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert faces.count("white") == 3
    assert entries(axes)[3:5] == ["first record", "last record"]


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda table: curves(table, ["test_los"]), "has no 'test_los'; did you mean 'test_loss'"),
        (lambda table: curves(table, ["test_loss"], "training.l"), "did you mean 'training.lr'"),
        (lambda table: curves(table, ["test_loss"], RATE, x="epoch"), "no x 'epoch'; known: loss, step, time"),
        (lambda table: curves(table, ["test_loss"], RATE, middle="mode"), "no middle 'mode'; known: mean, median"),
        (lambda table: curves(table, ["test_loss"], RATE, band="sd"), "no band 'sd'; did you mean 'std'"),
        (lambda table: curves(table, ["test_loss"], RATE, log="z"), "no log 'z'; known: none, x, xy, y"),
        (
            lambda table: curves(table, ["test_loss"], RATE, "step", "median", "std"),
            "one around the mean, not the median",
        ),
        (lambda table: finals(table, x="test_loss", per="nothing"), "has no 'nothing'"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(table, draw, told):
    with pytest.raises(ConfigError, match=told) as error:
        draw(table)
    assert "\n" not in str(error.value)


def test_bands_that_a_table_lacks():
    few = dln.aggregate(made_up({RATE: [0.1, 0.2]}), SEED, quantiles=())
    for options, told in (({"middle": "median"}, "no medians"), ({"band": "quantiles"}, "no two quantiles")):
        with pytest.raises(ConfigError, match=told):
            curves(few, ["test_loss"], RATE, **options)
