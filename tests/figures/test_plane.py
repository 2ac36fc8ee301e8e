"""Ways in the plane of two columns."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dln.errors import ConfigError
from dln.figures.style import LANES, TRAIN
from dln.plotting import plane
from tests.figures.histories import comparative, labels, of, overlaps, single

pytestmark = pytest.mark.sampled(whole_file=True)


def test_a_way_is_of_the_columns_with_begin_end_and_rising_steps():
    history = single(50, drift=lambda s: 50.0 - s, noise_trace=lambda s: (s - 25.0) ** 2)
    ax = plane(history, "noise_trace", "drift")
    (way,) = of(ax, "way")
    np.testing.assert_array_equal(way.get_xdata(), history["noise_trace"])
    np.testing.assert_array_equal(way.get_ydata(), history["drift"])
    assert to_hex(way.get_color()) == TRAIN.lower()
    (begin,), (end,) = of(ax, "begin"), of(ax, "end")
    assert (begin.get_xdata()[0], begin.get_ydata()[0]) == (625.0, 50.0)
    assert (end.get_xdata()[0], end.get_ydata()[0]) == (576.0, 1.0)
    steps = [int(text.get_text()) for text in of(ax, "step")]
    assert steps == sorted(steps)
    assert len(steps) > 3
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("noise trace", "drift")
    assert overlaps(ax.figure) == []


def test_arrows_point_the_way_that_the_run_goes():
    ax = plane(single(50, x=float, y=lambda s: 2.0 * s), "x", "y", marks=3)
    arrows = of(ax, "arrow")
    assert len(arrows) == 3
    for arrow in arrows:
        (from_x, from_y), (to_x, to_y) = arrow._posA_posB
        assert to_x > from_x
        assert to_y == pytest.approx(2 * to_x)
        assert from_y == pytest.approx(2 * from_x)
    assert of(plane(single(50, x=float, y=float), "x", "y", marks=0), "arrow") == []


def test_losses_are_on_log_axes_and_zeros_there_are_left_out():
    history = single(sharpness=lambda s: 5.0 + s)
    history.records[-1]["train_loss"] = 0.0
    ax = plane(history)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")


def test_both_models_have_a_way_in_their_colours():
    history = comparative(sharpness_a=float, sharpness_b=lambda s: 2.0 * s, param_distance=float)
    ax = plane(history)
    assert [to_hex(way.get_color()) for way in of(ax, "way")] == [color.lower() for color in LANES.values()]
    assert labels(ax) == ["a", "b"]
    of_pair = plane(history, "param_distance", "sharpness")
    np.testing.assert_array_equal(of(of_pair, "way")[1].get_xdata(), history["param_distance"])
    assert len(of(plane(history, "param_distance", "param_distance"), "way")) == 1


def test_a_number_of_a_vector_is_named_by_its_place():
    history = single(v=lambda s: [1.0 * s, 3.0 - s])
    (way,) = of(plane(history, "v[1]", "v[2]"), "way")
    np.testing.assert_array_equal(way.get_ydata(), history["v"][:, 1])
    with pytest.raises(ConfigError, match=r"e\.g\. 'v\[1\]'"):
        plane(history, "v", "train_loss")
    with pytest.raises(ConfigError, match="has 2 numbers"):
        plane(history, "v[3]", "train_loss")
    with pytest.raises(KeyError, match="known: "):
        plane(history, "nonsense", "v[1]")


@pytest.mark.parametrize("steps", [1, 2])
def test_short_runs_runs_that_stand_still_and_missing_numbers_are_drawn(steps):
    assert len(of(plane(single(steps, v=float), "v", "v"), "begin", "end")) == 2
    still = plane(single(v=lambda s: 1.0, w=lambda s: 2.0), "v", "w")
    assert [text.get_text() for text in of(still, "step")] == ["0"]
    missing = single(v=lambda s: np.nan if s % 2 else float(s))
    assert list(of(plane(missing, "v", "v"), "way")[0].get_xdata()) == [0, 2, 4]
    nothing = plane(single(v=lambda s: np.nan), "v", "v")
    assert of(nothing, "begin") == []
