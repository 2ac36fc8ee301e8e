"""The exact learning coefficient: known formulas of other papers, symmetries, and as a metric."""

import itertools

import numpy as np
import pytest
import torch

import dln
from dln.measure.learning_coefficient import learning_coefficient
from dln.model import DeepLinearNetwork
from tests.test_metrics import network, value


def of_two_layers(n_in, hidden, n_out, r):
    """Aoyagi and Watanabe (2005), reduced rank regression: lambda and multiplicity."""
    if n_in + hidden < n_out + r:
        return (hidden * n_in - hidden * r + n_out * r) / 2, 1
    if n_out + hidden < n_in + r:
        return (hidden * n_out - hidden * r + n_in * r) / 2, 1
    if n_in + n_out < hidden + r:
        return n_in * n_out / 2, 1
    total = -((hidden + r) ** 2) - n_in**2 - n_out**2
    total += 2 * (hidden + r) * n_in + 2 * (hidden + r) * n_out + 2 * n_in * n_out
    odd = (n_in + n_out + hidden + r) % 2
    return (total + odd) / 8, 1 + odd


def test_two_layers_have_the_coefficient_of_reduced_rank_regression():
    """All nets up to width 6, at every rank."""
    for widths in itertools.product(range(1, 7), repeat=3):
        for rank in range(min(widths) + 1):
            assert learning_coefficient(widths, rank) == of_two_layers(*widths, rank), (widths, rank)


@pytest.mark.parametrize("depth", range(1, 7))
def test_a_chain_of_numbers_at_zero_is_a_product_of_as_many(depth):
    """w_1 ... w_L = 0: 1/2, with the multiplicity L; a map that is not zero is regular."""
    assert learning_coefficient([1] * (depth + 1), 0) == (0.5, depth)
    assert learning_coefficient([1] * (depth + 1), 1) == (0.5, 1)


def test_one_layer_and_wide_layers_are_regular_at_every_rank():
    """d_in d_out / 2: lambda says nothing of their rank."""
    for n_in, n_out in itertools.product(range(1, 6), repeat=2):
        for rank in range(min(n_in, n_out) + 1):
            assert learning_coefficient([n_in, n_out], rank) == (n_in * n_out / 2, 1)
            for hidden in ([n_in + n_out], [n_in + n_out] * 3, [50, n_in + n_out]):
                assert learning_coefficient([n_in, *hidden, n_out], rank).value == n_in * n_out / 2


def test_the_coefficient_depends_on_no_order_of_hidden_layers_and_rises_with_rank():
    """It is between what the map alone can have, rank r matrices, and what is regular."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        widths = rng.integers(1, 9, rng.integers(2, 6)).tolist()
        ranks = range(min(widths) + 1)
        found = [learning_coefficient(widths, rank).value for rank in ranks]
        n_in, *hidden, n_out = widths
        assert found == [learning_coefficient([n_out, *rng.permutation(hidden), n_in], rank).value for rank in ranks]
        assert all(b >= a for a, b in itertools.pairwise(found))
        for rank, one in zip(ranks, found, strict=True):
            assert rank * (n_in + n_out - rank) / 2 <= one <= n_in * n_out / 2
            deeper = [n_in, *hidden, 3 + max(widths), n_out]
            assert learning_coefficient(deeper, rank).value <= one  # the shallower net is a part of it


def test_a_net_makes_no_map_of_higher_rank_than_it_is_wide():
    with pytest.raises(ValueError, match=r"widths \[3, 1, 3\] makes no map of rank 2"):
        learning_coefficient([3, 1, 3], 2)


def test_the_metric_is_that_of_the_rank_of_the_map():
    """By the tolerances of relative_rank, whatever the layers; with biases, of the outputs' d_out more numbers."""
    for above in (0.0, 0.3, 1.0, 100.0):
        rank = int(value("relative_rank", network(), above=above))
        widths = [network().weights[0].shape[1], *(len(w) for w in network().weights)]
        exact = learning_coefficient(widths, rank).value
        assert value("learning_coefficient", network(), above=above) == exact
        assert value("learning_coefficient", network(bias=True), above=above) == exact + widths[-1] / 2
    narrow = DeepLinearNetwork.from_weights([np.ones((1, 4)), np.ones((4, 1))], dtype=torch.float64)
    assert value("learning_coefficient", narrow, tolerance=0.0) == learning_coefficient([4, 1, 4], 1).value


def test_a_run_climbs_a_staircase():
    """A narrow net that learns mode by mode: the values of ranks 1 to 3 of a map of rank 3, in order."""
    history = dln.run_experiment(
        {
            "model": {"in_dim": 4, "hidden_dim": 4, "out_dim": 4, "num_hidden": 1, "init": "aligned"},
            "data": {"params": {"matrix": "power_law_topk", "k": 3}, "whiten": True},
            "training": {"lr": 0.04},
            "max_steps": 250,
            "evaluate_every": 10,
            "metrics": [{"name": "learning_coefficient", "params": {"above": 0.5}}],
            "engine": "autograd",
        }
    )
    stairs = [learning_coefficient([4, 4, 4], rank).value for rank in range(4)]
    found = history["learning_coefficient"]
    assert (np.diff(found) >= 0).all()
    assert sorted(set(found)) == stairs
