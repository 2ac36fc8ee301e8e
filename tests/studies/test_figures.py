"""Figures of studies show what their tables hold, in a panel for each value of two keys."""

import numpy as np
import polars as pl
import pytest

import dln
from dln.errors import ConfigError, ExtensionError
from dln.studies.figures import draw, figure
from dln.studies.found import Found

SEED, SIZE, GAMMA, RATE = "training.batch_seed", "training.batch_size", "model.gamma", "training.lr"
BY = [GAMMA, SIZE, RATE]


@pytest.fixture(scope="module")
def found():
    """Runs, made up: two gammas, three sizes, two rates, at one of which a run of size 1 diverges."""
    rng = np.random.default_rng(0)
    rows = []
    for gamma, size, lr, seed in (
        (g, s, r, i) for g in (1.0, 1.5) for s in (None, 1, 9) for r in (0.1, 0.2) for i in range(5)
    ):
        lost = 15 if (size, lr, seed) == (1, 0.2, 0) else None
        loss = np.ones(3) if size is None else rng.lognormal(0, 0.1, 3)
        row = {GAMMA: gamma, SIZE: size, RATE: lr, SEED: seed, "diverged_at": lost, "step": [0, 10, 20]}
        rows.append(row | {"loss": loss.tolist(), "sharpness": [10.0, 15.0, 20.0]})
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return Found("made", "made up", dln.aggregate(frame, SEED, BY, ["loss", "sharpness"], {SIZE: None}))


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_curves_are_the_means_of_the_table(found):
    drawn = draw(found, "curves", {"of": ["loss"], "per": SIZE}, rows=GAMMA, columns=RATE)
    assert [axes.get_title() for axes in drawn.axes] == ["learning rate 0.1", "learning rate 0.2", "", ""]
    assert [[text.get_text() for text in axes.texts] for axes in drawn.axes] == [[], ["gamma 1"], [], ["gamma 1.5"]]
    for axes, (gamma, lr) in zip(drawn.axes, ((g, r) for g in (1.0, 1.5) for r in (0.1, 0.2)), strict=True):
        shown = lines(axes)
        assert [*shown] == ["1", "9", "full"]
        for size in (None, 1, 9):
            rows = found.table.filter(pl.col(SIZE).eq_missing(size), **{GAMMA: gamma, RATE: lr})
            x, y = shown["full" if size is None else str(size)].get_data()
            np.testing.assert_allclose(x, lr * np.array([0, 10, 20]))
            np.testing.assert_array_equal(y, rows["loss mean"])
    (legend,) = drawn.legends
    told = ["batch size", "1 (2 of 20 diverged)", "9", "full", "mean of 5 runs,\n95 % interval"]
    told.append("diverged: 2 of 60 runs;\ncurves are means of the others")
    assert [text.get_text() for text in (legend.get_title(), *legend.get_texts())] == told
    assert not any(axes.get_legend() for axes in drawn.axes)


def test_ratios_have_no_line_for_the_baseline(found):
    some = Found("made", "", found.table.filter(pl.col(RATE) == 0.1))
    drawn = draw(some, "ratio", {"of": "loss", "x": "step"}, columns=GAMMA)
    for axes, gamma in zip(drawn.axes, (1.0, 1.5), strict=True):
        assert [*lines(axes)] == ["1", "9"]
        rows = found.table.filter(**{GAMMA: gamma, RATE: 0.1, SIZE: 9})
        np.testing.assert_array_equal(lines(axes)["9"].get_data(), (rows["step"], rows["loss ratio"]))


def test_finals_are_the_last_values_and_crosses_where_runs_diverge(found):
    some = Found("made", "", found.table.filter(pl.col(GAMMA) == 1))
    (axes,) = draw(some, "finals", {"of": "loss", "per": SIZE, "sharpness": "sharpness"}).axes
    (cross,) = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert list(cross.get_xdata()) == [0.2]
    edges = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(edges, 2 / 20)
    ends = some.table.filter(pl.col(SIZE) == 9, step=20)["loss mean"]
    assert any(np.array_equal(line.get_ydata(), ends) for line in axes.lines)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.2"]


def test_medians_and_several_curves(found):
    some = Found("made", "", found.table.filter(pl.col(GAMMA) == 1, pl.col(RATE) == 0.1, pl.col(SIZE) == 9), lr=0.1)
    params = {"of": ["loss", "sharpness"], "names": ["A", "B"], "middle": "median", "label": "both", "level": 2.0}
    (axes,) = draw(some, "curves", params).axes
    np.testing.assert_array_equal(lines(axes)["A"].get_ydata(), some.table["loss q0.5"])
    assert [*lines(axes)] == ["A", "B"]
    assert axes.get_ylabel() == "both"


def test_what_a_table_does_not_have(found):
    with pytest.raises(ConfigError, match="has no 'los'; did you mean 'loss'"):
        draw(found, "curves", {"of": ["los"]})
    with pytest.raises(ConfigError, match=r"has no 'model.gama'; did you mean 'model.gamma'"):
        draw(found, "curves", {"of": ["loss"]}, rows="model.gama")


def test_one_of_your_own(found):
    @figure("breaks")
    def breaks(table, axes, height: float = 1.0):
        if height > 1:
            raise ValueError("too high")
        axes.plot(table["step"], table["loss mean"], label="mine")
        return axes

    assert [*lines(draw(found, "breaks", {}).axes[0])] == ["mine"]
    with pytest.raises(ExtensionError, match=r"figure 'breaks' failed: ValueError\('too high'\)"):
        draw(found, "breaks", {"height": 2.0})
