"""Gradient descent in plain numpy, and what theories are compared with it by."""

import numpy as np

from dln.theory import Problem
from tests.naive import gradients


def weights_of_gd(problem: Problem, steps, r: int = 0):
    """The weights of one run under full-batch gradient descent, at each of the steps."""
    weights = [w[r] for w in problem.layers]
    zeros = [np.zeros(len(w)) for w in weights]
    found = []
    for step in range(max(steps) + 1):
        found += [weights] * (step in steps)
        slopes, _ = gradients(weights, zeros, problem.inputs[r], problem.targets[r])
        weights = [w - problem.lr[r] * g for w, g in zip(weights, slopes, strict=True)]
    return found


def maps_of_gd(problem: Problem, steps, r: int = 0):
    """The end-to-end maps [T, out, in] of one run under full-batch gradient descent, at each of the steps."""
    return np.array([np.linalg.multi_dot([*w[::-1], np.eye(w[0].shape[1])]) for w in weights_of_gd(problem, steps, r)])


def assert_alone(theory, problem: Problem, steps, **params):
    """Each of several runs has the numbers, to the last bit, that it has alone."""
    together = theory(problem, steps, **params)
    for r in range(len(problem)):
        alone = theory(problem.of(r), steps, **params)
        if together.maps is not None:
            np.testing.assert_array_equal(together.maps[r], alone.maps[0])
        for of in ("columns", "conditions"):
            ours, its = getattr(together, of), getattr(alone, of)
            assert set(ours) == set(its)
            for name in ours:
                np.testing.assert_array_equal(ours[name][r], its[name][0])
