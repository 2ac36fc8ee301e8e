"""The floor and the drift that noise on targets causes, against differences, conservation, SGD's moments and runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dln import linear_teacher, train_ensemble
from dln.derivatives.hessian import hessian_trace
from dln.theory import Problem, label_noise_drift, label_noise_floor, label_noise_path, trace_gradient
from dln.theory.sgd_mean import sgd_mean
from tests.small_nets import SHAPES, case

SIGMA = np.diag([2.0, 1.0, 0.5])


def minimum(widths=(3, 5, 2), seed=0) -> list[np.ndarray]:
    """Layers that nothing is wrong with: of a teacher that is their own map."""
    return case(widths, seed=seed).weights


@pytest.mark.parametrize("widths", SHAPES)
def test_gradient_of_the_trace_by_differences(widths):
    net = case(widths, lead=(2,))
    sigma = net.moments[0]
    rng, step = np.random.default_rng(1), 1e-5
    direction = [rng.standard_normal(w.shape) for w in net.weights]
    ahead, behind = (
        hessian_trace([w + sign * step * v for w, v in zip(net.weights, direction, strict=True)], sigma)
        for sign in (1, -1)
    )
    slopes = [(g * v).sum((-2, -1)) for g, v in zip(trace_gradient(net.weights, sigma), direction, strict=True)]
    np.testing.assert_allclose(sum(slopes), (ahead - behind) / (2 * step), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("widths", SHAPES)
@pytest.mark.parametrize("idle", [False, True])
def test_the_drift_moves_no_map_and_descends(widths, idle):
    net = case(widths, lead=(2,))
    sigma = net.moments[0]
    if idle:  # an input that is always zero
        sigma = sigma * (np.arange(widths[0]) > 0) * (np.arange(widths[0]) > 0)[:, None]
    drift, slope = label_noise_drift(net.weights, sigma, 4, 0.5), trace_gradient(net.weights, sigma)
    before = [np.broadcast_to(np.eye(widths[0]), (2, widths[0], widths[0]))]
    for w in net.weights:
        before.append(w @ before[-1])
    moved, after = 0, np.broadcast_to(np.eye(widths[-1]), (2, widths[-1], widths[-1]))
    for w, v, b in zip(net.weights[::-1], drift[::-1], before[-2::-1], strict=True):
        moved, after = moved + after @ v @ b, after @ w
    np.testing.assert_allclose(moved @ sigma, 0, atol=1e-11)
    inner = sum((v * g).sum((-2, -1)) for v, g in zip(drift, slope, strict=True))
    square = sum((v * v).sum((-2, -1)) for v in drift)
    np.testing.assert_allclose(-inner, square * 2 * widths[-1] * 4 / 0.5**2, atol=1e-12)  # a projection


def test_two_layers_end_where_the_trace_is_least_and_not_at_balance():
    first, second = label_noise_path(minimum((3, 3, 2)), np.eye(3), 1, 1.0, np.array([0.0, 60.0]))
    np.testing.assert_allclose(second @ first, (second @ first)[[0, 0]], atol=1e-7)
    inner, outer = first[1] @ first[1].T, second[1].T @ second[1]
    np.testing.assert_allclose(3 * outer, 2 * inner, atol=1e-6)
    values = np.linalg.svd(second[1] @ first[1])[1]
    # 2 / d_out (d_in ||W_2||^2 + d_out ||W_1||^2) is least at 4 / d_out sqrt(d_in d_out) sum_i s_i
    trace = hessian_trace([first[1], second[1]], np.eye(3))
    np.testing.assert_allclose(trace, 4 / 2 * np.sqrt(6) * values.sum(), rtol=1e-8)


def at_a_minimum(layers: list[np.ndarray], sigma: np.ndarray, lr: float, batch: int, std: float) -> Problem:
    """Online data whose teacher is the layers' own map, with noise on targets."""
    teacher = layers[0]
    for w in layers[1:]:
        teacher = w @ teacher
    square = np.trace(teacher @ sigma @ teacher.T)[None]
    of = {"sampling": "online", "batch_size": batch, "label_noise": np.full(1, std)}
    return Problem([w[None] for w in layers], sigma[None], (teacher @ sigma)[None], square, np.full(1, lr), **of)


def test_the_floor_is_where_the_moments_of_sgd_settle():
    layers, errors = minimum((2, 3, 2)), []
    for lr in (0.04, 0.02):
        run = at_a_minimum(layers, SIGMA[:2, :2], lr, 4, 0.3)
        settled = sgd_mean(run, np.array([round(6 / lr)])).columns["excess_loss"].item()
        errors.append(settled / label_noise_floor(layers, SIGMA[:2, :2], lr, 4, 0.3).item() - 1)
    assert 0 < errors[1] < 0.15
    np.testing.assert_allclose(errors[0] / errors[1], 2, atol=0.3)


@pytest.mark.long
def test_sgd_settles_at_the_floor_and_drifts_along_the_path():
    layers, std, members, found = minimum((3, 3, 2)), 0.5, 2000, []
    data = linear_teacher(3, 2, {"matrix": "diagonal"}, online=True, noise_std=std)
    data = replace(data, teacher=torch.from_numpy(layers[1] @ layers[0]))
    for lr in (0.04, 0.02):
        steps = round(4 / lr**2)
        runs = train_ensemble(
            [np.repeat(w[None], members, 0) for w in layers],
            data,
            lr=lr,
            max_steps=steps,
            batch_size=1,
            batch_seeds=range(members),
            evaluate_every=steps,
            metrics=["population_loss"],
        )
        first, second = runs.weights()[0]
        path = label_noise_path(layers, np.eye(3), 1, std, np.array([0.0, lr**2 * steps]))
        start, end = (second.T @ second - first @ first.T for first, second in zip(*path, strict=True))
        gaps = second.mT @ second - first @ first.mT
        drift = np.linalg.norm(gaps.mean(0) - end) / np.linalg.norm(start - end)
        excess = runs.curves()["population_loss"][:, -1]
        floor = label_noise_floor([w[1] for w in path], np.eye(3), lr, 1, std)
        found.append((drift, excess.mean() / floor - 1, excess.std() / np.sqrt(members) / floor))
    (wide, high, _), (narrow, low, margin) = found
    assert narrow < 0.7 * wide < 0.04
    assert abs(low) < 0.6 * abs(high) + 3 * margin
    assert abs(low) < 0.05 + 3 * margin
