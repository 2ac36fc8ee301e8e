"""What a preset promises to show is in its numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from dln.explorer.presets import PRESETS
from tests.explorer.asking import answered

pytestmark = pytest.mark.long

BY_NAME = {preset.name: preset for preset in PRESETS}


@cache
def shown(name: str) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return steps, medians of the curves, and medians of the sharpness that a preset draws."""
    frames = answered(BY_NAME[name].question())
    told, arrays = frames["curves"]
    assert told["seeds"] == told["of"]
    assert told["diverged"] == 0
    sharpness = frames["sharpness"][1] if "sharpness" in frames else {}
    return np.array(told["steps"]), *({n: v[1] for n, v in a.items() if "|" not in n} for a in (arrays, sharpness))


def edge(name: str, lane: str = "") -> float:
    return 2 / BY_NAME[name].question().config().lanes[lane].training.lr


def test_saddle_to_saddle_learns_one_mode_after_the_other_and_lingers():
    steps, curves, _ = shown("Saddle to saddle")
    scale = np.array([10.0, 8.0, 6.0, 4.0, 2.0])
    values = np.array([curves[f"singular_values[{i + 1}]"] for i in range(5)])
    reached = [steps[np.argmax(row > 0.5 * s)] for row, s in zip(values, scale, strict=True)]
    assert reached == sorted(set(reached))
    for mode in range(3, 5):  # those before are done, and those after have hardly begun, when it is half way
        at = np.argmax(values[mode - 1] > 0.9 * scale[mode - 1])
        assert values[mode, at] < 0.35 * scale[mode]
    # lingering: between the fourth mode and the fifth the loss is that of the saddle with four modes, 4 / 5
    near = np.abs(curves["train_loss"] - 2.0**2 / 5) < 0.1
    assert steps[near].max() - steps[near].min() > 200


def test_modes_in_closed_form_are_what_is_trained():
    frames = answered(BY_NAME["Modes in closed form"].question())
    told, predicted = frames["theory"]
    trained = frames["curves"][1]
    for mode in range(1, 6):
        apart = trained[f"mode_strengths[{mode}]"][1] - predicted[f"mode_strengths_aligned_modes[{mode}]"][1]
        assert np.abs(apart).max() < 0.02 * trained[f"mode_strengths[{mode}]"][1].max()
    assert told["conditions"]["lr_sharpness_aligned_modes"] < 0.05


def test_lazy_kernels_hardly_move_and_rich_ones_do():
    _, curves, _ = shown("Lazy against rich")
    assert curves["ntk_distance_a"].max() < 0.05
    assert curves["ntk_distance_b"][-1] > 3
    assert curves["train_loss_a"][-1] < 1e-8
    # one pace or the large modes first: how much of modes 1 and 4 is learned when half of mode 2 is
    pace = {}
    for lane in "ab":
        errors = {m: np.abs(curves[f"mode_strengths_{lane}[{m}]"] / (1 - (m - 1) / 5) - 1) for m in (1, 2, 4)}
        at = np.argmax(errors[2] < 0.5 * errors[2][0])
        pace[lane] = [errors[m][at] / errors[m][0] for m in (1, 4)]
    assert pace["b"][1] > pace["b"][0] + 0.2


def test_sharpness_settles_at_the_edge_of_stability():
    _, curves, sharpness = shown("Edge of stability")
    a, b = sharpness["sharpness_a"], sharpness["sharpness_b"]
    assert a.max() > edge("Edge of stability", "_a") > a[-1] > 0.97 * edge("Edge of stability", "_a")
    assert b[-1] > 1.15 * edge("Edge of stability", "_a")  # where a smaller rate ends A cannot stay
    assert b[-1] < edge("Edge of stability", "_b")
    assert curves["train_loss_a"][-1] < 1e-4


def test_a_catapult_rises_and_lands_where_it_is_flat():
    _, curves, sharpness = shown("Catapult")
    loss, found = curves["train_loss"], sharpness["sharpness"]
    assert loss[1:4].max() > 2 * loss[0]
    assert found[0] > edge("Catapult") > found[-1]
    assert loss[-1] < 1e-5 * loss[0]
    assert curves["weight_norm"][-1] < 0.8 * curves["weight_norm"][0]


def test_the_floor_of_sgd_is_as_high_as_lr_over_the_batch_size():
    steps, curves, _ = shown("SGD floor")
    late = steps > 0.5 * steps[-1]
    floors = {lane: curves[f"full_train_loss_{lane}"][late].mean() for lane in "ab"}
    assert floors["a"] / floors["b"] == pytest.approx(16 / 4, rel=0.35)
    half = BY_NAME["SGD floor"].question()
    slower = type(half)(**{**vars(half), "values": {**half.values, "training.lr": 0.0005, "max_steps": 20_000}})
    told, arrays = answered(slower)["curves"]
    late = np.array(told["steps"]) > 0.5 * told["steps"][-1]
    assert floors["a"] / arrays["full_train_loss_a"][1][late].mean() == pytest.approx(2, rel=0.35)


def test_a_branch_snaps_to_where_there_is_no_noise():
    steps, curves, _ = shown("Branch switch")
    before, after = steps <= 1000, steps > 1500
    assert (curves["param_distance"][before] == 0).all()
    same = steps < 1000  # at step 1000 the batches are different ones already
    assert (curves["train_loss_a"][same] == curves["train_loss_b"][same]).all()
    a, b = (curves[f"test_loss_{lane}"] for lane in "ab")
    full = BY_NAME["Branch switch"].question()
    alone = type(full)(**{**vars(full), "reference": {}, "branch_at": None, "seeds": 1})  # B's batch from the start
    without_noise = answered(alone)["curves"][1]["test_loss"][1]
    assert b[-1] == pytest.approx(without_noise[-1], rel=1e-3)
    assert a[after].min() > 1.05 * without_noise[-1]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_says_what_to_look_at_and_where_it_is_from(preset):
    assert preset.look.endswith(".")
    assert len(preset.look) > 60
    assert preset.source.startswith("arXiv ")
    told = preset.told()
    assert told["name"] == preset.name
    assert {*told["asks"]} <= {*vars(preset.question())}
