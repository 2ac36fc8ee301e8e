"""Pieces put together in any way are the piece of all runs, to the last bit; what they tell is what the runs tell."""

import dataclasses

import numpy as np
import pytest

from dln.aggregates.piece import KEPT, Piece, joined_pieces
from dln.aggregates.sketch import EXACT, Sketch, joined
from dln.studies.statistics import covariance, in_order, log_moments, moments, quantile

LEVELS = (0.01, 0.25, 0.5, 0.95)


def values_of(runs):
    """Columns of runs: of positive numbers with gaps, of both signs, alike in all runs, and of none."""
    rng = np.random.default_rng(0)
    x = rng.lognormal(3, 2, (runs, 5))
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:, 2] *= np.where(rng.random(runs) < 0.5, -1, 1)
    x[:, 3], x[:, 4] = 0.1, np.nan
    return {"x": x, "y": x * 1e-3 + rng.normal(size=x.shape)}


def piece_of(columns, some):
    some = np.asarray(some)
    none = np.zeros(5, int)
    names = np.array([f"{i:024x}".encode() for i in some], "S24")
    own = {name: values[some] for name, values in columns.items()}
    return Piece.of(names, np.arange(5), (none + len(some), none, none), own, KEPT, [("x", "y")])


def leaves(node):
    if dataclasses.is_dataclass(node):
        return [leaf for item in dataclasses.fields(node) for leaf in leaves(getattr(node, item.name))]
    return [leaf for one in node.values() for leaf in leaves(one)] if isinstance(node, dict) else [node]


def assert_equal(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("runs", [40, EXACT + 44])
def test_pieces_put_together_in_any_way_are_the_piece_of_all(runs):
    columns, order = values_of(runs), np.random.default_rng(1).permutation(runs)
    whole = piece_of(columns, range(runs))
    parts = [piece_of(columns, some) for some in np.split(order, [1, 20, runs - 10])]
    assert_equal(joined_pieces(parts), whole)
    assert_equal(joined_pieces([joined_pieces(parts[2:]), joined_pieces(parts[1::-1])]), whole)


def test_a_piece_tells_what_its_runs_tell():
    columns = values_of(300)
    piece = piece_of(columns, range(300))
    for name, values in columns.items():
        column = piece.columns[name]
        own, logs = moments(values), log_moments(values)
        np.testing.assert_array_equal(column.count, own.count)
        for found, expected in zip(column.sums.moments(column.count), (own.mean, own.std), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        for found, expected in zip(column.logs.moments(column.count), (logs.mean, logs.std), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(column.min, np.fmin.reduce(values))
        np.testing.assert_array_equal(column.max, np.fmax.reduce(values))
    assert piece.columns["x"].sums.moments(piece.columns["x"].count)[1][3] == 0  # all alike: no spread at all
    both = piece.pairs["x", "y"].covariance(piece.columns["x"], piece.columns["y"])
    np.testing.assert_allclose(both, covariance(columns["x"], columns["y"]), rtol=1e-11, atol=1e-12)


def test_a_covariance_of_runs_that_have_one_of_two_numbers_is_not_told():
    columns = {"x": np.array([[1.0, 1.0], [2.0, 3.0]]), "y": np.array([[4.0, np.nan], [5.0, 1.0]])}
    none = np.zeros(2, int)
    piece = Piece.of(np.array([b"a", b"b"], "S24"), none, (none, none, none), columns, KEPT, [("x", "y")])
    found = piece.pairs["x", "y"].covariance(piece.columns["x"], piece.columns["y"])
    np.testing.assert_array_equal(found, [0.5, np.nan])


@pytest.mark.parametrize("scale", [1.0, -1.0, 1e300, 1e-300])
def test_quantiles_are_exact_of_few_runs_and_within_one_part_in_64_of_many(scale):
    values = np.random.default_rng(4).lognormal(0, 1.5, (2000, 3)) * scale
    few = values[:EXACT]
    sketches = [joined([Sketch.of(few[part]) for part in (slice(50), slice(50, None))], EXACT), Sketch.of(few)]
    for level in LEVELS:
        for sketch in sketches:
            np.testing.assert_array_equal(quantile(sketch, np.full(3, EXACT), level), quantile(*in_order(few), level))
        many = joined([Sketch.of(values)], len(values))
        found, expected = quantile(many, np.full(3, 2000), level), quantile(*in_order(values), level)
        np.testing.assert_allclose(found, expected, rtol=1 / 64)


def test_every_number_is_within_one_part_in_64_of_where_its_rank_is_looked_for():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(500, 2)) * 10.0 ** rng.uniform(-200, 200, (500, 2))
    values[:20] = 0
    values[20:40, 1] = np.nan
    sketch, (ordered, count) = joined([Sketch.of(values)], 500), in_order(values)
    for rank in range(500):
        there = rank < count
        np.testing.assert_allclose(sketch[np.full(2, rank), :][there], ordered[rank][there], rtol=1 / 64)
    assert sketch.shape == (500, 2)
