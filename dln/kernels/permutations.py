"""Batch order of many members at once: numpy's PCG64 and Generator.permutation, bit for bit, without the GIL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from dln.base.parallel import run_blocks
from dln.base.streams import position
from dln.kernels.compiling import compiled
from dln.kernels.emitter import intrinsic

_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645


class Orders:
    """Permutations of many streams: those that each generator's own `permutation` would return next.

    The generators themselves are not advanced.

    >>> orders, own = Orders([np.random.default_rng(0)]), np.random.default_rng(0)
    >>> np.array_equal(orders.permutations(5, 2)[0], [own.permutation(5), own.permutation(5)])
    True
    """

    def __init__(self, generators: Sequence[np.random.Generator]) -> None:
        """Take K generators as they stand; all must be PCG64, which is what `dln.base.streams.stream` returns."""
        self._state = np.array([position(g) for g in generators], np.uint64).reshape(-1, 6)

    def __len__(self) -> int:
        return len(self._state)

    def position(self, stream: int) -> np.ndarray:
        """Return where one of the streams stands, as `dln.base.streams.position` does."""
        return self._state[stream].copy()

    def go_on(self, stream: int, position: np.ndarray) -> None:
        """Let one of the streams go on from where another one stood."""
        self._state[stream] = position

    def select(self, streams: np.ndarray) -> Orders:
        """Return some of the streams, as they stand, to go on apart from these."""
        chosen = object.__new__(Orders)
        chosen._state = self._state[streams]
        return chosen

    def permutations(self, n: int, count: int) -> np.ndarray:
        """Return the next `count` permutations of range(n) of each stream, int32 [K, count, n]."""
        out = np.empty((len(self._state), count, n), np.int32)
        if out.size:
            run_blocks(lambda first, last: _permutations(self._state, out, first, last), len(out))
        return out


@intrinsic
def _step(typingctx, high, low, increment_high, increment_low):
    """One step of the 128-bit generator: (high, low) of the new state."""
    word = types.uint64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)

        def join(upper: Any, lower: Any) -> Any:
            return builder.or_(builder.shl(builder.zext(upper, wide), ir.Constant(wide, 64)), builder.zext(lower, wide))

        scaled = builder.mul(join(args[0], args[1]), ir.Constant(wide, _MULTIPLIER))
        new = builder.add(scaled, join(args[2], args[3]))
        halves = [builder.lshr(new, ir.Constant(wide, 64)), new]
        return context.make_tuple(builder, signature.return_type, [builder.trunc(x, ir.IntType(64)) for x in halves])

    return types.UniTuple(word, 2)(word, word, word, word), codegen


@compiled
def _permutations(state, out, first, last):
    """out[m, e] = the next Generator.permutation(out.shape[2]) of each stream m in first..last."""
    epochs, count = out.shape[1], out.shape[2]
    for m in range(first, last):
        high, low, increment_high, increment_low = state[m, 0], state[m, 1], state[m, 2], state[m, 3]
        kept, half = state[m, 4], state[m, 5]
        for e in range(epochs):
            row = out[m, e]
            for i in range(count):
                row[i] = i
            mask = np.uint64(1)
            while mask < np.uint64(count - 1):
                mask = (mask << np.uint64(1)) | np.uint64(1)
            i = count - 1
            # numpy's random_interval: masked 32-bit draws until one is <= i; a rejected draw swaps nothing (no branch)
            while i > 0:
                while (mask >> np.uint64(1)) >= np.uint64(i):
                    mask >>= np.uint64(1)
                if kept:
                    kept = np.uint64(0)
                    x = half
                else:
                    high, low = _step(high, low, increment_high, increment_low)
                    y, turn = high ^ low, high >> np.uint64(58)
                    y = (y >> turn) | (y << ((np.uint64(64) - turn) & np.uint64(63)))
                    x, half, kept = y & np.uint64(0xFFFFFFFF), y >> np.uint64(32), np.uint64(1)
                x &= mask
                accepted = x <= np.uint64(i)
                j = np.int64(x) if accepted else i
                row[i], row[j] = row[j], row[i]
                i -= np.int64(accepted)
        state[m, 0], state[m, 1], state[m, 4], state[m, 5] = high, low, kept, half
