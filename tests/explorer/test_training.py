"""Answers: the numbers are those of `run_experiments`, and come piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import dln
from dln.explorer import training
from dln.explorer.cost import work_of
from dln.explorer.frames import band, frame, joined, unpacked
from dln.explorer.training import Answer, Pace, SupersededError
from tests.explorer.asking import answered, asked

pytestmark = pytest.mark.sampled(whole_file=True)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.floats(-1e6, 1e6) | st.just(np.nan))
)
def test_a_band_is_that_of_numpy(values):
    found = band(values)
    for t in range(values.shape[1]):
        column = values[~np.isnan(values[:, t]), t]
        if len(column):
            assert np.allclose(found[:, t], np.quantile(column, [0.1, 0.5, 0.9]), rtol=1e-12, atol=1e-6)
        else:
            assert np.isnan(found[:, t]).all()


def test_frames_are_read_one_after_the_other_and_numbers_keep_their_bits():
    values = np.array([[1.5, np.nan, np.inf], [-0.0, 1e-45, 1e300]])
    first, second = frame("a", {"x": "ü"}, {"v": values}), frame("b", {}, {})
    (one, found), (two, nothing) = unpacked(first + second)
    assert one == {"kind": "a", "x": "ü"}
    assert two == {"kind": "b"}
    assert not nothing
    with np.errstate(over="ignore"):
        assert found["v"].tobytes() == values.astype("f4").tobytes()


def test_members_that_ended_early_are_nan_afterwards():
    parts = [
        {"step": np.array([0, 2, 4]), "loss": np.ones((2, 3))},
        {"step": np.array([0, 2]), "loss": np.ones((1, 2))},
    ]
    found = joined(parts, [0, 2, 4])["loss"]
    assert found.shape == (3, 3)
    assert np.isnan(found[2, 2])
    assert np.isfinite(found[:2]).all()


def test_the_band_is_of_all_seeds_and_values_are_those_of_runs():
    question = asked({"training.label_noise": 0.5}, seeds=6, vary="training.batch_seed")
    told, arrays = answered(question)["curves"]
    config = ["model.hidden_dim=6", "max_steps=40", "training.lr=0.002", "training.label_noise=0.5", "evaluate_every=5"]
    histories = dln.run_experiments([[*config, f"training.batch_seed={seed}"] for seed in range(6)])
    losses = np.stack([history["train_loss"] for history in histories])
    assert told["seeds"] == 6
    assert told["steps"] == histories[0]["step"].tolist()
    assert (arrays["train_loss|members"] == losses.astype("f4")).all()
    assert np.allclose(arrays["train_loss"], np.quantile(losses, [0.1, 0.5, 0.9], axis=0), rtol=1e-6)
    assert losses.std(0).min() > 0


def test_pieces_of_any_size_make_the_same_picture(monkeypatch):
    question = asked(seeds=5)
    whole = answered(question)["curves"]
    work = work_of(question.config())
    monkeypatch.setattr(training, "USUAL_PACE", 0)
    frames: list[tuple[str, bytes]] = []
    slow = Pace(work * 4)  # one member in the first piece, two in the next
    slow.learn = lambda *_: None
    turns = sum(1 for _ in Answer(question, lambda *sent: frames.append(sent), lambda: True, slow).pieces())
    seen = [unpacked(content)[0] for kind, content in frames if kind == "curves"]
    assert [told["seeds"] for told, _ in seen] == [1, 3, 5]
    assert turns > 3
    assert {name: array.tobytes() for name, array in seen[-1][1].items()} == {
        name: array.tobytes() for name, array in whole[1].items()
    }
    assert (seen[0][1]["train_loss|members"] == whole[1]["train_loss|members"][:1]).all()


def test_of_a_long_run_the_beginning_is_shown_before_the_end(monkeypatch):
    monkeypatch.setattr(training, "PARTS", 0.0)
    question = asked({"max_steps": 400, "model.hidden_dim": 40}, seeds=1, records=200, sharpness=False)
    monkeypatch.setattr("dln.ensemble.engine.KEPT", 2**16)  # stretches of a few records
    frames: list[tuple[str, bytes]] = []
    for _ in Answer(question, lambda *sent: frames.append(sent), lambda: True).pieces():
        pass
    seen = [unpacked(content)[0] for kind, content in frames if kind == "curves"]
    lengths = [len(told["steps"]) for told, _ in seen]
    assert len(lengths) > 3
    assert lengths == sorted(lengths)
    assert lengths[-1] == 200
    last = seen[-1][1]["train_loss|members"]
    for told, found in seen:
        assert (found["train_loss|members"] == last[:, : len(told["steps"])]).all()


def test_diverged_seeds_are_counted_and_drawn_as_far_as_they_go():
    told, arrays = answered(asked({"training.lr": 1.0}, sharpness=True))["curves"]
    assert told["diverged"] == 3
    assert np.isfinite(arrays["train_loss"][1, 0])
    assert np.isnan(arrays["train_loss"][1, -1])


def test_a_theory_is_drawn_with_its_conditions_or_says_why_not():
    aligned = {"model.init": "aligned", "model.init_params.strength": 0.1, "model.num_hidden": 1}
    question = asked({**aligned, "data.whiten": True, "max_steps": 1000}, theory="aligned_modes")
    frames = answered(question)
    told, arrays = frames["theory"]
    assert told["theory"] == "aligned_modes"
    assert told["conditions"]["alignment_gap_aligned_modes"] < 1e-6
    trained = frames["curves"][1]["mode_strengths[1]"][1]
    predicted = arrays["mode_strengths_aligned_modes[1]"][1]
    assert trained[-1] > 5 > trained[0]
    assert np.abs(trained - predicted).max() < 0.02 * trained.max()
    fault = answered(asked(theory="aligned_modes"))["theory"][0]["fault"]
    assert "model.init=aligned" in fault


def test_two_settings_share_the_seeds_and_their_distance_is_recorded():
    frames = answered(asked({"training.lr": 0.004}, reference={"training.lr": 0.002}, seeds=2))
    arrays = frames["curves"][1]
    assert frames["begin"][0]["lr"] == {"_a": 0.002, "_b": 0.004}
    assert (arrays["train_loss_a|members"][:, 0] == arrays["train_loss_b|members"][:, 0]).all()
    assert arrays["param_distance"][1, 0] == 0 < arrays["param_distance"][1, -1]
    other_shape = answered(asked({"model.hidden_dim": 8}, reference={"model.hidden_dim": 6}, seeds=2))["curves"][1]
    assert "param_distance" not in other_shape
    assert "end_to_end_distance" in other_shape


def test_a_branch_is_its_reference_up_to_its_step():
    question = asked({"training.batch_size": 5}, reference={"training.batch_size": None}, branch_at=20, seeds=2)
    told, arrays = answered(question)["curves"]
    at = np.array(told["steps"])
    assert (arrays["param_distance"][:, at <= 20] == 0).all()
    assert (arrays["param_distance"][1, at > 20] > 0).all()


def test_nobody_waiting_ends_it_before_the_next_stretch():
    frames: list[str] = []
    answer = Answer(asked(seeds=2), lambda kind, _: frames.append(kind), lambda: not frames)
    with pytest.raises(SupersededError):
        list(answer.pieces())
    assert frames == ["begin"]


def test_the_pace_follows_what_is_timed():
    pace = Pace(1e9)
    for _ in range(20):
        pace.learn(4e9, 2.0)
    assert pace.value == pytest.approx(2e9, rel=1e-3)
