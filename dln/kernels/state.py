"""The state of an ensemble: weights of many members packed for the kernels, and the threads that advance them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dln.base.parallel import run_blocks
from dln.kernels.batches import Data, Draw, plain
from dln.kernels.emitter import vector_length
from dln.kernels.layout import Arrays, Layout, shape_of
from dln.kernels.rules import Rule
from dln.kernels.training import Condensed, Method, Noted, scratch_maker, train


class State:
    """Weights and optimiser state of R members of equal shape."""

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray] | None,
        dtype: Any,
        rule: Rule,
        lr_factors: Sequence[float] | None = None,
    ) -> None:
        """Pack initial weights.

        Args:
            weights: One [R, out, in] a layer.
            biases: One [R, out] a layer, or None.
            dtype: float32 or float64, that members are trained in.
            rule: The update rule.
            lr_factors: Factors on the learning rate, layer by layer; 0 freezes a layer; None: all are 1.
        """
        self.lr_factors = np.array([1.0] if lr_factors is None else lr_factors, np.float64)
        self.layout = Layout(weights, biases is not None, dtype)
        self._shape = shape_of(self.layout)
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
        drawn, noted = draw.packed(at), self._noted(records, kept, 0 if reach is None else len(reach))
        needed = max(updates, noted.records.max(initial=-1) + 1)
        if min(len(drawn.size), drawn.order.shape[1]) < needed or drawn.size.max(initial=0) > drawn.order.shape[2]:
            raise ValueError(f"{needed} batches are needed; order is {drawn.order.shape} and size {drawn.size.shape}")
        recorded = len(noted.records) > 0
        condensed = self._condensed(draw, test, test_of, recorded)
        weights, *kept_of_rule = self._arrays
        buffers = None if self.rule.buffers is None else self.rule.buffers(*kept_of_rule)
        method, scratch = self._method(updates, lr), scratch_maker(at, drawn, condensed, recorded)

        def work(first: int, last: int) -> None:
            of_all = weights, buffers, method, self._shape, drawn, condensed, int(updates), noted
            train(*of_all, scratch(), first, last)

        run_blocks(work, self.packs)
        self.done += int(updates)
        if reach is not None:
            squares = noted.reach
            with np.errstate(over="ignore"):
                of_each = squares.reshape(len(reach), -1) if at.slots > 1 else squares.sum(-1, dtype=np.float64)
            reach[...] = of_each[:, :members]
        on_batch, on_test = noted.losses.reshape(2, -1, self.packs * at.slots)[:, :, :members]
        return on_batch, on_test

    def _method(self, updates: int, lr: np.ndarray) -> Method:
        """Return how the next updates are made."""
        rule, layout = self.rule, self.layout
        table = np.tile(rule.hyperparameters, len(self.lr_factors))[:, None]
        hyper = np.broadcast_to(table, (self.packs, len(table), layout.slots))
        rates = layout.padded(np.atleast_2d(lr), self.members, np.float64)
        corrections = rule.corrections(self.done, updates)
        decay, factors = float(rule.weight_decay), self.lr_factors
        return Method(rule.variant, self.done, plain(hyper, layout.dtype), rates, factors, decay, corrections)

    def _condensed(self, draw: Draw, test: Data | None, test_of: np.ndarray | None, recorded: bool) -> Condensed:
        """Return what is needed of whole sets: moments for full batches, samples and tests for losses."""
        layout, full = self.layout, bool((draw.size == 0).any())
        nothing = np.zeros((0, 0, layout.used[0] + layout.units[-1]))
        return Condensed(
            moments=draw.data.moments if full else np.zeros((0, 0, 0), layout.dtype),
            samples=draw.data.samples if full and recorded else nothing,
            tests=test.samples if test is not None and recorded else nothing,
            test_of=layout.padded(0 if test_of is None else test_of, self.members, np.int64),
        )

    def _noted(self, records: Sequence[int] | np.ndarray, kept: np.ndarray | None, steps: int) -> Noted:
        """Return where to note losses and weights at records, and the reach of so many steps."""
        layout, packs = self.layout, self.packs
        vector = () if layout.slots > 1 else (vector_length(layout.dtype),)
        return Noted(
            records=plain(records, np.int64),
            losses=np.full((2, len(records), packs, layout.slots), np.nan),
            kept=layout.zeros(0, packs, 0) if kept is None else kept,
            reach=layout.zeros(steps, packs, *vector),
        )

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

    def go_on(
        self,
        done: int,
        parameters: Mapping[str, np.ndarray],
        kept: Callable[[str], Mapping[str, np.ndarray]],
    ) -> None:
        """Let all members go on from where one stood.

        Args:
            done: Updates made before.
            parameters: Its weights and biases by their names W1, ..., b1, ...
            kept: Gives what the optimizer kept of each, by torch's names; what is missing is zero.
        """
        for array, field in zip(self._arrays, (None, *self._fields), strict=True):
            values = {
                name: p if field is None else kept(name).get(field, np.zeros_like(p)) for name, p in parameters.items()
            }
            layers, shifts = (
                [np.broadcast_to(a, (self.members, *a.shape)) for name, a in values.items() if name.startswith(letter)]
                for letter in "Wb"
            )
            self.layout.put(array, layers, shifts or None)
        self.done = done

    def kept(self, member: int) -> dict[str, np.ndarray]:
        """Return what the rule keeps of a member's weights and biases: `optimizer.W1.exp_avg` and so on."""
        own, found = self.select([member]), {}
        for field, array in zip(self._fields, own._arrays[1:], strict=True):
            for letter, arrays in zip("Wb", self.layout.take(array, 1), strict=True):
                for i, a in enumerate(arrays or (), start=1):
                    found[f"optimizer.{letter}{i}.{field}"] = a[0]
                    found[f"optimizer.{letter}{i}.step"] = np.float32(self.done)
        return found

    @property
    def _fields(self) -> tuple[str, ...]:
        """Names of the rule's arrays."""
        return () if self.rule.buffers is None else self.rule.buffers._fields

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
