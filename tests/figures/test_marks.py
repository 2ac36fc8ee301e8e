"""What happened in a run is marked where it happened."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dln.figures.marks import marks_of
from dln.figures.style import EVENT, LANES
from dln.plotting import losses, plot_run
from tests.figures.histories import comparative, config, labels, legend_of, of, overlaps, single

pytestmark = pytest.mark.sampled(whole_file=True)


def lines(ax):
    return [artist for artist in of(ax, "mark") if hasattr(artist, "get_xdata")]


def texts(ax):
    return [text.get_text() for text in of(ax, "mark") if hasattr(text, "get_text")]


def test_divergence_and_stops_are_marked_in_every_panel_and_named_once():
    history = single(weight_norm=float)
    history.events = {"diverged_at": 7}
    figure = plot_run(history)
    for ax in figure.axes:
        (line,) = lines(ax)
        np.testing.assert_array_equal(line.get_xdata(), [7, 7])
        assert ax.get_xlim()[1] > 7  # beyond the last record
    assert texts(figure.axes[0]) == ["diverged at 7"]
    assert texts(figure.axes[1]) == []
    assert legend_of(figure) == ["train", "test"]


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("switch_batch_size", {"step": 3, "batch_size": None}, [(3, "full batch at 3")]),
        ("switch_batch_size", {"step": 9, "batch_size": None}, []),  # beyond the end
        ("multi_switch_batch_size", {"schedule": {2: 4, 4: 8}}, [(2, "batch of 4 at 2"), (4, "batch of 8 at 4")]),
        ("kick", {"step": 2, "size": 1.0}, [(2, "kick at 2")]),
        ("switch_teacher", {"step": 1, "factor": -1}, [(1, "switch teacher at 1")]),
        ("lr_warmup", {"steps": 3}, [(3, "end of warmup")]),
        ("lr_cosine", {"steps": 3, "start": 1}, [(4, "end of cosine")]),
        ("lr_decay", {"factor": 0.5, "interval": 2}, [(2, "lr × 0.5"), (4, "lr × 0.5")]),  # noqa: RUF001
        ("weight_noise", {"std": 1.0, "start": 2}, [(2, "weight noise")]),
        ("weight_noise", {"std": 1.0}, []),  # always
        ("of_mine", {"step": 4}, [(4, "of mine at 4")]),
        ("of_mine", {"step": "late"}, []),
    ],
)
def test_callbacks_are_marked_where_they_act(name, params, expected):
    history = single()
    history.config = config()
    history.config["callbacks"] = [{"name": name, "params": params}]
    assert [(mark.step, mark.text) for mark in marks_of(history)] == expected
    ax = losses(history, levels=False)
    assert [line.get_xdata()[0] for line in lines(ax)] == [step for step, _ in expected]
    assert texts(ax) == [text for _, text in expected]


def test_one_that_acts_all_the_time_is_not_marked():
    history = single(steps=40)
    history.config = config()
    history.config["callbacks"] = [{"name": "lr_decay", "params": {"factor": 0.9, "interval": 1}}]
    assert marks_of(history) == []


def test_what_both_models_do_is_marked_once_and_what_one_does_in_its_colour():
    history = comparative()
    one, other = ({"name": "switch_batch_size", "params": {"step": s, "batch_size": 5}} for s in (1, 3))
    sections = {f"{name}{lane}": config()[name] for lane in LANES for name in ("model", "training")}
    history.config = sections | {"callbacks_a": [one], "callbacks_b": [one, other]}
    ax = losses(history)
    assert [(line.get_xdata()[0], to_hex(line.get_color())) for line in lines(ax)] == [
        (1, EVENT.lower()),
        (3, LANES["_b"].lower()),
    ]
    assert texts(ax) == ["batch of 5 at 1", "b batch of 5 at 3"]


def test_events_are_marked_where_they_were_found_and_those_that_did_not_happen_are_not():
    history = single(weight_norm=float)
    history.events = {"mode_escapes": [1.5, None, 4.0], "edge_of_stability": 2.5, "mode_order": [1, 3], "own": 3.0}
    figure = plot_run(history)
    assert [line.get_xdata()[0] for line in lines(figure.axes[0])] == [1.5, 2.5, 4.0]
    assert texts(figure.axes[0]) == ["mode 1", "edge of stability", "mode 3"]
    assert lines(figure.axes[1]) == []
    assert overlaps(figure) == []


def test_modes_that_are_learned_together_share_a_name_in_their_order():
    history = single(steps=101)
    history.events = {"mode_escapes": [3.0, 1.0, 2.0, 90.0]}
    assert texts(losses(history)) == ["modes 2, 3, 1", "mode 4"]


def test_events_are_known_by_the_names_that_the_config_gave_them():
    history = single()
    history.events = {"learned": [2.0], "flat.begin": [1.0], "flat.end": [4.0], "flat.level": [3.0]}
    named = [{"name": "mode_escapes", "label": "learned"}, {"name": "plateaus", "label": "flat"}]
    history.config = config() | {"events": named}
    ax = losses(history, levels=False)
    assert "mode 1" in texts(ax)
    (bar,) = [line for line in lines(ax) if line.get_linewidth() > 3]
    np.testing.assert_array_equal(bar.get_xdata(), [1, 4])
    np.testing.assert_array_equal(bar.get_ydata(), [3, 3])
    assert labels(ax) == ["train", "test", "plateau"]


def test_marks_stand_at_their_time_and_their_loss_too():
    history = single()
    history.config = config(lr=0.5)
    history.config["callbacks"] = [{"name": "kick", "params": {"step": 2, "size": 1.0}}]
    for x, place in (("step", 2), ("time", 1.0), ("loss", history["train_loss"][2])):
        (line,) = lines(losses(history, x=x, levels=False))
        assert line.get_xdata()[0] == pytest.approx(place)
