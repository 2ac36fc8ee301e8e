"""Modes under online noise: against whole nets, the closed form of their noise, and exact moments of a step."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from dln import linear_teacher, train_ensemble
from dln.derivatives.mode_noise import population_mode_noise
from dln.errors import ConfigError
from dln.theory import THEORIES, aligned_modes_gd, diffusion_peak, mode_diffusion, mode_noise_recursion
from tests.theory.descents import assert_alone
from tests.theory.problems import aligned_problem, problem, together

noisy_modes = THEORIES.get("noisy_modes", "theory").function


def online(**how):
    how = {"sampling": "online", "batch_size": 4, "noise_std": np.array([0.3]), "label_noise": np.zeros(1)} | how
    return aligned_problem(**how)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_diffusion_is_the_noise_of_the_whole_net(depth):
    """What gradients of single samples do to singular values, from all layers' gradients."""
    lr, p = 0.07, online(strength=(3.0, 2.0, 1.0), start=(2.5, 0.7, 0.1), depth=depth)
    left, values, right = np.linalg.svd(p.start[0])
    layers = [w[0] for w in p.layers]
    noise = population_mode_noise(layers, p.sigma_yx[0], 0.3, None, left, right).noise
    found = mode_diffusion(np.array([3.0, 2.0, 1.0]), values, depth, 2 * lr / 3, 4, 0.3)
    np.testing.assert_allclose(found, lr**2 * noise / 4, rtol=1e-11)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_diffusion_peaks_where_it_is_said_to(depth):
    """Of the mode, and of a layer's singular value, whose noise is dw/da times that of the mode."""
    for of, slope in (("mode", 0.0), ("weight", 1 / depth - 1)):
        power = {"method": "bounded", "bounds": (0, 1), "options": {"xatol": 1e-9}}
        found = minimize_scalar(lambda a, p=slope: -mode_diffusion(1.0, a, depth, 1.0, 1) * a ** (2 * p), **power).x
        np.testing.assert_allclose(found, diffusion_peak(depth, of), atol=1e-6)


def test_one_step_has_the_moments_of_sgd():
    """Mean and variance of a layer's singular value after a step, within 4 standard errors of 40,000 draws."""
    s, a, rate, noise, members = np.array([3.0, 1.0]), np.array([0.5, 2.0]), 0.1, 0.8, 40_000
    found = mode_noise_recursion(s, a, 1, rate, [0, 1], 3, noise, members, np.random.default_rng(1))
    np.testing.assert_allclose(found.mean[0], a, rtol=1e-14)
    variance = mode_diffusion(s, a, 1, rate, 3, noise)
    assert (np.abs(found.mean[1] - (a + rate * (s - a))) < 4 * np.sqrt(variance / members)).all()
    np.testing.assert_allclose(found.std[1] ** 2, variance, rtol=4 * np.sqrt(4 / members))


def test_a_net_with_one_mode_has_this_very_law():
    """Two weights, one input: mean and spread of 20,000 runs of SGD in numpy, to 4 standard errors, at a large rate."""
    members, batch, rate, noise = 20_000, 2, 0.1, 0.5
    rng = np.random.default_rng(3)
    w1 = w2 = np.full(members, 0.5)
    for _ in range(25):
        x = rng.standard_normal((batch, members))
        error = w2 * w1 * x - 2.0 * x + noise * rng.standard_normal((batch, members))
        pull = rate * (error * x).mean(0)
        w1, w2 = w1 - pull * w2, w2 - pull * w1
    found = mode_noise_recursion(
        np.array([2.0]), np.array([0.25]), 2, rate, [25], batch, noise, members, np.random.default_rng(4)
    )
    a = w1 * w2
    assert abs(found.mean[0, 0] - a.mean()) < 4 * a.std() * np.sqrt(2 / members)
    fourth = ((a - a.mean()) ** 4).mean() / a.var() ** 2  # of the spread's own error
    assert abs(found.std[0, 0] / a.std() - 1) < 4 * np.sqrt((fourth - 1) / 4 * 2 / members)


def test_without_noise_left_it_is_gradient_descent():
    """Of endless batches."""
    p, steps = online(batch_size=10**12, noise_std=np.zeros(1), lr=0.05), np.array([0, 5, 60])
    found = noisy_modes(p, steps, members=2).columns
    exact = aligned_modes_gd([3.0, 2.0, 1.0], [0.1, 0.2, 0.3], 3, p.rate[0], steps).T
    np.testing.assert_allclose(found["mode_strengths"][0], exact, rtol=1e-4)
    assert (found["mode_strengths_std"] < 1e-4).all()


