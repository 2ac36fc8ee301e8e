"""The state of an ensemble: weights of many members packed for the kernels, and the threads that advance them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from dln.base.parallel import run_blocks
from dln.kernels import training
from dln.kernels.batches import Data, plain
from dln.kernels.emitter import vector_length
from dln.kernels.layout import Arrays, Layout, shape_of
from dln.kernels.rules import HYPER, Rule


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
        data: Data,
        dataset: np.ndarray,
        stream: np.ndarray,
        order: np.ndarray,
        size: np.ndarray,
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
            data: What members train on.
            dataset: Row of `data` of each member [R].
            stream: Row of `order` of each member [R].
            order: Sample numbers [K, drawn, B], int32, which are not checked; drawn >= updates and > every record.
            size: Samples in each batch [drawn]; 0 is the full batch.
            updates: How many to make.
            lr: Learning rate of each member [R], or of each at every update [updates, R].
            records: Sorted offsets from 0 to `updates` at which losses are measured, before the update is made.
            test: Test sets, or None.
            test_of: Row of `test` of each member [R].
            kept: Array of the layout [len(records), G, P] to copy the weights to at each record, or None.
            reach: Array [S, R] to write to, for each of S steps or all of them together (S = 1), the sum of squares of
                what a member's outputs are made of: the outputs on the batch or, where it has more samples than there
                are inputs, the end-to-end map. The step after the last update counts if its batch is among `order`.

        Returns:
            The float64 losses [len(records), R] on the batch at each record and on the test set (NaN if there is none).
        """
        size, records, order = plain(size, np.int64), plain(records, np.int64), plain(order, np.int32)
        needed = max(updates, records[-1] + 1 if len(records) else 0)
        if min(len(size), order.shape[1]) < needed or size.max(initial=0) > order.shape[2]:
            raise ValueError(f"{needed} batches are needed; order is {order.shape} and size {size.shape}")
        at = self.layout
        n, d_out, ld0, ld_top = at.used[0], at.units[-1], at.ld[0], at.ld[-1]
        nothing = np.zeros((0, 0, n + d_out))
        full, recorded = bool((size == 0).any()), len(records) > 0
        moments = data.moments if full else np.zeros((0, 0, 0), at.dtype)
        samples = data.samples if full and recorded else nothing
        tests = test.samples if test is not None and recorded else nothing
        losses = np.full((2, len(records), self.packs, at.lanes), np.nan)
        rates = at.padded(np.atleast_2d(lr), self.members, np.float64)
        vectors = (0 if reach is None else len(reach), self.packs)
        squares = at.zeros(*vectors) if at.lanes > 1 else at.zeros(*vectors, vector_length(at.dtype))
        hyper = np.broadcast_to(self.rule.hyperparameters[:, None], (self.packs, HYPER, at.lanes))
        weights, *kept_of_rule = self._arrays
        buffers = None if self.rule.buffers is None else self.rule.buffers(*kept_of_rule)
        rows = (at.padded(of, self.members, np.int64) for of in (dataset, stream, 0 if test_of is None else test_of))
        arguments = (
            self.rule.variant, self.done, weights, buffers, plain(hyper, at.dtype), rates,
            float(self.rule.weight_decay), self.rule.corrections(self.done, updates), shape_of(at),
            data.inputs, data.targets, moments, samples, tests, *rows, order, size, int(updates), records, losses,
            at.zeros(0, self.packs, 0) if kept is None else kept, squares,
        )  # fmt: skip
        batch = order.shape[2] * (ld0 + ld_top)
        pseudo = (samples.shape[1] + tests.shape[1]) * (ld0 + ld_top)
        lengths = {
            "z": training.HEAD + n * (ld0 + ld_top) + batch,
            "h": n * at.ld.sum(),  # never more than n columns: larger batches are condensed
            "g": n * at.ld.sum(),
            "f": 2 * d_out * at.ld.max() + training.HEAD + batch + pseudo if recorded else 0,
        }

        def work(first: int, last: int) -> None:
            z, h, g, f = (
                at.zeros(length, dtype=np.float64 if name == "f" else at.dtype) for name, length in lengths.items()
            )
            d = None if buffers is None else at.zeros(training.GRADIENT_ROWS * at.ld.max())
            training.train(*arguments, d, z, h, g, f, first, last)

        run_blocks(work, self.packs)
        self.done += int(updates)
        if reach is not None:
            with np.errstate(over="ignore"):
                of_each = squares.reshape(len(reach), -1) if at.lanes > 1 else squares.sum(-1, dtype=np.float64)
            reach[...] = of_each[:, : self.members]
        on_batch, on_test = losses.reshape(2, len(records), self.packs * at.lanes)[:, :, : self.members]
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
