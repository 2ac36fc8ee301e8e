"""Distances of two models that are close: against exact fractions of their weights, on both engines."""

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
import torch

import dln
from dln.model import load_weights

NAMES = [
    "param_distance",
    "layer_distances",
    "end_to_end_distance",
    "param_cosine_sim",
    "layer_cosines",
    "end_to_end_cosine",
    "prediction_distance",
    {"name": "prediction_distance", "params": {"of": "train"}},
    {"name": "prediction_distance", "params": {"of": "population"}},
]

DATA = {"inputs": "power_law", "rotate": True, "train_samples": 7, "test_samples": 6}


def pair(path, engine, dtype, nearness):
    """The last records of two models whose learning rates nearly agree, and their weights in fractions."""
    config = {
        "model": {"num_hidden": 2, "hidden_dim": 6, "in_dim": 4, "out_dim": 3},
        "data": DATA,
        "reference": {"training.lr": 0.01 * (1 + nearness)},
        "training": {"lr": 0.01},
        "comparative_metrics": NAMES,
        "max_steps": 60,
        "evaluate_every": 60,
        "checkpoint_every": 60,
        "engine": engine,
        "dtype": dtype,
    }
    history = dln.run_experiment(config, directory=path)
    lanes = []
    for lane in "ab":
        (file,) = (path / "checkpoints").glob(f"*60_{lane}.npz")
        lanes.append([exact(w) for w in load_weights(file)[0]])
    return history.records[-1], lanes


def exact(matrix):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(matrix, np.float64))


def product(layers):
    w1, w2, w3 = layers
    return w3 @ w2 @ w1


def norm(*matrices):
    return sqrt(sum((m**2).sum() for m in matrices))


def cosine(a, b):
    ab, aa, bb = (sum((x * y).sum() for x, y in zip(s, t, strict=True)) for s, t in ((a, b), (a, a), (b, b)))
    return sqrt(ab**2 / (aa * bb))  # of models that are close it is positive


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
@pytest.mark.parametrize(("dtype", "nearness"), [("float32", 1e-4), ("float64", 1e-9)])
def test_distances_of_what_is_close_keep_their_digits(engine, dtype, nearness, tmp_path):
    found, (a, b) = pair(tmp_path, engine, dtype, nearness)
    gaps, maps = [x - y for x, y in zip(a, b, strict=True)], [product(a), product(b)]
    gap = maps[0] - maps[1]
    assert 0 < norm(gap) < 30 * max(nearness, 1e-7) * norm(maps[0])
    close = {"rtol": 1e-14, "atol": 0}
    np.testing.assert_allclose(found["param_distance"], norm(*gaps), **close)
    np.testing.assert_allclose(found["layer_distances"], [norm(g) for g in gaps], **close)
    np.testing.assert_allclose(found["param_cosine_sim"], cosine(a, b), **close)
    np.testing.assert_allclose(found["layer_cosines"], [cosine([x], [y]) for x, y in zip(a, b, strict=True)], **close)
    np.testing.assert_allclose(found["end_to_end_cosine"], cosine(*([m] for m in maps)), **close)
    rounding = 4e-16 * norm(maps[0])  # of the maps, which are subtracted
    np.testing.assert_allclose(found["end_to_end_distance"], norm(gap), rtol=1e-14, atol=rounding)
    data = dln.linear_teacher(4, 3, {"matrix": "diagonal"}, **DATA, dtype=torch.float64)
    for label, inputs in (("prediction", data.test_inputs), ("train_prediction", data.train_inputs)):
        x = exact(inputs.to(getattr(torch, dtype)))
        expected = norm(x @ gap.T) / sqrt(3 * len(x))
        np.testing.assert_allclose(found[f"{label}_distance"], expected, rtol=1e-13, atol=0)
    expected = sqrt(np.trace(gap @ exact(data.inputs.covariance) @ gap.T) / 3)
    np.testing.assert_allclose(found["population_prediction_distance"], expected, rtol=1e-13)
