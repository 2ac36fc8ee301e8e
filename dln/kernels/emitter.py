"""Writes LLVM vector code for numba functions: what the products, update rules and moves of the kernels are made of.

There is no fast-math and every multiply-add is explicit, so a number's rounding never depends on what the optimiser
found, nor on the size of a register tile or the machine's vectors.

Two layouts; the dimension of an array says which, and everything else is the same code. A *unit* of an array is

    rows    [P]       one number of one member; vectors run along a row of W, padded with zeros to whole vectors;
    packs   [P, V]    one number of each of V members side by side; nothing is padded or summed across slots.

A bias is one more column of W, against an input unit that is constantly 1. Offsets and strides count units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

intrinsic: Any = _intrinsic  # callers leave out the first parameter, which type checkers cannot know

ROWS, COLUMNS = 4, 5
"""The largest register tile: so many rows of W and samples."""


def _accumulators() -> int:
    """Units that stay in registers: 20 of 32 vectors where those are as long as a unit, else half as many.

    A tile's rows and samples are independent, so this changes the speed and not the digits.
    """
    return 20 if llvm.get_host_cpu_features().get("avx512f") else 10


VECTOR_BYTES = 64
BLOCK = 32
"""Units of a row that the packs layout visits before the next row, so that h and p stay in the first-level cache."""


def vector_length(dtype: Any) -> int:
    """Return how many numbers a vector holds: 16 of float32, 8 of float64.

    >>> vector_length("float32"), vector_length("float64")
    (16, 8)
    """
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class Emitter:
    """Writes vector instructions that compute in `scalar` on weights kept as `stored`, with n numbers a vector."""

    def __init__(self, builder: ir.IRBuilder, scalar: types.Float, stored: types.Float, packed: bool) -> None:
        """Take the types of numbers computed in and stored, and the layout."""
        self.b = builder
        self.packed = packed
        self.n = VECTOR_BYTES // (stored.bitwidth // 8)
        self.bytes = scalar.bitwidth // 8
        self.scalar, self.stored = _element(scalar), _element(stored)
        self.vector = ir.VectorType(self.scalar, self.n)
        self.zero = ir.Constant(self.vector, None)
        self.accumulators = _accumulators()
        self.columns = tuple(range(COLUMNS, 0, -1)) if scalar == stored else (COLUMNS, 1)
        self.fma = self._vector_function("fma", 3)
        self.sqrt = self._vector_function("sqrt", 1)

    def _vector_function(self, name: str, arity: int) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * arity)
        return cgutils.get_or_insert_function(self.b.module, kind, f"llvm.{name}.v{self.n}f{8 * self.bytes}")

    def int(self, k: int) -> ir.Constant:
        """Return an integer constant."""
        return ir.Constant(ir.IntType(64), k)

    def at(self, base: Any, row: Any, stride: Any, k: Any) -> Any:
        """Address of unit k of a row."""
        unit = self.b.add(self.b.mul(row, stride), k)
        return self.b.gep(base, [self.b.mul(unit, self.int(self.n)) if self.packed else unit])

    def load(self, pointer: Any) -> Any:
        """Load a vector."""
        return self.b.load(self.b.bitcast(pointer, self.vector.as_pointer()), align=self.bytes)

    def load_weights(self, pointer: Any) -> Any:
        """Load weights in their own precision and widen them to the one that is computed in."""
        if self.stored == self.scalar:
            return self.load(pointer)
        vector = ir.VectorType(self.stored, self.n)
        return self.b.fpext(self.b.load(self.b.bitcast(pointer, vector.as_pointer()), align=4), self.vector)

    def store(self, value: Any, pointer: Any) -> None:
        """Store a vector."""
        self.b.store(value, self.b.bitcast(pointer, self.vector.as_pointer()), align=self.bytes)

    def store_sum(self, value: Any, pointer: Any) -> None:
        """Store a unit's sum: of each slot (packs), or over the elements of the vector (rows)."""
        if self.packed:
            self.store(value, pointer)
        else:
            self.b.store(self.sums([value])[0], pointer, align=self.bytes)

    def splat(self, x: Any, vector: Any = None) -> Any:
        """Return a vector of equal numbers, of another type than usual if one is given."""
        one = ir.Constant(vector or self.vector, ir.Undefined)
        one = self.b.insert_element(one, x, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(one, one, [0] * self.n)

    def coefficient(self, pointer: Any) -> Any:
        """Load what multiplies a whole vector: one number (rows), or one a slot (packs)."""
        return self.load(pointer) if self.packed else self.splat(self.b.load(pointer, align=self.bytes))

    def shuffle(self, x: Any, y: Any, mask: Sequence[int]) -> Any:
        """Pick elements of two vectors."""
        return self.b.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(mask)), list(mask)))

    def muladd(self, x: Any, y: Any, z: Any) -> Any:
        """Return x * y + z, rounded once."""
        return self.b.call(self.fma, [x, y, z])

    def variable(self, value: Any) -> Any:
        """Return the address of a new variable, which the optimiser keeps in a register."""
        slot = cgutils.alloca_once(self.b, value.type)
        self.b.store(value, slot)
        return slot

    def units(self, start: Any, stop: Any) -> Any:
        """Loop over units, a vector of them at a time."""
        return self.range(start, stop, 1 if self.packed else self.n)

    def range(self, start: Any, stop: Any, step: int = 1) -> Any:
        """Loop over integers."""
        return cgutils.for_range_slice(self.b, start, stop, self.int(step), inc=True)

    def sums(self, vectors: Sequence[Any]) -> list[Any]:
        """Sums over the elements of 1, 2 or 4 vectors, as scalars; one fixed tree, so always the same rounding.

        Two vectors become one that holds the half-sums of both, until there is one; that one is folded. Which vector an
        element belongs to, for two of four numbers (. is nobody's):

            a a a a + b b b b  ->  a a b b  ->  a . b .
        """
        n, owner = self.n, [[q] * self.n for q in range(len(vectors))]
        width = n
        while len(vectors) > 1:
            width //= 2
            low = [g * 2 * width + j for g in range(n // (2 * width)) for j in range(width)]
            low += [n + j for j in low]
            high = [j + width for j in low]
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [self.b.fadd(self.shuffle(x, y, low), self.shuffle(x, y, high)) for x, y in pairs]
            owner = [[(x + y)[j] for j in low] for x, y in zip(owner[::2], owner[1::2], strict=True)]
        (x,), (owners,) = vectors, owner
        places = [[j for j in range(n) if owners[j] == q] for q in sorted(set(owners))]
        size = len(places[0])
        while size > 1:
            size //= 2
            fold = list(range(n))
            for place in places:
                for j in range(size):
                    fold[place[j]] = place[j + size]
            x = self.b.fadd(x, self.shuffle(x, x, fold))
        return [self.b.extract_element(x, ir.Constant(ir.IntType(32), place[0])) for place in places]


def _element(kind: types.Float) -> ir.Type:
    return ir.FloatType() if kind == types.float32 else ir.DoubleType()


def tiles(e: Emitter, count: Any, body: Callable[[list[Any]], None], columns: int = 1) -> None:
    """Loop over rows in tiles, as many as `columns` leaves registers for, then one by one; `body` gets the rows."""
    start, rows = e.int(0), ROWS
    while rows > max(1, e.accumulators // columns):
        rows //= 2
    for size in (rows, 1):
        stop = e.b.sub(count, e.b.srem(e.b.sub(count, start), e.int(size)))
        with e.range(start, stop, size) as (i, _):
            body([e.b.add(i, e.int(r)) for r in range(size)])
        start = stop


def chunks(e: Emitter, count: Any, body: Callable[[list[Any]], None]) -> None:
    """Loop over samples, COLUMNS at a time, and the rest; `body` gets the numbers of the samples."""
    start = e.int(0)
    full = e.b.sub(count, e.b.srem(count, e.int(COLUMNS)))
    with e.range(start, full, COLUMNS) as (s, _):
        body([e.b.add(s, e.int(c)) for c in range(COLUMNS)])
    if e.columns == (COLUMNS, 1):
        with e.range(full, count) as (s, _):
            body([s])
        return
    rest = e.b.sub(count, full)
    for size in e.columns[1:]:
        with e.b.if_then(e.b.icmp_signed("==", rest, e.int(size))):
            body([e.b.add(full, e.int(c)) for c in range(size)])


def blocks(e: Emitter, n: Any, body: Callable[[Any, Any], None]) -> None:
    """packs: visit a row's n units in blocks; rows: all at once (a row is short enough)."""
    if not e.packed:
        body(e.int(0), n)
        return
    with e.range(e.int(0), n, BLOCK) as (start, _):
        end = e.b.add(start, e.int(BLOCK))
        body(start, e.b.select(e.b.icmp_signed("<", end, n), end, n))


def clear(e: Emitter, p: Any, columns: list[Any], ld: Any, start: Any, stop: Any) -> None:
    """Zero units start..stop of some rows of p."""
    for c in columns:
        with e.units(start, stop) as (k, _):
            e.store(e.zero, e.at(p, c, ld, k))


def shared(
    emit: Callable[..., None], stored: int = 0, passed: int | None = None, flat: bool = False, whole: Sequence[int] = ()
) -> Callable[..., Any]:
    """Return the code generator of a numba function f(array, offset, array, offset, ..., numbers).

    The code becomes one LLVM function that all its call sites share: compiling a copy at each takes twice as long.

    Args:
        emit: Writes the body. What it stores never overlaps what it loads from another argument.
        stored: Which argument is the array that weights are stored as; its precision sets the vector length. The first
            argument's is computed in.
        passed: How many of the arguments `emit` takes; all if None.
        flat: Offsets count numbers, not units.
        whole: Arguments that are arrays without an offset; `emit` gets each one's shape after its address.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        scalar, weights, packed = kinds[0].dtype, kinds[stored].dtype, kinds[0].ndim == 2 and not flat
        caller = Emitter(builder, scalar, weights, packed)
        values = []
        for i, kind in enumerate(kinds[:passed]):
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, args[i])
                if i in whole:
                    values += [array.data, *cgutils.unpack_tuple(builder, array.shape, kind.ndim)]
                else:
                    values.append(caller.at(array.data, caller.int(0), caller.int(0), args[i + 1]))
            elif i - 1 in whole or not isinstance(kinds[i - 1], types.Array):
                values.append(args[i])
        name = f"dln{emit.__name__}_{'packs' if packed else 'rows'}_{scalar}_{weights}"
        function = builder.module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
            function = ir.Function(builder.module, kind, name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            for argument in function.args:
                if isinstance(argument.type, ir.PointerType):
                    argument.add_attribute("noalias")
            inner = ir.IRBuilder(function.append_basic_block())
            emit(Emitter(inner, scalar, weights, packed), *function.args)
            inner.ret_void()
        builder.call(function, values)
        return context.get_dummy_value()

    return codegen
