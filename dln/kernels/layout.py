"""How the weights of many members lie in memory.

Small nets lie side by side in the slots of vectors ([G, P, V], V members a pack), larger ones one after another
([G, P], G = R). Which it is depends on the widths only, so a member's digits do not depend on the other members. A bias
is one more column of its layer's weights. Here for W [2, 2] with biases, vectors of V = 4 numbers between the bars:

    packs, members 0 to 3    w11 w11 w11 w11 | w12 w12 w12 w12 | b1 b1 b1 b1 | w21 w21 w21 w21 | ...
    rows, member 0           w11 w12 b1  0   | w21 w22 b2  0

In packs an instruction does the same for V members: no sum runs along a vector, and the last pack may have empty slots.
In rows it does the same for V weights of one member: a row is padded to whole vectors, and a sum over a row ends with
one over a vector (`Emitter.sums`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.extending import overload

from dln.kernels.compiling import inner
from dln.kernels.emitter import VECTOR_BYTES, vector_length

PACKED_UP_TO = 400 * 1024
"""Bytes of a pack of members that still go side by side in the slots of vectors: more would fall out of the cache."""

Arrays = list[np.ndarray]


class Layout:
    """Where the numbers of nets of one shape are, in arrays of one precision.

    >>> weights = [np.arange(6.0).reshape(3, 1, 2)]  # of three members, [out, in] = [1, 2]
    >>> layout = Layout(weights, bias=False, dtype="float64")
    >>> array = layout.zeros(layout.packs(3), layout.starts[-1])
    >>> layout.put(array, weights, None)
    >>> np.array_equal(layout.take(array, 3)[0], weights)
    True
    """

    def __init__(self, weights: Sequence[np.ndarray], bias: bool, dtype: Any) -> None:
        """Lay out nets with weights of the shapes [R, out, in] of `weights`."""
        self.dtype, self.bias = np.dtype(dtype), bias
        self.units = np.array([weights[0].shape[2], *(w.shape[1] for w in weights)])
        """Units of the inputs and of each layer [L + 1]."""
        self.used = self.units + bias
        """The same with the constant unit that feeds the biases of the next layer."""
        self.used[-1] = self.units[-1]
        vector = vector_length(dtype)
        self.slots = vector if self.units[1:] @ self.used[:-1] * VECTOR_BYTES <= PACKED_UP_TO else 1
        """Members side by side in one vector: 1, or a vector's length."""
        pad = 1 if self.slots > 1 else vector
        self.ld = -(-self.used // pad) * pad
        """Stride of a row of the weights that leave a layer of units, and of these units' values."""
        self.starts = np.concatenate([[0], np.cumsum(self.units[1:] * self.ld[:-1])])
        """Where each layer's weights start; the last entry is P."""

    @property
    def depth(self) -> int:
        """Number of layers of weights."""
        return len(self.units) - 1

    def packs(self, members: int) -> int:
        """Return how many packs so many members fill."""
        return -(-members // self.slots)

    def zeros(self, *shape: int, dtype: Any = None) -> np.ndarray:
        """Return zeros of so many units on a 64-byte boundary: a vector across two cache lines is loaded twice."""
        shape = (*shape, self.slots) if self.slots > 1 else shape
        dtype = np.dtype(dtype or self.dtype)
        length = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raw = np.zeros(length + VECTOR_BYTES, np.uint8)
        start = -raw.ctypes.data % VECTOR_BYTES
        return raw[start : start + length].view(dtype).reshape(shape)

    def padded(self, values: Any, members: int, dtype: Any) -> np.ndarray:
        """Values of each member [..., R], or one for all, as [..., G, V], zeros for unused slots of the last pack."""
        packs, leading = self.packs(members), np.shape(values)[:-1]
        padded = np.zeros((*leading, packs * self.slots), dtype)
        padded[..., :members] = values
        return padded.reshape(*leading, packs, self.slots)

    def layer(self, array: np.ndarray, layer: int) -> np.ndarray:
        """View of one layer of an array of weights, [G, out, ld, slots]."""
        start, stop = self.starts[layer : layer + 2]
        return array[:, start:stop].reshape(len(array), self.units[layer + 1], self.ld[layer], self.slots)

    def put(self, array: np.ndarray, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray] | None) -> None:
        """Write weights [R, out, in] and biases [R, out] of all members into an array of zeros."""
        for layer, w in enumerate(weights):
            n_in, place = self.units[layer], self.layer(array, layer)
            for slot in range(self.slots):
                count = len(w[slot :: self.slots])
                place[:count, :, :n_in, slot] = w[slot :: self.slots]
                if biases is not None:
                    place[:count, :, n_in, slot] = biases[layer][slot :: self.slots]

    def take(self, array: np.ndarray, members: int) -> tuple[Arrays, Arrays | None]:
        """Return copies of the weights, one [R, out, in] a layer, and of the biases, one [R, out] a layer, or None."""
        weights, biases = [], []
        for layer in range(self.depth):
            n_in, place = self.units[layer], self.layer(array, layer)
            whole = np.moveaxis(place, 3, 1)  # [G, slots, out, ld]
            whole = whole.reshape(-1, *place.shape[1:3])[:members, :, : self.used[layer]]
            weights.append(np.ascontiguousarray(whole[:, :, :n_in]))
            biases.append(np.ascontiguousarray(whole[:, :, n_in]) if self.bias else None)
        return weights, biases if self.bias else None

    def take_all(self, kept: np.ndarray, members: int) -> Arrays:
        """Return copies of the weights at T records [T, G, P(, V)], and then of the biases, each [T, R, ...]."""
        records, packs = kept.shape[:2]
        flat = kept.reshape(records * packs, *kept.shape[2:])
        weights, biases = self.take(flat, len(flat) * self.slots)
        return [a.reshape(records, -1, *a.shape[1:])[:, :members] for a in (*weights, *(biases or ()))]

    def replace(
        self, array: np.ndarray, member: int, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray] | None
    ) -> None:
        """Overwrite one member's weights [out, in] and biases [out]."""
        pack, slot = divmod(member, self.slots)
        for layer, w in enumerate(weights):
            place = self.layer(array, layer)[pack, :, :, slot]
            place[:, : self.units[layer]] = w
            if biases is not None:
                place[:, self.units[layer]] = biases[layer]

    def select(self, array: np.ndarray, members: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return an array of some members, in the order given."""
        new = self.zeros(self.packs(len(members)), self.starts[-1])
        if self.slots == 1:
            new[...] = array[members]
            return new
        for place, member in enumerate(np.asarray(members).tolist()):
            (to, to_slot), (pack, slot) = divmod(place, self.slots), divmod(member, self.slots)
            new[to, :, to_slot] = array[pack, :, slot]
        return new


# --- what the kernels know of a layout

LD, USED, UNITS, AT_W, AT_H, AT_A = range(6)
"""Rows of `shape` [6, L + 1], with a column for each layer of units: stride of a sample (USED, padded in the rows
layout); units with the constant one; units without; offset of the weights that leave them; of their samples in
scratch; and, in float64 scratch, of the map from them to the outputs."""


def shape_of(layout: Layout, keep: bool = False) -> np.ndarray:
    """Return what the kernels know of a layout; columns for samples are as many as there are inputs.

    With `keep`, `compose` leaves the maps from all layers to the outputs behind; else each but the last two is written
    over.
    """
    d_out = layout.units[-1]
    at_h = np.cumsum([0, *layout.used[0] * layout.ld[:-1]])
    at_a = np.cumsum([0, *d_out * layout.ld[:-1]])
    if not keep:
        at_a = (layout.depth - 1 - np.arange(layout.depth + 1)) % 2 * d_out * layout.ld.max()
    return np.stack([layout.ld, layout.used, layout.units, layout.starts, at_h, at_a]).astype(np.int64)


def slots_of(w):
    """Members in one array: 1 (rows) or a vector's worth (packs), known at compile time."""
    return vector_length(w.dtype) if w.ndim == 2 else 1


@overload(slots_of)
def _slots_overload(w):
    count = vector_length(w.dtype.name) if w.ndim == 2 else 1
    return lambda w: count


@inner
def longest_of(shape):
    """The longest stride of all layers' samples."""
    longest = 0  # a loop: numba takes a second to compile numpy's own `max`
    for i in range(shape.shape[1]):
        longest = max(longest, shape[LD, i])
    return longest


@inner
def layer_of(shape, i):
    """Outputs, inputs, stride of inputs, stride of outputs and offset of the weights of layer i."""
    return shape[UNITS, i + 1], shape[USED, i], shape[LD, i], shape[LD, i + 1], shape[AT_W, i]
