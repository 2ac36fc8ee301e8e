"""Maps show how runs end, and of each cell without a colour why it has none."""

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import LogNorm

import dln
from dln.errors import ConfigError
from dln.figures.map import final_map
from dln.figures.map_cells import cells_of
from tests.figures.tables import RATE, SEED, SIZE, WIDTH, entries, made_up, matrix

pytestmark = pytest.mark.sampled(whole_file=True)

RATES, WIDTHS = [0.01, 0.1, 1.0], [5, 10, 20]
ALL = {(1.0, 5, seed): 1 for seed in range(3)}


def drawn(frame, **options):
    return final_map(dln.aggregate(frame, SEED), x=RATE, y=WIDTH, **options)


def mesh(axes):
    [cells] = [found for found in axes.collections if isinstance(found, QuadMesh)]
    return cells


def test_cells_are_final_means_hatched_where_all_diverge_and_crossed_where_some_do():
    frame = made_up({RATE: RATES, WIDTH: WIDTHS}, 3, ALL | {(0.1, 10, 0): 2})
    frame = frame.filter(~((pl.col(RATE) == 0.01) & (pl.col(WIDTH) == 20)))
    axes = drawn(frame)
    shown = np.ma.filled(mesh(axes).get_array(), np.nan)
    for i, width in enumerate(WIDTHS):
        for j, rate in enumerate(RATES):
            ends = matrix(frame, **{RATE: rate, WIDTH: width})[:, -1]
            gone = (rate, width) in ((1.0, 5), (0.01, 20))
            np.testing.assert_allclose(shown[i, j], np.nan if gone else np.nanmean(ends))
    states = {found.get_hatch(): found for found in axes.collections if isinstance(found, PolyCollection)}
    assert {hatch: len(found.get_paths()) for hatch, found in states.items()} == {"/////": 1, None: 1}
    corners = states["/////"].get_paths()[0].vertices
    assert corners[:, 0].min() < 1.0 < corners[:, 0].max()
    assert corners[:, 1].min() < 5 < corners[:, 1].max()
    [white, black] = [line for line in axes.lines if line.get_marker() == "x"]
    assert black.get_xydata().tolist() == white.get_xydata().tolist() == [[0.1, 10]]
    assert entries(axes) == ["all diverged", "some diverged: the others", "not run"]
    assert axes.get_legend().get_title().get_text() == "4 of 24 runs diverged"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["5", "10", "20"]


def test_what_has_no_value_is_grey_and_called_as_is_said():
    frame = made_up({RATE: RATES, WIDTH: WIDTHS}, 2)
    nothing = (pl.col(RATE) == 0.01) & (pl.col(WIDTH) == 5)
    empty = pl.lit([None] * 4, pl.List(pl.Float64))
    axes = drawn(
        frame.with_columns(pl.when(nothing).then(empty).otherwise("test_loss").alias("test_loss")), nothing="never"
    )
    assert entries(axes) == ["never"]
    assert np.ma.count_masked(mesh(axes).get_array()) == 1


def test_colours_are_logarithmic_where_values_are_and_one_scale_for_all_panels():
    frame = made_up({RATE: RATES, WIDTH: WIDTHS}, 2)
    whole = dln.aggregate(frame, SEED)
    alone = final_map(whole.filter(pl.col(WIDTH) < 20), x=RATE, y=WIDTH, whole=whole)
    ends = whole.filter(step=30)["test_loss mean"]
    assert isinstance(mesh(alone).norm, LogNorm)
    np.testing.assert_allclose((mesh(alone).norm.vmin, mesh(alone).norm.vmax), (ends.min(), ends.max()))
    assert mesh(alone).get_array().shape == (3, 3)
    assert entries(alone) == ["not run"]


def smooth(side, noise):
    """Return a frame of final values that grow along both axes, one run a cell."""
    rng = np.random.default_rng(1)
    cells = [(0.01 * 2**i, 5 + j, i + j + noise * rng.normal()) for i in range(side) for j in range(side)]
    rows = [{RATE: r, WIDTH: w, SEED: s, "step": [0], "test_loss": [v]} for r, w, v in cells for s in (0, 1)]
    return pl.DataFrame(rows)


@pytest.mark.parametrize(
    ("side", "noise", "lines"), [(5, 0.0, False), (6, 0.0, True), (15, 0.0, True), (15, 30.0, False)]
)
def test_lines_of_equal_value_are_there_where_cells_are_enough_to_make_some(side, noise, lines):
    axes = drawn(smooth(side, noise))
    assert len(axes.collections) == 1 + lines
    if lines:
        for level, path in zip(axes.collections[1].levels, axes.collections[1].get_paths(), strict=True):
            i, j = np.log2(path.vertices[:, 0] / 0.01), path.vertices[:, 1] - 5
            np.testing.assert_allclose(i + j, level, atol=0.4)  # values grow along both, the rate's logarithm


@pytest.mark.long
def test_many_cells_are_an_image_in_a_pdf(tmp_path):
    few, many = drawn(smooth(6, 0.0)), drawn(smooth(40, 0.0))
    assert not mesh(few).get_rasterized()
    assert mesh(many).get_rasterized()
    many.get_figure().savefig(tmp_path / "map.pdf")
    assert b"/Subtype /Image" in (tmp_path / "map.pdf").read_bytes()


def test_cells_meet_between_values_and_uneven_ones_stand_side_by_side():
    even = cells_of(RATE, [0.01, 0.1, 1.0])
    np.testing.assert_allclose(even.edges, np.logspace(-2.5, 0.5, 4))
    linear = cells_of("model.gamma", [1.0, 1.5, 2.0])
    np.testing.assert_allclose(linear.edges, [0.75, 1.25, 1.75, 2.25])
    for values in ([1, 2, 1000], [5, None], ["a", "b"], [True, False], [3.0]):
        cells = cells_of(SIZE, values)
        assert cells.scale == "words"
        np.testing.assert_array_equal(cells.edges, np.arange(len(values) + 1) - 0.5)
    assert cells_of(SIZE, [1, 2, 1000], log=True).scale == "log"


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(ConfigError, match=r"has no 'model.width'; did you mean"):
        final_map(dln.aggregate(made_up({RATE: RATES, WIDTH: WIDTHS}, 2), SEED), x=RATE, y="model.width")
