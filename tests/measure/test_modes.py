"""Modes where singular values are equal or zero: what is said of them does not depend on how a decomposition chose."""

import numpy as np
import pytest
import torch

import dln
from dln.measure.instruments.modes import mode_alignments, mode_strengths
from dln.measure.instruments.pairs import mode_angles


def orthogonal(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def modes(left, values, right):
    return tuple(torch.from_numpy(np.array(a, dtype=float)) for a in (left, values, right))


def alignments(of_w, of_teacher):
    left, values, right = modes(*of_teacher)
    rank = torch.tensor(float((values > 1e-12).sum()))
    return mode_alignments(modes(*of_w), left, right, values, rank).numpy()


def turned(found, block, rng):
    """The same map by other singular vectors of a singular value that several share."""
    left, values, right = (np.array(a) for a in found)
    turn = orthogonal(len(range(*block.indices(len(values)))), rng)
    left[:, block] = left[:, block] @ turn
    right[block] = turn.T @ right[block]
    return left, values, right


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [[3, 3, 3, 1, 0.5], [3, 2, 2, 2, 1], [4, 4, 4, 4, 4]])
def test_equal_singular_values_are_compared_whatever_their_vectors(values, seed):
    rng = np.random.default_rng(seed)
    teacher = np.linalg.svd(orthogonal(5, rng) * np.array(values, float) @ orthogonal(5, rng))
    block = slice(values.index(max(values, key=values.count)), values.index(max(values, key=values.count)) + 3)
    np.testing.assert_allclose(alignments(teacher, turned(teacher, block, rng)), 1, atol=1e-12)
    other = np.linalg.svd(rng.standard_normal((5, 5)))
    plain = alignments(other, teacher)
    np.testing.assert_allclose(alignments(other, turned(teacher, block, rng)), plain, atol=1e-12)
    np.testing.assert_allclose(alignments(turned(teacher, block, rng), other), alignments(teacher, other), atol=1e-12)
    assert (plain <= 1 + 1e-12).all()


def test_of_different_values_it_is_the_cosines():
    rng = np.random.default_rng(0)
    w, teacher = (np.linalg.svd(rng.standard_normal((5, 5))) for _ in range(2))
    cosines = np.abs((w[0].T @ teacher[0]).diagonal() * (w[2] @ teacher[2].T).diagonal())
    np.testing.assert_allclose(alignments(w, teacher), cosines, atol=1e-14)


def test_modes_that_are_not_there_have_no_strength_and_no_alignment():
    rng = np.random.default_rng(0)
    teacher = np.linalg.svd(orthogonal(4, rng) * [3.0, 2.0, 0.0, 0.0] @ orthogonal(4, rng))
    w = np.linalg.svd(rng.standard_normal((4, 4)))
    np.testing.assert_array_equal(np.isnan(alignments(w, teacher)), [False, False, True, True])
    flat = np.linalg.svd(orthogonal(4, rng) * [3.0, 0.0, 0.0, 0.0] @ orthogonal(4, rng))
    np.testing.assert_array_equal(np.isnan(alignments(flat, teacher)), [False, True, True, True])
    left, _, right = modes(*teacher)
    found = mode_strengths(torch.eye(4, dtype=torch.float64), left, right, torch.tensor(2.0))
    assert found.isnan().tolist() == [False, False, True, True]


@pytest.mark.parametrize(("values", "top", "known"), [
    ([3, 2, 1], 1, True), ([3, 2, 1], 3, True), ([3, 3, 1], 1, False), ([3, 3, 1], 2, True), ([3, 2, 0], 2, True),
    ([3, 2, 0], 3, False), ([0, 0, 0], 1, False), ([3, 2, 1], 9, True),
])  # fmt: skip
def test_spans_that_are_not_determined_have_no_angles(values, top, known):
    rng = np.random.default_rng(0)
    a = modes(orthogonal(3, rng), values, orthogonal(3, rng))
    b = modes(orthogonal(3, rng), [3, 2, 1], orthogonal(3, rng))
    for pair in ((a, b), (b, a)):
        for angles in mode_angles(*pair, top=top).values():
            assert bool(angles.isnan().all()) != known


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_engines_agree_where_the_teacher_has_equal_modes(dtype):
    config = {
        "max_steps": 600,
        "evaluate_every": 100,
        "dtype": dtype,
        "model": {"num_hidden": 1, "hidden_dim": 8},
        "training": {"lr": 0.05},
        "data": {"params": {"matrix": "identity", "scale": 2.0}, "rotate": True},
        "metrics": ["mode_alignments"],
    }
    found = [dln.run_experiment({**config, "engine": engine})["mode_alignments"] for engine in ("autograd", "compiled")]
    np.testing.assert_allclose(*found, atol=1e-9 if dtype == "float64" else 1e-4)
    np.testing.assert_allclose(found[0][-1], 1, atol=1e-3)


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_a_run_says_nothing_of_modes_that_its_teacher_lacks(engine):
    config = {
        "max_steps": 4,
        "engine": engine,
        "data": {"params": {"matrix": "power_law_topk", "k": 2}},
        "metrics": ["mode_alignments", "mode_strengths"],
        "events": ["mode_escapes", "mode_order"],
    }
    history = dln.run_experiment(config)
    for name in config["metrics"]:
        np.testing.assert_array_equal(np.isnan(history[name]), [[False, False, True, True, True]] * 5)
    assert history.events == {"mode_escapes": [None] * 5, "mode_order": []}
