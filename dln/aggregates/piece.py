"""A piece: what is kept of some runs of one cell, which can be put together with that of others of the cell.

Of every column, at each record: how many runs have a number there, the exact sums of the numbers and of their squares,
and as far as it is asked for the smallest and the largest, a sketch of all, and the sums of their logarithms where all
are positive. Put together, pieces are what the runs of all would have given at once, to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dln.aggregates.exact import centred_products, exact_products, exact_sum
from dln.aggregates.sketch import Sketch, joined
from dln.base.arithmetic import uniform

KEPT = ("count", "mean", "std", "min", "max", "log", "quantiles")
"""What can be kept of a column; the first three are, whatever is asked for."""


@dataclass(frozen=True)
class Sums:
    """Sums of numbers and of their squares, as expansions [K, T] each."""

    one: np.ndarray
    two: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Sums:
        """Add up numbers [R, T]."""
        return cls(exact_sum(values), exact_sum(*exact_products(values, values)))

    @classmethod
    def joined(cls, parts: Sequence[Sums]) -> Sums:
        """Add up sums."""
        return cls(*(exact_sum(np.concatenate(each)) for each in zip(*((p.one, p.two) for p in parts), strict=True)))

    @uniform()
    def moments(self, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation of so many numbers, NaN of too few.

        >>> Sums.of(np.array([[1e8], [1e8 + 2]])).moments(np.array([2]))
        (array([1.00000001e+08]), array([1.41421356]))
        """
        few = np.where(count > 0, count, np.nan), np.where(count > 1, count - 1.0, np.nan)
        centred = centred_products(count.astype(np.float64), self.two, self.one, self.one)
        return self.one[0] / few[0], np.sqrt(np.maximum(centred, 0) / few[0] / few[1])


@dataclass(frozen=True)
class Column:
    """What is kept of one column at each record [T]; what was not asked for is None."""

    count: np.ndarray
    sums: Sums
    logs: Sums | None
    """NaN where a number is not positive."""
    min: np.ndarray | None
    max: np.ndarray | None
    sketch: Sketch | None

    @classmethod
    @uniform()
    def of(cls, values: np.ndarray, keep: Collection[str]) -> Column:
        """Sum up numbers [R, T], those that are not NaN."""
        there = ~np.isnan(values)
        plain = values if there.all() else np.where(there, values, 0.0)
        logs = None
        if "log" in keep:
            positive = np.log(values if (plain > 0).all() else np.where(values > 0, values, np.nan))
            logs = Sums.of(positive if plain is values else np.where(there, positive, 0.0))
        return cls(
            there.sum(0),
            Sums.of(plain),
            logs,
            np.fmin.reduce(values, 0) if "min" in keep else None,
            np.fmax.reduce(values, 0) if "max" in keep else None,
            Sketch.of(values) if "quantiles" in keep else None,
        )

    @classmethod
    def joined(cls, parts: Sequence[Column], runs: int) -> Column:
        """Put together what is kept of so many runs in all."""
        logs = [part.logs for part in parts if part.logs is not None]
        lows, highs = ([getattr(p, name) for p in parts if getattr(p, name) is not None] for name in ("min", "max"))
        sketches = [part.sketch for part in parts if part.sketch is not None]
        return cls(
            np.sum([part.count for part in parts], 0),
            Sums.joined([part.sums for part in parts]),
            Sums.joined(logs) if logs else None,
            functools.reduce(np.fmin, lows) if lows else None,
            functools.reduce(np.fmax, highs) if highs else None,
            joined(sketches, runs) if sketches else None,
        )


@dataclass(frozen=True)
class Pair:
    """What is kept of two columns together: of how many runs [T], and the sum of products, an expansion [K, T]."""

    count: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, one: np.ndarray, other: np.ndarray) -> Pair:
        """Sum up products of numbers [R, T], where both are numbers."""
        there = ~np.isnan(one) & ~np.isnan(other)
        products = exact_products(np.where(there, one, 0.0), np.where(there, other, 0.0))
        return cls(there.sum(0), exact_sum(*products))

    @classmethod
    def joined(cls, parts: Sequence[Pair]) -> Pair:
        """Put pairs together."""
        return cls(np.sum([p.count for p in parts], 0), exact_sum(np.concatenate([p.products for p in parts])))

    @uniform()
    def covariance(self, one: Column, other: Column) -> np.ndarray:
        """Return the covariance [T], NaN of fewer than two runs, and where some have one of the two numbers only."""
        both = (self.count == one.count) & (self.count == other.count) & (self.count > 1)
        count = np.where(both, self.count, np.nan)
        centred = centred_products(self.count.astype(np.float64), self.products, one.sums.one, other.sums.one)
        return centred / count / (count - 1)


@dataclass(frozen=True)
class Piece:
    """What is kept of some runs of one cell, at the steps of their records."""

    runs: np.ndarray
    """Their identities, in order [R]."""
    step: np.ndarray
    present: np.ndarray
    """How many have a record at each step [T]."""
    diverged: np.ndarray
    """How many had diverged by then, in a lane."""
    stopped: np.ndarray
    """How many had ended before without that."""
    columns: dict[str, Column]
    pairs: dict[tuple[str, str], Pair]

    @classmethod
    def of(
        cls,
        runs: np.ndarray,
        step: np.ndarray,
        ends: tuple[np.ndarray, np.ndarray, np.ndarray],
        curves: Mapping[str, np.ndarray],
        keep: Collection[str],
        pairs: Sequence[tuple[str, str]] = (),
    ) -> Piece:
        """Sum up runs of one cell.

        Args:
            runs: Their identities [R].
            step: The steps of their records [T].
            ends: `present`, `diverged` and `stopped` [T] each.
            curves: Their columns [R, T], NaN where a run has no number.
            keep: Of `KEPT`.
            pairs: Names of columns whose covariances are kept.
        """
        columns = {name: Column.of(values, keep) for name, values in curves.items()}
        both = {(one, other): Pair.of(curves[one], curves[other]) for one, other in pairs}
        return cls(np.sort(runs), step, *ends, columns, both)


def joined_pieces(pieces: Sequence[Piece]) -> Piece:
    """Put pieces of one cell together that have no run in common and the same records."""
    if len(pieces) == 1:
        return pieces[0]
    first, runs = pieces[0], np.sort(np.concatenate([piece.runs for piece in pieces]))
    columns = {name: Column.joined([p.columns[name] for p in pieces], len(runs)) for name in first.columns}
    pairs = {pair: Pair.joined([piece.pairs[pair] for piece in pieces]) for pair in first.pairs}
    ends = ([getattr(piece, name) for piece in pieces] for name in ("present", "diverged", "stopped"))
    present, diverged, stopped = (np.sum(each, 0) for each in ends)
    return Piece(runs, first.step, present, diverged, stopped, columns, pairs)
