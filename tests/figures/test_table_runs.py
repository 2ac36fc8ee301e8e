"""Single runs: lines while they are few, a density of lines when they are many, of the same curves."""

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_rgb

from dln.errors import ConfigError
from dln.figures import table_runs
from dln.figures.style import RAMP, TEST
from dln.figures.table_runs import runs
from tests.figures.tables import RATE, SEED, STEPS, crosses, entries, made_up, matrix, named

pytestmark = pytest.mark.sampled(whole_file=True)


def lines_of(axes):
    [found] = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    return found


def test_every_run_is_a_line_that_ends_where_the_run_does():
    frame = made_up({RATE: [0.1, 1.0]}, 3, {(1.0, 0): 2})
    axes = runs(frame, "test_loss", RATE)
    drawn = sorted(line[:, 1][~np.isnan(line[:, 1])].tolist() for line in lines_of(axes).get_segments())
    assert drawn == sorted(frame["test_loss"].to_list())
    means = {label: line.get_ydata() for label, line in named(axes).items()}
    np.testing.assert_allclose(means["1"], np.nanmean(matrix(frame, **{RATE: 1.0}), 0))
    assert crosses(axes) == [15]
    told = ["0.1", "1 (1 of 3 diverged)", "diverged: 1 of 6 runs; means of the others", "their mean"]
    assert entries(axes) == told


def test_seeds_have_one_colour_and_a_dark_mean():
    axes = runs(made_up({}, 6), "test_loss", SEED)
    assert {tuple(color[:3]) for color in lines_of(axes).get_colors()} == {to_rgb(TEST)}
    assert entries(axes) == ["single runs", "their mean"]


def test_runs_recorded_at_different_steps_are_drawn_where_they_are():
    frame = made_up({RATE: [0.1, 0.2]}, 2)
    late = pl.when(pl.col(RATE) == 0.2).then(pl.col("step").list.eval(pl.element() + 7)).otherwise("step")
    axes = runs(frame.with_columns(late), "test_loss", RATE)
    places = [tuple(line[:, 0]) for lines in axes.collections for line in lines.get_segments()]
    assert sorted(places) == [tuple(STEPS)] * 2 + [tuple(STEPS + 7)] * 2
    timed = runs(frame, "test_loss", RATE, x="time")
    places = [line[-1, 0] for lines in timed.collections for line in lines.get_segments()]
    np.testing.assert_allclose(sorted(places), [3, 3, 6, 6])


@pytest.mark.parametrize("log", ["none", "y", "x", "xy"])
def test_a_density_is_where_the_lines_are(monkeypatch, log):
    monkeypatch.setattr(table_runs, "LINES", 3)
    frame = made_up({RATE: [0.1]}, 8, {(0.1, 2): 2})
    axes = runs(frame, "test_loss", RATE, log=log)
    [mesh] = [found for found in axes.collections if isinstance(found, QuadMesh)]
    corners = mesh.get_coordinates()
    alpha = mesh.get_array()[..., 3]
    for curve in frame["test_loss"].to_list():
        for x, y in list(zip(STEPS, curve, strict=False))["x" in log :]:
            if x > 0 or "x" not in log:
                column = np.searchsorted(corners[0, :, 0], x, "right") - 1
                row = np.searchsorted(corners[:, 0, 1], y, "right") - 1
                assert alpha[row, column] > 0, (x, y)
    assert (alpha == 0).mean() > 0.3
    assert not any(isinstance(found, LineCollection) for found in axes.collections)


def test_a_density_of_many_numbers_has_the_colour_of_their_mean(monkeypatch):
    monkeypatch.setattr(table_runs, "LINES", 3)
    flat = [{RATE: r, "diverged_at": None, "step": [0, 9], "test_loss": [r, r]} for r in np.linspace(1, 2, 8)]
    axes = runs(pl.DataFrame(flat), "test_loss", RATE)
    [mesh] = [found for found in axes.collections if isinstance(found, QuadMesh)]
    rows = np.searchsorted(mesh.get_coordinates()[:, 0, 1], np.linspace(1, 2, 8), "right") - 1
    np.testing.assert_allclose(mesh.get_array()[rows, 100, :3], RAMP(np.linspace(0, 1, 8))[:, :3])
    assert [other.get_ylabel() for other in axes.get_figure().axes if other is not axes] == ["learning rate"]


def test_many_runs_are_an_image_in_a_small_pdf(tmp_path):
    axes = runs(made_up({RATE: [0.1, 0.2]}, 400), "test_loss", RATE)
    axes.get_figure().savefig(tmp_path / "runs.pdf")
    content = (tmp_path / "runs.pdf").read_bytes()
    assert b"/Subtype /Image" in content
    assert len(content) < 1e6


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"of": "test_los"}, "the runs have no 'test_los'; did you mean 'test_loss'"),
        ({"of": "test_loss", "per": "training.l"}, "no 'training.l'; did you mean 'training.lr'"),
        ({"of": "test_loss", "log": "z"}, "no log 'z'"),
    ],
)
def test_what_cannot_be_drawn_is_told(options, told):
    with pytest.raises(ConfigError, match=told):
        runs(made_up({RATE: [0.1]}, 2), **options)
    frame = made_up({RATE: [0.1]}, 2).drop("step")
    with pytest.raises(ConfigError, match="no steps: load them with the column step too"):
        runs(frame, "test_loss")
    with pytest.raises(ConfigError, match=r"the learning rate of the runs is not known: load training.lr too"):
        runs(made_up({}, 2), "test_loss", x="time")
