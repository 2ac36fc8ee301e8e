"""The Hessian against automatic differentiation, finite differences and curvlinops; its spectrum against theory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dln.derivatives import hessian as module
from dln.derivatives.hessian import (
    gauss_newton,
    hessian,
    hessian_autograd,
    hessian_spectrum,
    hessian_trace,
    hessian_vector_product,
    saddle_index,
    top_eigenvalues,
)
from dln.derivatives.hessian_range import Factored, Thin, thin_size, to_vector
from dln.derivatives.products import Chain
from dln.model import product
from tests.small_nets import SHAPES, balanced, case, member

EVERY = [(widths, bias) for widths in SHAPES for bias in (False, True)]
MSE = torch.nn.MSELoss()


def near(actual, expected, rtol=1e-13):
    """Equal but for a share of the largest number."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize(("widths", "bias"), EVERY)
def test_hessian_is_that_of_autograd(widths, bias):
    c = case(widths, bias=bias)
    expected = hessian_autograd(c.model, MSE, *c.tensors).numpy()
    found = hessian(c.layers, *c.moments)
    near(found, expected)
    np.testing.assert_array_equal(found, found.T)
    near(hessian_spectrum(c.layers, *c.moments), np.linalg.eigvalsh(expected)[::-1])
    near(hessian_trace(c.layers, c.moments[0]), np.trace(expected))


@pytest.mark.parametrize(("widths", "bias"), EVERY)
def test_hessian_is_the_slope_of_the_gradient(widths, bias):
    """Central differences of autograd's gradient; exact for depth 1, whose gradient is linear."""
    c, eps = case(widths, bias=bias), 1e-5
    rng = np.random.default_rng(1)
    steps = [rng.standard_normal(w.shape) for w in (*c.weights, *c.biases)]
    sides = []
    for sign in (1, -1):
        moved = case(widths, bias=bias)
        for parameter, step in zip((*moved.weights, *moved.biases), steps, strict=True):
            parameter += sign * eps * step
        sides.append(moved.flat_gradient())
    depth = len(c.weights)
    directions = steps[:depth]
    if bias:
        pairs = zip(directions, steps[depth:], strict=True)
        directions = [np.concatenate([v, b[:, None]], -1) for v, b in pairs]
    slope = (sides[0] - sides[1]) / (2 * eps)
    near(to_vector(hessian_vector_product(c.layers, *c.moments, directions)), slope, 1e-8)
    near(hessian(c.layers, *c.moments) @ to_vector(directions), slope, 1e-8)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.booleans(), st.integers(0, 99))
@settings(max_examples=40)
def test_products_traces_and_spectra_are_those_of_the_matrix(widths, bias, seed):
    c = case(tuple(widths), bias=bias, seed=seed)
    matrix = hessian(c.layers, *c.moments)
    rng = np.random.default_rng(seed)
    directions = [rng.standard_normal((4, *w.shape)) for w in c.layers]  # four at once
    found = to_vector(hessian_vector_product(c.layers, *c.moments, directions))
    near(found, to_vector(directions) @ matrix)
    near(hessian_trace(c.layers, c.moments[0]), np.trace(matrix), 1e-12)
    near(hessian_spectrum(c.layers, *c.moments), np.linalg.eigvalsh(matrix)[::-1], 1e-12)


def test_gauss_newton_is_the_hessian_without_residuals_and_positive():
    c = case()
    outputs = c.inputs @ product(c.weights).T
    fitted = hessian(c.layers, c.moments[0], outputs.T @ c.inputs / len(c.inputs))
    near(gauss_newton(c.layers, c.moments[0]), fitted)
    assert np.linalg.eigvalsh(fitted).min() > -1e-13
    assert np.linalg.eigvalsh(hessian(c.layers, *c.moments)).min() < -0.01


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it compiles with what torch deprecates
def test_hessian_and_gauss_newton_are_those_of_curvlinops():
    from curvlinops import GGNLinearOperator, HessianLinearOperator

    c = case()
    places = to_vector([np.arange(w.size).reshape(w.shape) + 1000 * i for i, w in enumerate(c.weights)])
    theirs_in_ours = np.ix_(np.argsort(places), np.argsort(places))  # it orders parameters row by row
    identity = torch.eye(len(places), dtype=torch.float64)
    model = c.model
    args = (model, MSE, list(model.parameters()), [c.tensors])
    for operator, ours in (
        (HessianLinearOperator, hessian(c.layers, *c.moments)),
        (GGNLinearOperator, gauss_newton(c.layers, c.moments[0])),
    ):
        near(ours[theirs_in_ours], (operator(*args) @ identity).detach().numpy())


