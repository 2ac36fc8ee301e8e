"""Gradient noise against gradients sample by sample, batches enumerated and drawn, and populations sampled."""

import itertools

import numpy as np
import pytest
import torch

from dln.batches import OfflineBatches
from dln.derivatives.gradient_noise import (
    batch_factor,
    hessian_label_noise,
    hessian_noise_trace,
    label_noise_traces,
    population_noise,
    sample_noise,
)
from dln.derivatives.hessian import hessian_autograd
from dln.derivatives.products import with_biases
from tests.small_nets import SHAPES, Case, case, member

EVERY = [(widths, bias) for widths in SHAPES for bias in (False, True)]


def sample_gradients(c):
    """[N, P] by autograd."""
    return np.stack([c.flat_gradient([n]) for n in range(len(c.inputs))])


def by_layer(c, vector):
    ends = np.cumsum([w.size for w in c.layers])[:-1]
    return np.array([part.sum() for part in np.split(vector, ends)])


@pytest.mark.parametrize(("widths", "bias"), EVERY)
def test_noise_is_the_covariance_of_samples_gradients(widths, bias):
    c = case(widths, bias=bias)
    gradients = sample_gradients(c)
    found = sample_noise(c.layers, c.inputs, c.targets)
    np.testing.assert_allclose(found.noise, by_layer(c, gradients.var(0)), rtol=1e-12)
    np.testing.assert_allclose(found.signal, by_layer(c, gradients.mean(0) ** 2), rtol=1e-12)
    np.testing.assert_allclose(found.trace(), gradients.var(0).sum(), rtol=1e-12)
    np.testing.assert_allclose(found.snr(), (gradients.mean(0) ** 2).sum() / gradients.var(0).sum(), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_all_batches_of_a_size_have_the_covariance_of_its_factor(size):
    c = case((3, 5, 2), samples=6)
    subsets = itertools.combinations(range(6), size)
    tuples = itertools.product(range(6), repeat=min(size, 3))
    found = sample_noise(c.layers, c.inputs, c.targets)
    gradients = sample_gradients(c)
    for batches, factor in (
        (subsets, batch_factor(size, 6)),
        (tuples, batch_factor(min(size, 3), 6, replacement=True)),
    ):
        means = np.array([gradients[list(batch)].mean(0) for batch in batches])
        np.testing.assert_allclose(found.trace(factor), means.var(0).sum(), rtol=1e-12, atol=1e-14)


def test_batches_that_dln_draws_have_the_covariance_of_their_own_size():
    """Seven samples in threes: an epoch is two batches of three and one of one. 3,000 epochs: 2 or 3 percent."""
    c = case((3, 4, 2), samples=7)
    gradients = torch.from_numpy(sample_gradients(c))
    batches = OfflineBatches(gradients, gradients, 3, batch_seed=0)
    sums = {3: [], 1: []}
    for _ in range(3 * 3000):
        batch, _ = batches.draw()
        sums[len(batch)].append(batch.mean(0).numpy())
    found = sample_noise(c.layers, c.inputs, c.targets)
    for size, means in sums.items():
        assert len(means) == {3: 6000, 1: 3000}[size]
        np.testing.assert_allclose(np.var(means, 0).sum(), found.trace(batch_factor(size, 7)), rtol=0.05)


def test_a_full_batch_has_no_noise_and_a_zero_gradient_no_ratio():
    c = case()
    found = sample_noise(c.layers, c.inputs, c.targets)
    assert found.trace(batch_factor(9, 9)) == 0
    assert found.snr(batch_factor(9, 9)) == np.inf
    fitted = sample_noise(c.layers, c.inputs, c.inputs @ (c.weights[2] @ c.weights[1] @ c.weights[0]).T)
    assert fitted.trace() < 1e-28
    nothing = sample_noise([np.zeros((2, 3)), np.zeros((2, 2))], np.ones((4, 3)), np.ones((4, 2)))
    assert np.isnan(nothing.snr())


@pytest.mark.sampled
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [(2, 3), (3, 5, 2), (2, 4, 5, 3)])
def test_population_noise_is_exact_by_quadrature(widths, bias):
    """Gauss-Hermite points integrate fourth moments of Gaussians exactly: three points a dimension suffice."""
    rng = np.random.default_rng(3)
    c = case(widths, bias=bias)
    teacher, root = rng.standard_normal((widths[-1], widths[0])), rng.standard_normal((widths[0], widths[0]))
    points, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    dimension = widths[0] + widths[-1]
    grid = np.array(list(itertools.product(points, repeat=dimension)))
    mass = np.prod(list(itertools.product(weights, repeat=dimension)), 1)
    inputs, label = grid[:, : widths[0]] @ root.T, 0.7 * grid[:, widths[0] :]
    targets = inputs @ teacher.T + label
    mean, square = 0.0, 0.0
    c = Case(c.weights, c.biases, inputs, targets)
    for gradient, share in zip(sample_gradients(c), mass, strict=True):
        mean, square = mean + share * gradient, square + share * gradient**2
    found = population_noise(c.layers, teacher, 0.7, root @ root.T)
    np.testing.assert_allclose(found.signal, by_layer(c, mean**2), rtol=1e-11)
    np.testing.assert_allclose(found.noise, by_layer(c, square - mean**2), rtol=1e-11)


