"""Distributions of inputs: their covariance, and that a sample is the same however many are drawn at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dln.base.streams import stream
from dln.data import linear_teacher
from dln.errors import ConfigError, ExtensionError
from dln.ingredients.inputs import INPUTS, make_inputs, register_inputs

INPUTS_OF_FOUR = {
    "gaussian": {},
    "power_law": {"alpha": 1.5, "rotate": True},
    "spectrum": {"values": [4.0, 1.0, 0.5, 0.25]},
    "sphere": {},
}
"""Every distribution with parameters that fit four inputs."""

EIGENVALUES = {
    "gaussian": np.ones(4),
    "power_law": np.arange(1, 5) ** -1.5 * 4 / sum(i**-1.5 for i in range(1, 5)),
    "spectrum": np.array([4, 1, 0.5, 0.25]),
    "sphere": np.ones(4),
}


def draw(name, samples, seed=0, data_seed=0, in_dim=4, d_active=None, **params):
    inputs = make_inputs(in_dim, name, params or INPUTS_OF_FOUR[name], d_active, data_seed)
    return inputs.draw(samples, stream(seed, "test"))


def assert_covariance(x, covariance):
    """Within five standard errors of a Gaussian's, sqrt((c_ii c_jj + c_ij^2) / N)."""
    diagonal = np.diag(covariance)
    errors = np.sqrt((np.outer(diagonal, diagonal) + covariance**2) / len(x))
    assert (np.abs(x.T @ x / len(x) - covariance) <= 5 * errors).all()
    assert (np.abs(x.mean(0)) <= 5 * np.sqrt(diagonal / len(x))).all()


def test_every_registered_distribution_is_among_the_examples():
    assert {e.name for e in INPUTS if e.function.__module__.startswith("dln.")} == set(INPUTS_OF_FOUR)


@pytest.mark.parametrize("samples", [400, 100_000])
@pytest.mark.parametrize("name", INPUTS_OF_FOUR)
def test_the_covariance_is_approached_at_the_statistical_rate(name, samples):
    params = {**INPUTS_OF_FOUR[name], **({"rotate": False} if "rotate" in INPUTS_OF_FOUR[name] else {})}
    x = draw(name, samples, **params)
    assert_covariance(x, np.diag(EIGENVALUES[name]))


@pytest.mark.parametrize("name", ["power_law", "spectrum"])
def test_a_random_basis_keeps_the_eigenvalues_and_is_the_same_for_all_samples(name):
    params = {**INPUTS_OF_FOUR[name], "rotate": True}
    plain = draw(name, 50_000, **{**params, "rotate": False})
    turned = draw(name, 50_000, **params)
    basis = np.linalg.lstsq(plain, turned, rcond=None)[0]  # turned = plain @ basis, exactly
    np.testing.assert_allclose(plain @ basis, turned, atol=1e-12)
    np.testing.assert_allclose(basis @ basis.T, np.eye(4), atol=1e-12)
    assert np.abs(basis - np.eye(4)).max() > 0.1
    assert_covariance(draw(name, 50_000, seed=1, **params), basis.T * EIGENVALUES[name] @ basis)
    other = np.linalg.lstsq(plain, draw(name, 50_000, data_seed=1, **params), rcond=None)[0]
    assert np.abs(basis - other).max() > 0.1


def test_a_power_law_is_of_trace_in_dim_or_begins_with_one():
    both = [draw("power_law", 5, alpha=2.0, normalize=n) for n in (True, False)]
    np.testing.assert_allclose(both[0] / both[1], np.sqrt(4 / sum(i**-2.0 for i in range(1, 5))), rtol=1e-14)
    np.testing.assert_array_equal(both[1][:, 0], draw("gaussian", 5)[:, 0])


def test_the_sphere():
    """Radius sqrt(d); a coordinate has fourth moment 3 d / (d + 2), where a Gaussian's is 3."""
    x = draw("sphere", 100_000)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 2, rtol=1e-14)
    for k in range(4):
        fourth = x[:, k] ** 4
        assert abs(fourth.mean() - 2) < 5 * fourth.std() / np.sqrt(len(x))


@pytest.mark.sampled
@given(cuts=st.lists(st.integers(1, 7), min_size=1, max_size=5), d_active=st.sampled_from([None, 4, 3, 1]))
@pytest.mark.parametrize("name", INPUTS_OF_FOUR)
def test_the_digits_of_a_sample_do_not_depend_on_how_many_are_drawn_at_once(name, cuts, d_active):
    params = {"values": [2.0, 1.0, 0.3, 0.1][:d_active], "rotate": True} if name == "spectrum" else {}
    inputs = make_inputs(4, name, {**INPUTS_OF_FOUR[name], **params}, d_active)
    rng = stream(3, "test")
    pieces = np.concatenate([inputs.draw(n, rng) for n in cuts])
    np.testing.assert_array_equal(pieces, inputs.draw(sum(cuts), stream(3, "test")))


@pytest.mark.parametrize("name", INPUTS_OF_FOUR)
def test_inactive_coordinates_are_zero_and_active_ones_a_smaller_problem(name):
    x = draw(name, 50, in_dim=7, d_active=4)
    assert np.linalg.matrix_rank(x) == 4
    assert not x[:, 4:].any()
    np.testing.assert_array_equal(x[:, :4], draw(name, 50))


@pytest.mark.parametrize("name", INPUTS_OF_FOUR)
def test_train_and_test_sets_are_different_samples_that_do_not_depend_on_their_number(name):
    def data(train, test):
        how = {"train_samples": train, "test_samples": test, "inputs": name, "inputs_params": INPUTS_OF_FOUR[name]}
        return linear_teacher(4, 3, {"matrix": "random_normal"}, data_seed=2, **how)

    few, many = data(5, 30), data(50, 6)
    assert (few.train_inputs == many.train_inputs[:5]).all()
    assert (few.train_targets == many.train_targets[:5]).all()
    assert (few.test_inputs[:6] == many.test_inputs).all()
    assert not np.isin(many.train_inputs, few.test_inputs).any()


def test_a_users_distribution_may_ask_for_a_basis_and_parameters():
    @register_inputs("test_inputs_heavy")
    def heavy(samples: int, dim: int, rng: np.random.Generator, basis, freedom: float = 3.0):
        return rng.standard_t(freedom, (samples, dim)) @ basis[:, :1] @ basis[:, :1].T

    x = draw("test_inputs_heavy", 20, freedom=5.0)
    assert np.linalg.matrix_rank(x) == 1
    with pytest.raises(ConfigError, match=r"data.inputs_params.freedm: .*'test_inputs_heavy'.* mean 'freedom'"):
        make_inputs(4, "test_inputs_heavy", {"freedm": 1.0})


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda samples, dim, rng: rng.standard_normal((dim, samples)), r"\[3, 4\] array, not one of shape \[4, 3\]"),
        (lambda samples, dim, rng: np.full((samples, dim), np.nan), "finite"),
        (lambda samples, dim, rng: 1 / 0, "failed: ZeroDivisionError"),
        (lambda samples, dim, rng: rng.standard_normal((dim, samples)).T, "sample by sample"),
        (lambda samples, dim, rng: rng.random((samples, dim)) / samples, "sample by sample"),
    ],
)
def test_a_users_distribution_that_cannot_be_used_is_named(function, named):
    function.__qualname__ = "test_inputs_unusable"
    register_inputs("test_inputs_unusable")(function)
    with pytest.raises(ExtensionError, match=f"'test_inputs_unusable'.*{named}"):
        make_inputs(4, "test_inputs_unusable")
