"""Beyond the edge of stability: the cycle against the map itself, whole nets and runs, and where it is refused."""

from dataclasses import replace

import numpy as np
import pytest

import dln
from dln.errors import ConfigError
from dln.theory import THEORIES, beyond_edge, cycle_multiplier, two_cycle
from tests.theory.problems import problem

STRENGTHS = np.array([3.0, 1.5, 0.7])


def white(depth, beyond, widths=(3, 5, 4), runs=1, seed=0, strengths=STRENGTHS, lr=None):
    """Random nets that learn modes of known strengths of white inputs, so far beyond the edge."""
    own = problem((3, *(widths[1],) * (depth - 1), 4), runs=runs, seed=seed, scale=0.4)
    rng = np.random.default_rng(seed + 1)
    left, right = (np.linalg.qr(rng.standard_normal((runs, n, 3)))[0] for n in (4, 3))
    teacher = left * strengths @ right.mT
    lr = beyond / beyond_edge(strengths[0], 2 / 4, depth) if lr is None else lr
    square = (teacher**2).sum((1, 2)) + 4 * 0.01
    sigma = np.broadcast_to(np.eye(3), (runs, 3, 3))
    return replace(own, sigma=sigma, sigma_yx=teacher, target_square=square, lr=np.full(runs, lr))


def predicted(own, steps=(0, 7)):
    return THEORIES.get("two_cycle")(problem=own, steps=np.array(steps))


def descended(own, steps):
    """End-to-end maps after so many steps of descent, and after one more."""
    layers, maps = list(own.layers), []
    rate = own.rate[:, None, None]
    for step in range(steps + 2):
        below = [np.eye(layers[0].shape[-1])]
        for w in layers:
            below.append(w @ below[-1])
        above, changes = rate * (own.sigma_yx - below[-1] @ own.sigma), []
        for w, b in zip(reversed(layers), reversed(below[:-1]), strict=True):
            changes.insert(0, above @ b.mT)
            above = w.mT @ above
        if step >= steps:
            maps.append(below[-1])
        layers = [w + c for w, c in zip(layers, changes, strict=True)]
    return np.stack(maps, 1)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
@pytest.mark.parametrize("beyond", [1.001, 1.1, 1.2])
def test_a_step_swaps_the_two_points(depth, beyond):
    s = np.array([0.2, 1.0, 30.0])
    rate = beyond / beyond_edge(s, 1.0, depth)
    low, high = (two_cycle(s, rate, depth) ** (1 / depth)).T
    for here, there in ((low, high), (high, low)):
        np.testing.assert_allclose(here + rate * (s - here**depth) * here ** (depth - 1), there, rtol=1e-10)
    assert (low < s ** (1 / depth)).all()
    assert (high > s ** (1 / depth)).all()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_multiplier_is_the_slope_of_two_steps(depth):
    s, rate = np.array(2.0), 1.15 / beyond_edge(np.array(2.0), 1.0, depth)
    cycle = two_cycle(s, rate, depth)

    def two_steps(w):
        for _ in range(2):
            w = w + rate * (s - w**depth) * w ** (depth - 1)
        return w

    w, h = cycle[0] ** (1 / depth), 1e-5
    slope = (two_steps(w + h) - two_steps(w - h)) / (2 * h)
    if depth == 2:
        np.testing.assert_allclose(cycle_multiplier(cycle, s, rate, depth), 9 - 2 * 2.15**2)
    np.testing.assert_allclose(cycle_multiplier(cycle, s, rate, depth), slope, rtol=1e-6)


def test_below_the_edge_and_of_one_layer_there_is_no_cycle():
    for depth in (2, 3):
        rate = np.array([0.9, 1.0]) / beyond_edge(1.0, 1.0, depth)
        assert np.isnan(two_cycle(np.ones(2), rate, depth)).all()
    assert np.isnan(two_cycle(np.array(1.0), np.array(2.5), 1)).all()
    assert np.isnan(two_cycle(np.array(0.0), np.array(2.5), 3)).all()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_random_nets_end_on_it_and_their_other_modes_rest(depth):
    own = white(depth, 1.1, runs=3)
    found = predicted(own)
    maps = descended(own, 2500)
    left, _, right = np.linalg.svd(own.optimum, full_matrices=False)
    modes = np.einsum("roi,rtoj,rij->rti", left, maps, right)
    np.testing.assert_allclose(np.sort(modes[..., 0], 1), found.columns["strengths"][:, 0], rtol=1e-8)
    np.testing.assert_allclose(modes[..., 1:], np.broadcast_to(STRENGTHS[1:], (3, 2, 2)), rtol=1e-8)
    losses = ((maps - own.sigma_yx[:, None]) ** 2).sum((-2, -1)) / 4 + 0.01
    order = np.argsort(modes[..., 0], 1)
    expected = np.take_along_axis(losses, order, 1)
    np.testing.assert_allclose(found.columns["losses"], np.stack([expected] * 2, 1), rtol=1e-8)