def test_population_noise_is_what_many_samples_have():
    c = case((3, 5, 2))
    rng = np.random.default_rng(4)
    teacher = rng.standard_normal((2, 3))
    x = rng.standard_normal((400_000, 3))
    y = x @ teacher.T + 0.5 * rng.standard_normal((400_000, 2))
    many, all_of_them = sample_noise(c.layers, x, y), population_noise(c.layers, teacher, 0.5)
    np.testing.assert_allclose(many.noise, all_of_them.noise, rtol=0.02)
    np.testing.assert_allclose(many.signal, all_of_them.signal, rtol=0.02)


@pytest.mark.parametrize(("widths", "bias"), EVERY)
def test_hessian_noise_trace_is_that_of_the_matrices(widths, bias):
    c = case(widths, bias=bias)
    matrix = hessian_autograd(c.model, torch.nn.MSELoss(), *c.tensors).numpy()
    covariance = np.cov(sample_gradients(c).T, bias=True)
    found = hessian_noise_trace(c.layers, c.inputs, c.targets)
    scale = np.linalg.norm(matrix) * np.linalg.norm(covariance)
    np.testing.assert_allclose(found, np.trace(matrix @ covariance), rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [(3, 2), (2, 4, 3), (2, 3, 4, 2)])
def test_noise_on_targets_adds_to_the_covariance_by_enumeration_of_batches_and_signs(widths, bias):
    """Signs +-s have the second moments of N(0, s^2): batches of two are drawn with replacement."""
    c, std = case(widths, samples=3, bias=bias), 0.7
    signs = [*itertools.product((-std, std), repeat=widths[-1])]
    one = {}  # gradients of samples with each noise
    for n, (k, shift) in itertools.product(range(3), enumerate(signs)):
        one[n, k] = Case(c.weights, c.biases, c.inputs, c.targets + np.array(shift)).flat_gradient([n])
    batches = np.array([(a + b) / 2 for a, b in itertools.product(one.values(), repeat=2)])
    share = batch_factor(2, 3, replacement=True)
    shaken = std**2 / 2 * label_noise_traces(c.layers, c.moments[0])
    still = share * sample_noise(c.layers, c.inputs, c.targets).noise
    np.testing.assert_allclose(still + shaken, by_layer(c, batches.var(0)), rtol=1e-11)
    matrix, covariance = hessian_autograd(c.model, torch.nn.MSELoss(), *c.tensors).numpy(), np.cov(batches.T, bias=True)
    found = share * hessian_noise_trace(c.layers, c.inputs, c.targets)
    found += std**2 / 2 * hessian_label_noise(c.layers, c.inputs, c.targets)
    np.testing.assert_allclose(found, np.trace(matrix @ covariance), rtol=1e-11)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(2,), (9,), (3, 4)])
def test_a_member_has_the_same_digits_alone_and_in_company(lead, bias):
    stack = case((5, 13, 10, 3), samples=21, bias=bias, lead=lead)
    teacher = np.random.default_rng(0).standard_normal((*lead, 3, 5))
    together = sample_noise(stack.layers, stack.inputs, stack.targets)
    traces = hessian_noise_trace(stack.layers, stack.inputs, stack.targets)
    fresh = population_noise(stack.layers, teacher, 0.3)
    for r in np.ndindex(*lead):
        c = member(stack, r)
        alone = sample_noise(c.layers, c.inputs, c.targets)
        for mine, theirs in ((alone, together), (population_noise(c.layers, teacher[r], 0.3), fresh)):
            np.testing.assert_array_equal(mine.noise, theirs.noise[r])
            np.testing.assert_array_equal(mine.signal, theirs.signal[r])
            np.testing.assert_array_equal(mine.trace(0.1), theirs.trace(0.1)[r])
        np.testing.assert_array_equal(hessian_noise_trace(c.layers, c.inputs, c.targets), traces[r])


def test_members_share_a_training_set():
    stack = case((4, 6, 3), lead=(3,))
    x, y = stack.inputs[0], stack.targets[0]
    found = sample_noise(stack.layers, x, y)
    assert found.trace().shape == (3,)
    layers = with_biases([w[2] for w in stack.weights], [])
    np.testing.assert_array_equal(found.noise[2], sample_noise(layers, x, y).noise)


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("seed", range(4))
def test_samples_that_pull_alike_make_no_noise_in_curvature(samples, seed):
    """Not even that of rounding, which has either sign."""
    c = case(samples=1, seed=seed)
    inputs, targets = (np.repeat(a, samples, 0) for a in (c.inputs, c.targets))
    value = hessian_noise_trace(c.layers, inputs, targets)
    assert value == 0
    assert not np.signbit(value)
