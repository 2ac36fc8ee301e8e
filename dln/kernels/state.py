"""The state of an ensemble: weights of many members packed for the kernels, and the threads that advance them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from dln.base.parallel import run_blocks
from dln.kernels.batches import Data, Draw, plain
from dln.kernels.emitter import vector_length
from dln.kernels.layout import Arrays, Layout, shape_of
from dln.kernels.rules import HYPER, Rule
from dln.kernels.training import Condensed, Method, Noted, make_scratch, train


class State:
    """Weights and optimiser state of R members of equal shape."""

    def __init__(
        self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray] | None, dtype: Any, rule: Rule
    ) -> None:
        """Pack initial weights.

        Args:
            weights: One [R, out, in] a layer.
            biases: One [R, out] a layer, or None.
            dtype: float32 or float64, that members are trained in.
            rule: The update rule.
        """
        self.layout = Layout(weights, biases is not None, dtype)
        self.rule = rule
        self.members = len(weights[0])
        self.done = 0
        count = 1 if rule.buffers is None else 1 + len(rule.buffers._fields)
        self._arrays = [self.layout.zeros(self.packs, self.layout.starts[-1]) for _ in range(count)]
        self.layout.put(self._arrays[0], weights, biases)

    @property
    def packs(self) -> int:
        """How many packs the members fill."""
        return self.layout.packs(self.members)

    def train(
        self,
        draw: Draw,
        updates: int,
        lr: np.ndarray,
        records: Sequence[int] | np.ndarray = (),
        test: Data | None = None,
        test_of: np.ndarray | None = None,
        kept: np.ndarray | None = None,
        reach: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make `updates` updates and return the losses on the way.

        Args:
            draw: The batches of at least so many steps, and of every record.
            updates: How many to make.
            lr: Learning rate of each member [R], or of each at every update [updates, R].
            records: Sorted offsets from 0 to `updates` at which losses are measured, before the update is made.
            test: Test sets, or None.
            test_of: Row of `test` of each member [R].
            kept: Array of the layout [len(records), G, P] to copy the weights to at each record, or None.
            reach: Array [S, R] to write to, for each of S steps or all of them together (S = 1), the sum of squares of
                what a member's outputs are made of: the outputs on the batch or, where it has more samples than there
                are inputs, the end-to-end map. The step after the last update counts if its batch is drawn.

        Returns:
            The float64 losses [len(records), R] on the batch at each record and on the test set (NaN if there is none).
        """
        at, members = self.layout, self.members
        drawn, records = draw.packed(at), plain(records, np.int64)
        needed = max(updates, records[-1] + 1 if len(records) else 0)
        if min(len(drawn.size), drawn.order.shape[1]) < needed or drawn.size.max(initial=0) > drawn.order.shape[2]:
            raise ValueError(f"{needed} batches are needed; order is {drawn.order.shape} and size {drawn.size.shape}")
        full, recorded = bool((drawn.size == 0).any()), len(records) > 0
        nothing = np.zeros((0, 0, at.used[0] + at.units[-1]))
        condensed = Condensed(
            moments=draw.data.moments if full else np.zeros((0, 0, 0), at.dtype),
            samples=draw.data.samples if full and recorded else nothing,
            tests=test.samples if test is not None and recorded else nothing,
            test_of=at.padded(0 if test_of is None else test_of, members, np.int64),
        )
        weights, *buffers = self._arrays
        hyper = np.broadcast_to(self.rule.hyperparameters[:, None], (self.packs, HYPER, at.lanes))
        method = Method(
            variant=self.rule.variant,
            done=self.done,
            hyper=plain(hyper, at.dtype),
            lr=at.padded(np.atleast_2d(lr), members, np.float64),
            decay=float(self.rule.weight_decay),
            correction=self.rule.corrections(self.done, updates),
        )
        vectors = (0 if reach is None else len(reach), self.packs)
        noted = Noted(
            records=records,
            losses=np.full((2, len(records), self.packs, at.lanes), np.nan),
            kept=at.zeros(0, self.packs, 0) if kept is None else kept,
            reach=at.zeros(*vectors) if at.lanes > 1 else at.zeros(*vectors, vector_length(at.dtype)),
        )
        of_rule = None if self.rule.buffers is None else self.rule.buffers(*buffers)
        arguments = weights, of_rule, method, shape_of(at), drawn, condensed, int(updates), noted

        def work(first: int, last: int) -> None:
            train(*arguments, make_scratch(at, drawn, condensed, recorded), first, last)

        run_blocks(work, self.packs)
        self.done += int(updates)
        if reach is not None:
            squares = noted.reach
            with np.errstate(over="ignore"):
                of_each = squares.reshape(len(reach), -1) if at.lanes > 1 else squares.sum(-1, dtype=np.float64)
            reach[...] = of_each[:, :members]
        on_batch, on_test = noted.losses.reshape(2, len(records), self.packs * at.lanes)[:, :, :members]
        return on_batch, on_test

    @property
    def dims(self) -> tuple[int, int]:
        """Input and output dimension."""
        return int(self.layout.units[0]), int(self.layout.units[-1])

    @property
    def updates_cost(self) -> int:
        """Floating point operations of one update of all members, about: each weight meets each column three times."""
        return 6 * self.members * int(self.layout.starts[-1]) * int(self.layout.used[0])

    def weights(self) -> tuple[Arrays, Arrays | None]:
        """Return copies of the weights, one [R, out, in] a layer, and of the biases, one [R, out] a layer, or None."""
        return self.layout.take(self._arrays[0], self.members)

    def replace(self, member: int, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray] | None = None) -> None:
        """Overwrite one member's weights [out, in] and biases [out]; its optimiser state stays."""
        self.layout.replace(self._arrays[0], member, weights, biases)

    def packed(self) -> np.ndarray:
        """Return the weights of all members as they lie in memory."""
        return self._arrays[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all members' weights."""
        return self._arrays[0].nbytes

    def blank(self, records: int) -> np.ndarray:
        """Return an array to keep the weights of so many records in."""
        return self.layout.zeros(records, self.packs, self.layout.starts[-1])

    def copy(self) -> State:
        """Return a state that goes on from here by itself."""
        new = copy.copy(self)
        new._arrays = [a.copy() for a in self._arrays]
        return new

    def select(self, members: Sequence[int] | np.ndarray) -> State:
        """Return a new state of some members, in the order given, each exactly as it is here."""
        members = np.asarray(members)
        if members.dtype == bool:
            members = np.flatnonzero(members)
        new = copy.copy(self)
        new.members = len(members)
        new._arrays = [self.layout.select(array, members) for array in self._arrays]
        return new