def test_autograd_takes_any_criterion_and_leaves_the_model_alone():
    """Of one linear layer, the Hessian of a cross-entropy is mean_n (diag(p) - p p') kron x x'."""
    c = case((3, 4), samples=6)
    model = c.model.float()
    before = [p.clone() for p in model.parameters()]
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    found = hessian_autograd(model, torch.nn.CrossEntropyLoss(), c.tensors[0].float(), labels).numpy()
    x = c.inputs.astype(np.float32).astype(float)
    scores = np.exp(x @ c.weights[0].astype(np.float32).astype(float).T)
    p = scores / scores.sum(1, keepdims=True)
    blocks = [np.kron(np.outer(a, a), np.diag(b) - np.outer(b, b)) for a, b in zip(x, p, strict=True)]
    near(found, np.mean(blocks, 0))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert found.dtype == np.float64


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_spectrum_at_a_balanced_minimum_of_whitened_data(depth):
    """theory.md item 8: (2 / d_out) sum_l s_i^(2(l-1)/L) s_j^(2(L-l)/L), and zeros."""
    s = np.array([3.0, 1.5, 0.4])
    layers = balanced(s, 7, depth)
    expected = [
        2 / 3 * sum(a ** (2 * below / depth) * b ** (2 * (depth - 1 - below) / depth) for below in range(depth))
        for a in s
        for b in s
    ]
    found = hessian_spectrum(layers, np.eye(3), product(layers))
    size = sum(w.size for w in layers)
    near(found, np.sort(np.concatenate([expected, np.zeros(size - 9)]))[::-1])
    sharpness = 2 * depth / 3 * 3.0 ** (2 - 2 / depth)
    np.testing.assert_allclose(top_eigenvalues(layers, np.eye(3), product(layers))[0], sharpness, rtol=1e-13)


def test_no_minimum_is_flatter_than_the_balanced_one():
    layers = balanced([3.0, 1.5, 0.4], 7, 3)
    stretched = [2 * layers[0], layers[1], layers[2] / 2]
    target = product(layers)
    flat, sharp = (top_eigenvalues(w, np.eye(3), target)[0] for w in (layers, stretched))
    assert sharp > flat * 1.01


def test_rotations_of_hidden_units_change_no_eigenvalue():
    c = case((4, 7, 6, 2))
    rng = np.random.default_rng(2)
    q, r = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (7, 6))
    rotated = [q @ c.weights[0], r @ c.weights[1] @ q.T, c.weights[2] @ r.T]
    near(hessian_spectrum(rotated, *c.moments), hessian_spectrum(c.layers, *c.moments))


def test_saddle_index_at_the_origin_of_two_layers():
    """H = [[0, G' kron I], ...] there: +-s_i(G), each as often as there are hidden units."""
    layers = [np.zeros((6, 4)), np.zeros((3, 6))]
    c = case((4, 6, 3))
    spectrum = hessian_spectrum(layers, *c.moments)
    s = np.linalg.svd(2 / 3 * c.moments[1], compute_uv=False)
    near(spectrum, np.sort(np.concatenate([np.repeat(s, 6), np.repeat(-s, 6), np.zeros(42 - 36)]))[::-1])
    assert saddle_index(spectrum) == 18
    assert saddle_index(spectrum, tolerance=2.0) == 0
    assert saddle_index(np.zeros(5)) == 0


def test_a_minimum_has_no_negative_eigenvalue():
    layers = balanced([3.0, 1.5, 0.4], 7, 3)
    assert saddle_index(hessian_spectrum(layers, np.eye(3), product(layers))) == 0


@pytest.mark.sampled
@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_top_eigenvalues_without_the_matrix_are_those_of_it(monkeypatch, smallest, bias):
    stack = case((3, 30, 25, 4), bias=bias, lead=(3,))
    spectrum = hessian_spectrum(stack.layers, *stack.moments)
    expected = (spectrum[..., ::-1] if smallest else spectrum)[..., :6]
    monkeypatch.setattr(module, "DENSE", 0)
    found = top_eigenvalues(stack.layers, *stack.moments, 6, smallest=smallest)
    near(found, expected, 1e-12)
    one = member(stack, 1)
    np.testing.assert_array_equal(top_eigenvalues(one.layers, *one.moments, 6, smallest=smallest), found[1])


@pytest.mark.sampled
@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [(3, 30, 25, 4), (4, 30, 25, 2), (2, 5, 40, 40, 3)])
def test_one_eigenvalue_of_many_networks_is_that_of_the_matrix(widths, bias, smallest):
    stack = case(widths, bias=bias, lead=(2, 3))
    spectrum = hessian_spectrum(stack.layers, *stack.moments)
    found = top_eigenvalues(stack.layers, *stack.moments, smallest=smallest)
    near(found[..., 0], spectrum[..., -1 if smallest else 0], 1e-12)
    one = member(stack, (1, 2))
    np.testing.assert_array_equal(top_eigenvalues(one.layers, *one.moments, smallest=smallest), found[1, 2])


