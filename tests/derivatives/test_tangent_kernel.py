"""The kernel and the Gauss-Newton spectrum against Jacobians by automatic differentiation."""

import numpy as np
import pytest
import torch

from dln.derivatives.hessian import gauss_newton
from dln.derivatives.tangent_kernel import gauss_newton_spectrum, ntk_alignment, ntk_distance, ntk_norm, ntk_spectrum
from tests.small_nets import SHAPES, balanced, case, member

EVERY = [(widths, bias) for widths in SHAPES for bias in (False, True)]


def jacobian(c):
    """Derivatives of all outputs by all parameters [N d_out, P]."""
    model = c.model
    names = [name for name, _ in model.named_parameters()]

    def outputs(*parameters):
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (c.tensors[0],)).flatten()

    parts = torch.autograd.functional.jacobian(outputs, tuple(model.parameters()))
    return torch.cat([part.flatten(1) for part in parts], 1).numpy()


def padded(values, size):
    return np.pad(values, (0, size - len(values)))


@pytest.mark.parametrize("samples", [2, 9])
@pytest.mark.parametrize(("widths", "bias"), EVERY)
def test_spectra_are_those_of_the_jacobian(widths, bias, samples):
    c = case(widths, samples=samples, bias=bias)
    j = jacobian(c)
    sigma = c.moments[0]
    kernel = np.linalg.eigvalsh(j @ j.T)[::-1]
    atol = 1e-13 * kernel[0]
    found = ntk_spectrum(c.layers, sigma, samples)
    np.testing.assert_allclose(padded(found, len(kernel)), kernel, rtol=0, atol=atol)
    full = np.linalg.eigvalsh(2 / j.shape[0] * j.T @ j)[::-1]
    found = gauss_newton_spectrum(c.layers, sigma)
    np.testing.assert_allclose(padded(found, len(full)), full, rtol=0, atol=atol)
    full = np.linalg.eigvalsh(gauss_newton(c.layers, sigma))[::-1]
    np.testing.assert_allclose(padded(found, len(full)), full, rtol=0, atol=atol)
    np.testing.assert_allclose(ntk_norm(c.layers, sigma, samples), np.linalg.norm(j @ j.T), rtol=1e-13)


@pytest.mark.parametrize(("widths", "bias"), EVERY)
def test_distance_and_alignment_are_those_of_gram_matrices(widths, bias):
    a, b = (case(widths, bias=bias, seed=seed) for seed in (0, 1))
    b.inputs = a.inputs
    first, second = (j @ j.T for j in map(jacobian, (a, b)))
    sigma = a.moments[0]
    found = ntk_distance(a.layers, b.layers, sigma, 9)
    np.testing.assert_allclose(found, np.linalg.norm(first - second), rtol=1e-12)
    cosine = (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second)
    np.testing.assert_allclose(ntk_alignment(a.layers, b.layers, sigma), cosine, rtol=1e-13)


def test_a_network_is_at_no_distance_from_itself():
    c = case()
    assert ntk_distance(c.layers, c.layers, c.moments[0], 9) == 0
    np.testing.assert_allclose(ntk_alignment(c.layers, c.layers, c.moments[0]), 1, rtol=1e-15)


def test_distance_keeps_its_digits_between_networks_close_to_each_other():
    """To first order it is proportional to the step; the difference of two norms would drown at 1e-8."""
    c = case()
    rng = np.random.default_rng(1)
    steps = [rng.standard_normal(w.shape) for w in c.layers]
    near, nearer = (
        ntk_distance([w + eps * d for w, d in zip(c.layers, steps, strict=True)], c.layers, c.moments[0], 9)
        for eps in (1e-7, 1e-10)
    )
    np.testing.assert_allclose(near / nearer, 1e3, rtol=1e-4)


def test_kernel_of_a_whitened_balanced_network():
    """Eigenvalues N sum_l s_i^(2(l-1)/L) s_j^(2(L-l)/L); for s = 1 the kernel is N L times the identity."""
    layers = balanced([1.0, 1.0, 1.0], 6, 4)
    np.testing.assert_allclose(ntk_spectrum(layers, np.eye(3), 50), 50 * 4, rtol=1e-13)


@pytest.mark.parametrize("lead", [(2,), (9,), (3, 4)])
def test_a_member_has_the_same_digits_alone_and_in_company(lead):
    stack, other = (case((5, 13, 10, 3), lead=lead, seed=seed) for seed in (0, 1))
    sigma = stack.moments[0]
    together = [
        gauss_newton_spectrum(stack.layers, sigma),
        ntk_norm(stack.layers, sigma, 9),
        ntk_distance(stack.layers, other.layers, sigma, 9),
        ntk_alignment(stack.layers, other.layers, sigma),
    ]
    for r in np.ndindex(*lead):
        c, o = member(stack, r), member(other, r)
        alone = [
            gauss_newton_spectrum(c.layers, sigma[r]),
            ntk_norm(c.layers, sigma[r], 9),
            ntk_distance(c.layers, o.layers, sigma[r], 9),
            ntk_alignment(c.layers, o.layers, sigma[r]),
        ]
        for mine, theirs in zip(alone, together, strict=True):
            np.testing.assert_array_equal(mine, theirs[r])


def test_what_is_not_finite_is_nan():
    stack = case((3, 9, 2), lead=(2,))
    stack.weights[0][1] = 1e200
    found = gauss_newton_spectrum(stack.layers, stack.moments[0])
    assert np.isnan(found).all(1).tolist() == [False, True]
