"""Drift and noise of singular modes against autograd: gradients of singular values and of single samples' losses."""

import itertools

import numpy as np
import pytest
import torch

import dln
from dln.derivatives.mode_noise import mode_label_noise, population_mode_noise, sample_mode_noise
from tests.small_nets import SHAPES, case, member


def modes_of(c):
    w = c.model.end_to_end().detach().numpy()
    left, _, right = np.linalg.svd(w, full_matrices=False)
    return left, right


def rates(c, targets):
    """Minus the inner products of the gradients of all singular values and of all samples' losses [N, k]."""
    model = c.model

    def flat(value):
        found = torch.autograd.grad(value, [*model.parameters()], retain_graph=True, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in found])

    values = torch.stack([flat(s) for s in torch.linalg.svdvals(model.end_to_end())])
    samples = zip(torch.from_numpy(c.inputs), torch.from_numpy(targets), strict=True)
    slopes = torch.stack([flat(torch.nn.functional.mse_loss(model(x[None]), y[None])) for x, y in samples])
    return -(slopes @ values.T).numpy()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [s for s in SHAPES if s != (5, 1, 4)])  # whose other modes are zero
def test_drift_and_noise_are_mean_and_variance_over_samples(widths, bias):
    c = case(widths, bias=bias)
    found, expected = sample_mode_noise(c.layers, c.inputs, c.targets, *modes_of(c)), rates(c, c.targets)
    np.testing.assert_allclose(found.drift, expected.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.noise, expected.var(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_noise_on_targets_adds_its_own(bias):
    """Rates are linear in a target: signs +-1 on all targets have the moments of N(0, 1) up to the second."""
    c = case((3, 4, 2), samples=5, bias=bias)
    shaken = [rates(c, c.targets + np.array(signs)) for signs in itertools.product((-1, 1), repeat=2)]
    found = mode_label_noise(c.layers, c.moments[0], *modes_of(c))
    np.testing.assert_allclose(found, np.concatenate(shaken).var(0) - rates(c, c.targets).var(0))


@pytest.mark.parametrize("lead", [(2,), (3, 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_member_has_the_same_digits_alone_and_in_company(lead, bias):
    stack = case((5, 13, 10, 3), samples=21, bias=bias, lead=lead)
    teacher = np.random.default_rng(0).standard_normal((*lead, 3, 5))
    places = [*np.ndindex(*lead)]
    left, right = (
        np.stack(m).reshape(*lead, *m[0].shape) for m in zip(*(modes_of(member(stack, r)) for r in places), strict=True)
    )
    together = sample_mode_noise(stack.layers, stack.inputs, stack.targets, left, right)
    fresh = population_mode_noise(stack.layers, teacher, 0.3, None, left, right)
    for r in places:
        c = member(stack, r)
        alone = sample_mode_noise(c.layers, c.inputs, c.targets, left[r], right[r])
        for mine, theirs in (
            (alone, together),
            (population_mode_noise(c.layers, teacher[r], 0.3, None, left[r], right[r]), fresh),
        ):
            np.testing.assert_array_equal(mine.drift, theirs.drift[r])
            np.testing.assert_array_equal(mine.noise, theirs.noise[r])


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_singular_values_of_a_run_go_at_the_rate_of_their_drift(engine):
    """In a step of length lr, to first order: what is left halves with lr."""
    left = []
    for lr in (2e-4, 1e-4):
        run = {"max_steps": 1, "dtype": "float64", "training": {"lr": lr}, "model": {"hidden_dim": 6}, "engine": engine}
        history = dln.run_experiment({**run, "metrics": ["singular_values", "mode_drifts"]})
        left.append(np.diff(history["singular_values"], axis=0)[0] / lr - history["mode_drifts"][0])
    np.testing.assert_allclose(left[0], 2 * left[1], rtol=0.05)


def test_modes_that_the_map_does_not_determine_have_no_drift():
    """A bottleneck of one: all other singular values are zero."""
    run = {"max_steps": 1, "model": {"hidden_dim": [6, 1], "num_hidden": 2}, "training": {"batch_size": 5}}
    history = dln.run_experiment({**run, "metrics": ["mode_drifts", "mode_noises", "mode_snrs"]})
    for name in ("mode_drifts", "mode_noises", "mode_snrs"):
        assert np.isfinite(history[name][:, 0]).all()
        assert np.isnan(history[name][:, 1:]).all()