def test_thin_vectors_hold_all_that_a_hessian_moves():
    """Spreading is the transpose of gathering, keeps inner products, and loses nothing of H v."""
    c = case((4, 30, 25, 3), bias=True)
    chain, rng = Chain(c.layers), np.random.default_rng(1)
    thin = Thin(chain, chain.error(*c.moments))
    x, y = (thin.gather([Factored(np.eye(len(w)), rng.standard_normal(w.shape)) for w in c.layers]) for _ in range(2))
    assert len(x) == thin_size([w.shape for w in c.layers]) < sum(w.size for w in c.layers) / 2
    spread = [[v if isinstance(v, np.ndarray) else v.formed() for v in thin.spread(z)] for z in (x, y)]
    near(sum((a * b).sum() for a, b in zip(*spread, strict=True)), x @ y, 1e-12)
    bent = hessian_vector_product(c.layers, *c.moments, spread[0])
    kept = thin.spread(thin.gather([Factored(np.eye(len(v)), v) for v in bent]))
    for there, back in zip(bent, kept, strict=True):
        near(back if isinstance(back, np.ndarray) else back.formed(), there, 1e-12)


def test_top_eigenvalues_come_with_their_multiplicity(monkeypatch):
    """An identity teacher, whitened and balanced: nine equal eigenvalues, and nothing below zero."""
    monkeypatch.setattr(module, "DENSE", 0)
    layers = balanced([2.0, 2.0, 2.0], 30, 3)
    value = 2 / 3 * 3 * 2 ** (4 / 3)
    near(top_eigenvalues(layers, np.eye(3), product(layers), 11), [value] * 9 + [0, 0])
    np.testing.assert_allclose(top_eigenvalues(layers, np.eye(3), product(layers), 3, smallest=True), 0, atol=1e-12)


def test_more_eigenvalues_than_parameters_are_all_of_them():
    c = case((2, 3))
    assert top_eigenvalues(c.layers, *c.moments, 10).shape == (6,)


STACKED = [
    lambda c: hessian(c.layers, *c.moments),
    lambda c: gauss_newton(c.layers, c.moments[0]),
    lambda c: hessian_spectrum(c.layers, *c.moments),
    lambda c: hessian_trace(c.layers, c.moments[0]),
    lambda c: to_vector(hessian_vector_product(c.layers, *c.moments, c.layers)),
]


@pytest.mark.sampled
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(2,), (7,), (3, 5), (64,)])
@pytest.mark.parametrize("f", range(len(STACKED)))
def test_a_member_has_the_same_digits_alone_and_in_company(f, lead, bias):
    stack = case((5, 13, 10, 3), samples=17, bias=bias, lead=lead)
    together = STACKED[f](stack)
    for r in np.ndindex(*lead):
        np.testing.assert_array_equal(STACKED[f](member(stack, r)), together[r])


def test_members_share_data_and_come_as_tensors_of_single_precision():
    stack = case((4, 6, 3), lead=(3,))
    weights = [torch.tensor(w, dtype=torch.float32, requires_grad=True) for w in stack.weights]
    shared = member(stack, 0).moments
    found = hessian_spectrum(weights, *shared)
    assert found.dtype == np.float64
    for r in range(3):
        alone = [w[r].astype(np.float32).astype(float) for w in stack.weights]
        np.testing.assert_array_equal(found[r], hessian_spectrum(alone, *shared))


def test_what_is_not_finite_is_nan_and_spoils_nobody_else(monkeypatch):
    stack = case((3, 9, 8, 2), lead=(3,))
    stack.weights[1][1] = 1e200
    for dense in (600, 0):
        monkeypatch.setattr(module, "DENSE", dense)
        monkeypatch.setattr(module, "FEW", dense)
        for count in (1, 2):
            found = top_eigenvalues(stack.layers, *stack.moments, count)
            assert np.isnan(found).all(1).tolist() == [False, True, False]
    spectrum = hessian_spectrum(stack.layers, *stack.moments)
    assert np.isnan(spectrum).all(1).tolist() == [False, True, False]
    assert np.isnan(saddle_index(spectrum)).tolist() == [False, True, False]


def test_layers_that_do_not_chain_are_refused():
    with pytest.raises(ValueError, match="do not chain"):
        hessian([np.ones((3, 2)), np.ones((2, 5))], np.eye(2), np.ones((2, 2)))