def test_modes_that_are_not_there_to_learn_have_no_numbers():
    """As in the run's own column."""
    found = noisy_modes(online(strength=(3.0, 0.0, 0.0)), np.array([0, 3]), members=5).columns
    for values in found.values():
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to([False, True, True], values.shape))


def test_runs_are_predicted_together_as_alone():
    """By their own draws."""
    runs = [online(seed=seed, noise_std=np.array([0.1 * seed])) for seed in range(3)]
    assert_alone(noisy_modes, together(*runs), np.array([0, 2, 9]), members=7)


def test_other_samplings_inputs_and_starts_are_refused():
    """With what there is, and what is asked for."""
    for other in (aligned_problem(), aligned_problem(sampling="epochs", batch_size=4)):
        with pytest.raises(ConfigError, match=rf"batches are {other.sampling}; use data.online=true"):
            noisy_modes(other, np.arange(2))
    with pytest.raises(ConfigError, match=r"other inputs; use .*gaussian"):
        noisy_modes(online(normal=np.array([False])), np.arange(2))
    with pytest.raises(ConfigError, match="alignment gap"):
        noisy_modes(problem(sampling="online", batch_size=4), np.arange(2))


STRENGTH, START, NOISE, BATCH = (4.0, 2.0, 1.0), 0.2, 0.2, 2


def runs_of_sgd(lr, steps, members=3000):
    """Mode strengths [members, T, k] of whole nets of three layers, in numpy, at steps from 0 on."""
    rng, layers = np.random.default_rng(5), [np.tile(np.diag(np.full(3, START ** (1 / 3))), (members, 1, 1))] * 3
    found = []
    for step in range(steps[-1] + 1):
        w1, w2, w3 = layers
        if step in steps:
            found.append((w3 @ w2 @ w1).diagonal(axis1=1, axis2=2))
        x = rng.standard_normal((members, 3, BATCH))
        error = w3 @ (w2 @ (w1 @ x)) - np.diag(STRENGTH) @ x + NOISE * rng.standard_normal(x.shape)
        slope = 2 / 3 / BATCH * (error @ x.mT)
        slopes = (w3 @ w2).mT @ slope, w3.mT @ slope @ w1.mT, slope @ (w2 @ w1).mT
        layers = [w - lr * g for w, g in zip(layers, slopes, strict=True)]
    return np.stack(found, 1)


def of_small_modes(lr, runs, steps):
    """Shares by which theory is off in means and spreads of two small modes, late, and what it tells of itself."""
    how = {"noise_std": np.array([NOISE]), "batch_size": BATCH, "width": 3, "lr": lr}
    found = noisy_modes(online(strength=STRENGTH, start=(START,) * 3, **how), steps, members=10_000)
    off = [
        np.abs(measured / found.columns[name][0] - 1)[-3:, 1:].max()
        for name, measured in (("mode_strengths", runs.mean(0)), ("mode_strengths_std", runs.std(0)))
    ]
    return *off, found.conditions["lr_sharpness_per_sample"].item()


def test_whole_nets_come_to_it_as_lr_falls():
    """Means of small modes are off by a quarter of what is told, and half of it at half the rate."""
    means = []
    for lr in (0.04, 0.02):
        steps = np.round(np.linspace(0, 1.5, 7) / lr).astype(int)
        mean, std, told = of_small_modes(lr, runs_of_sgd(lr, steps), steps)
        assert 0.15 * told < mean < 0.35 * told
        assert std < 1.5 * told
        means.append(mean)
    assert 1.5 < means[0] / means[1] < 2.7


@pytest.mark.long
def test_whole_nets_on_the_compiled_engine_come_to_it_as_lr_falls():
    """At rates at which means are within 2 % and 1 %, 3,000 members."""
    for lr, most in ((0.01, 0.02), (0.005, 0.01)):
        steps = np.round(np.linspace(0, 1.5, 7) / lr).astype(int)
        data = linear_teacher(
            3, 3, {"matrix": "diagonal", "scale": 1.0, "spectrum": list(STRENGTH)}, online=True, noise_std=NOISE
        )
        ensemble = train_ensemble(
            [np.tile(np.diag(np.full(3, START ** (1 / 3))), (3000, 1, 1))] * 3,
            data,
            lr=lr,
            batch_size=BATCH,
            batch_seeds=range(3000),
            max_steps=int(steps[-1]),
            evaluate_at=steps.tolist(),
            metrics=["mode_strengths"],
        )
        mean, std, told = of_small_modes(lr, ensemble.curves()["mode_strengths"], steps)
        assert mean < most
        assert mean < 0.35 * told
        assert std < 1.5 * told
