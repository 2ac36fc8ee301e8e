"""The stochastic differential equation: its noise exactly, its limits, and ensembles of SGD."""

from dataclasses import replace

import numpy as np
import pytest

from dln.theory.sde import noisy_errors, sde
from dln.theory.sgd_noise import batch_covariance
from tests.theory.problems import problem


def units(shape):
    """Each number of a shape in turn 1, and the others 0."""
    return np.eye(int(np.prod(shape))).reshape(-1, *shape)


def covariance(run, substeps):
    """Covariance of a substep's G, from its derivatives with respect to every draw: it is linear in them."""
    outputs, inputs = run.dims
    first = units((inputs, inputs) if run.sampling == "online" else (run.samples,))
    second = units((outputs, inputs))
    of_batch = [first, np.zeros((len(first), *second.shape[1:]))]
    of_targets = [np.zeros((len(second), *first.shape[1:])), second]
    still = [np.zeros((1, *part.shape[1:])) for part in of_batch]
    mean = noisy_errors(run, run.start, 2, substeps, still)
    columns = np.concatenate([noisy_errors(run, run.start, 2, substeps, z) - mean for z in (of_batch, of_targets)])
    flat = columns.reshape(len(columns), -1)
    return mean[0], flat.T @ flat


@pytest.mark.parametrize("sampling", ["replacement", "epochs", "online"])
@pytest.mark.parametrize("substeps", [1, 8])
def test_its_noise_is_that_of_batches(sampling, substeps):
    run = problem((3, 4, 2), samples=6, batch_size=2, sampling=sampling)
    run = replace(run, label_noise=np.array([0.3]))
    mean, found = covariance(run, substeps)
    np.testing.assert_allclose(mean, (run.start @ run.sigma - run.sigma_yx)[0], rtol=1e-12)  # 2 / d_out is 1
    expected = batch_covariance(run, run.start[0], 2)
    if sampling == "epochs":  # of one batch: all subsets of two in six
        e, n = run.inputs[0] @ run.start[0].T - run.targets[0], 6
        pairs = [(i, j) for i in range(n) for j in range(i)]
        means = np.array([e[[i, j]].T @ run.inputs[0][[i, j]] / 2 for i, j in pairs]).reshape(-1, 6)
        expected = expected + np.cov(means.T, bias=True)
    np.testing.assert_allclose(found, expected * substeps, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("substeps", [1, 4])
def test_without_noise_it_is_gradient_descent_in_smaller_steps(substeps):
    run = problem((3, 4, 2), lr=0.04)
    found = sde(run, np.array([0, 5]), substeps, 2)
    weights = [w[0] for w in run.layers]
    for _ in range(5 * substeps):
        g = (weights[1] @ weights[0] @ run.inputs[0].T - run.targets[0].T) @ run.inputs[0] / 12
        rate = 0.04 / substeps
        weights = [weights[0] - rate * weights[1].T @ g, weights[1] - rate * g @ weights[0].T]
    np.testing.assert_allclose(found.maps[0, 1], weights[1] @ weights[0], rtol=1e-12)
    np.testing.assert_allclose(found.columns["train_loss_std"], 0, atol=1e-14)


@pytest.mark.parametrize("sampling", ["replacement", "epochs", "online"])
def test_a_run_has_the_same_digits_among_others_and_at_other_records(sampling):
    runs = problem((3, 4, 2), samples=6, lr=0.02, batch_size=2, sampling=sampling, runs=3)
    together = sde(runs, np.array([0, 3, 9]), 2, 5)
    for r in range(3):
        alone = sde(runs.of(r), np.array([9]), 2, 5)
        assert alone.maps[0, 0].tobytes() == together.maps[r, 2].tobytes()
        assert all(alone.columns[name][0, 0] == together.columns[name][r, 2] for name in together.columns)
    assert len({m.tobytes() for m in together.maps[:, 2]}) == 3


def test_draws_that_run_away_are_counted_and_the_others_told_of():
    run = problem((2, 4, 2), samples=6, lr=0.4, batch_size=1, sampling="replacement")
    found = sde(run, np.arange(0, 61, 20), 1, 200)
    share = found.columns["diverged"][0]
    assert share[0] == 0
    assert 0 < share[-1] < 0.5
    assert np.isfinite(found.columns["train_loss_median"]).all()
    assert np.isfinite(found.columns["train_loss"]).all()
    assert found.conditions["diverged"][0] == share[-1]


def test_what_its_conditions_tell():
    of = {"widths": (2, 3, 2), "samples": 6}
    good = sde(problem(lr=0.01, batch_size=4, sampling="replacement", **of), np.array([0, 30]), 1, 400).conditions
    poor = sde(problem(lr=0.1, batch_size=1, sampling="epochs", **of), np.array([0, 30]), 1, 10).conditions
    for name in ("standard_error", "lr_sharpness_per_sample", "in_epochs"):
        assert good[name][0] < 0.03
        assert poor[name][0] > 0.1