def test_several_runs_are_each_alone_to_the_last_bit():
    together = white(3, 1.1, runs=3)
    found = predicted(together)
    for r in range(3):
        one = slice(r, r + 1)
        layers = [w[one] for w in together.layers]
        names = ("sigma", "sigma_yx", "target_square", "lr")
        alone = predicted(replace(together, layers=layers, **{n: getattr(together, n)[one] for n in names}))
        for name, column in found.columns.items():
            np.testing.assert_array_equal(alone.columns[name], column[one])


def test_conditions_tell_how_firm_the_cycle_is():
    """Two steps leave almost all of a distance near the edge, and again near the end of stability."""
    multipliers = [predicted(white(2, b)).conditions["multiplier"].item() for b in (1.001, 1.12, 1.235)]
    assert multipliers[0] > 0.98 > 0.1 > multipliers[1]
    assert multipliers[2] > 0.98
    for ratio in (0.3, 0.9):
        found = predicted(white(2, 1.1, strengths=np.array([3.0, 3.0 * ratio, 0.1])))
        np.testing.assert_allclose(found.conditions["second_mode"], 1.1 * ratio)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (white(2, 0.8), r"to be more than 1, and it is 0\.8; use training\.lr above 0\.66"),
        (white(2, 1.3), r"multiplier of the cycle at most 1, and it is 1\.58; use a smaller"),
        (white(3, 1.1, strengths=np.array([3.0, 2.9, 1.0])), r"second mode at most 1, and it is 1\.05"),
        (replace(white(2, 1.1), sampling="epochs", batch_size=4), "full batches; use training.batch_size=null"),
        (replace(white(2, 1.1), sigma=1.01 * np.eye(3)[None]), r"max \|Sigma - I\| .* 0\.01; use data\.whiten=true"),
    ],
    ids=["below", "above", "two modes", "batches", "not white"],
)
def test_outside_its_domain_it_is_refused_with_the_value_and_the_remedy(own, told):
    with pytest.raises(ConfigError, match=told):
        predicted(own)


def test_the_lr_that_a_refusal_names_is_the_edge():
    with pytest.raises(ConfigError) as refused:
        predicted(white(3, 0.8))
    edge = float(str(refused.value).split()[-1])
    assert predicted(white(3, 1, lr=1.001 * edge)).conditions["multiplier"] < 1


def test_runs_end_on_it():
    run = {"max_steps": 1500, "evaluate_at": [1499], "dtype": "float64", "metrics": ["mode_strengths", "midpoint_loss"]}
    run |= {"model": {"num_hidden": 1, "hidden_dim": 6, "in_dim": 3, "out_dim": 3}, "data": {"whiten": True}}
    run["data"]["params"] = {"matrix": "diagonal", "scale": 4.0}
    beyond = 1.1
    lr = beyond * 3 / (2 * 4.0)
    history = dln.run_experiment({**run, "training": {"lr": lr}})
    strengths = np.sort(history["mode_strengths"][-2:, 0])
    np.testing.assert_allclose(strengths, two_cycle(np.array(4.0), np.array(2 * lr / 3), 2), rtol=1e-8)
    assert history["midpoint_loss"][-1] < 0.1 * history["train_loss"][-2:].min()


# --- the catapult


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_catapult_lands_where_it_is_flat(seed):
    """The loss rises at first, and ends at a minimum that the steps are stable at, from where they are not."""
    seeds = [f"training.model_seed={seed}", f"data.data_seed={seed}"]
    run = dln.run_experiment([*seeds, "evaluate_at=[1,2,3,4]"], config_name="catapult")
    loss, beyond = run["train_loss"], 2 * run["sharpness"] / run["edge_of_stability"]  # lr times the sharpness
    assert 2 < beyond[0] < 4
    assert loss[:5].max() > 2 * loss[0]
    assert loss[-1] < 1e-5 * loss[0]
    assert beyond[-1] < 2
    assert run["least_sharpness"][0] < run["sharpness"][-1] < run["sharpness"][0]
    assert run["weight_norm"][-1] < run["weight_norm"][0]
