"""LLVM vector code for the matrix products and update rules of small deep linear nets.

Three products are all that training needs. For one layer with weights W [out, in], inputs h [B, in], and the gradient g
[B, out] of the loss with respect to the layer's outputs:

    forward   o = h W'        the outputs
    pull      p = g W         the gradient with respect to the layer's inputs
    outer     W += c g' h     the update (c = -lr), or the gradient itself (c = 1, into a buffer of zeros)

`update` is pull and outer in one pass over W. The nets are far too small for a BLAS, so the products are emitted here
as vector instructions, with Python loops as the unroller: a tile of some rows of W and samples stays in registers.
There is no fast-math and every multiply-add is explicit, so a number's rounding never depends on what the optimiser
found, nor on the size of the tile or the machine's vectors.

Two layouts; the dimension of an array says which, and everything else is the same code. A *unit* of an array is

    rows    [P]       one number of one member; vectors run along a row of W, padded with zeros to whole vectors;
    lanes   [P, V]    one number of each of V members side by side; nothing is padded or summed across lanes.

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
"""Units of a row that the lanes layout visits before the next row, so that h and p stay in the first-level cache."""

HYPER = 8
LR, RATE, DECAY, KEEP, SHARE, NEW, SHRINK, EPS = range(HYPER)
"""Rows of an array of hyperparameters: learning rate; factor of `outer` in training; weight decay; momentum
(Adam: beta2); 1 - dampening (Adam: 1 - beta2); 1 - beta1; 1 - lr * decay; eps. Differences are taken in float64 and
rounded last, as torch does."""


def vector_length(dtype: Any) -> int:
    """Return how many numbers a vector holds: 16 of float32, 8 of float64."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class Emitter:
    """Writes vector instructions that compute in `scalar` on weights kept as `stored`, with n numbers a vector."""

    def __init__(self, builder: ir.IRBuilder, scalar: types.Float, stored: types.Float, lanes: bool) -> None:
        """Take the types of numbers computed in and stored, and the layout."""
        self.b = builder
        self.lanes = lanes
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
        return self.b.gep(base, [self.b.mul(unit, self.int(self.n)) if self.lanes else unit])

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
        """Store a unit's sum: of each lane (lanes), or over the elements of the vector (rows)."""
        if self.lanes:
            self.store(value, pointer)
        else:
            self.b.store(self.sums([value])[0], pointer, align=self.bytes)

    def splat(self, x: Any, vector: Any = None) -> Any:
        """Return a vector of equal numbers, of another type than usual if one is given."""
        one = ir.Constant(vector or self.vector, ir.Undefined)
        one = self.b.insert_element(one, x, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(one, one, [0] * self.n)

    def coefficient(self, pointer: Any) -> Any:
        """Load what multiplies a whole vector: one number (rows), or one a lane (lanes)."""
        return self.load(pointer) if self.lanes else self.splat(self.b.load(pointer, align=self.bytes))

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
        return self.range(start, stop, 1 if self.lanes else self.n)

    def range(self, start: Any, stop: Any, step: int = 1) -> Any:
        """Loop over integers."""
        return cgutils.for_range_slice(self.b, start, stop, self.int(step), inc=True)

    def sums(self, vectors: Sequence[Any]) -> list[Any]:
        """Sums over the elements of 1, 2 or 4 vectors, as scalars; one fixed tree, so always the same rounding."""
        n, owner = self.n, [[q] * self.n for q in range(len(vectors))]  # owner: whose partial sum is in each element
        width = n
        while len(vectors) > 1:  # two vectors become one that holds the half-sums of both
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


def _chunks(e: Emitter, count: Any, body: Callable[[list[Any]], None]) -> None:
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


def _blocks(e: Emitter, n: Any, body: Callable[[Any, Any], None]) -> None:
    """lanes: visit a row's n units in blocks; rows: all at once (a row is short enough)."""
    if not e.lanes:
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


# In all products n_out rows of W and n of its columns are used; ld is the stride of W, h and p, ldo that of o and g.


def _emit_forward(e: Emitter, o: Any, w: Any, h: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any) -> None:
    """Emit o[s, i] = sum_k w[i, k] h[s, k]."""

    def chunk(columns: list[Any]) -> None:
        def block(start: Any, stop: Any) -> None:
            def tile(rows: list[Any]) -> None:
                target = [[e.at(o, c, ldo, r) for c in columns] for r in rows]
                sums = [[e.variable(e.zero) for _ in columns] for _ in rows]
                if e.lanes:  # later blocks go on from the sums of the earlier ones
                    with e.b.if_then(e.b.icmp_signed(">", start, e.int(0))):
                        for r in range(len(rows)):
                            for c in range(len(columns)):
                                e.b.store(e.load(target[r][c]), sums[r][c])
                with e.units(start, stop) as (k, _):
                    inputs = [e.load(e.at(h, c, ld, k)) for c in columns]
                    for r, row in enumerate(rows):
                        weights = e.load_weights(e.at(w, row, ld, k))
                        for x, slot in zip(inputs, sums[r], strict=True):
                            e.b.store(e.muladd(weights, x, e.b.load(slot)), slot)
                for c in range(len(columns)):
                    done = [e.b.load(sums[r][c]) for r in range(len(rows))]
                    if e.lanes:
                        for r, x in enumerate(done):
                            e.store(x, target[r][c])
                    else:
                        for r, x in enumerate(e.sums(done)):
                            e.b.store(x, target[r][c], align=e.bytes)

            tiles(e, n_out, tile, len(columns))

        _blocks(e, n, block)

    _chunks(e, samples, chunk)


def _emit_pull(e: Emitter, p: Any, w: Any, g: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any) -> None:
    """Emit p[s, k] = sum_i g[s, i] w[i, k]."""

    def chunk(columns: list[Any]) -> None:
        def block(start: Any, stop: Any) -> None:
            clear(e, p, columns, ld, start, stop)

            def tile(rows: list[Any]) -> None:
                gs = [[e.coefficient(e.at(g, c, ldo, r)) for c in columns] for r in rows]
                with e.units(start, stop) as (k, _):
                    weights = [e.load_weights(e.at(w, r, ld, k)) for r in rows]
                    for c, column in enumerate(columns):
                        where = e.at(p, column, ld, k)
                        x = e.load(where)
                        for r in range(len(rows)):
                            x = e.muladd(gs[r][c], weights[r], x)
                        e.store(x, where)

            tiles(e, n_out, tile, len(columns))

        _blocks(e, n, block)

    _chunks(e, samples, chunk)


def _emit_outer(
    e: Emitter, w: Any, g: Any, h: Any, scale: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any
) -> None:
    """Emit w[i, k] += scale * sum_s g[s, i] h[s, k]; scale is one unit.

    The sum is taken first, so that a weight is rounded once an update, as by torch.
    """
    factor = e.coefficient(scale)

    def add(total: Any, row: Any, k: Any) -> None:
        where = e.at(w, row, ld, k)
        e.store(e.muladd(factor, total, e.load(where)), where)

    def few(columns: list[Any]) -> None:  # their g stay in registers
        def block(start: Any, stop: Any) -> None:
            def tile(rows: list[Any]) -> None:
                gs = [[e.coefficient(e.at(g, c, ldo, r)) for c in columns] for r in rows]
                with e.units(start, stop) as (k, _):
                    inputs = [e.load(e.at(h, c, ld, k)) for c in columns]
                    for r, row in enumerate(rows):
                        total = e.b.fmul(gs[r][0], inputs[0])
                        for c in range(1, len(columns)):
                            total = e.muladd(gs[r][c], inputs[c], total)
                        add(total, row, k)

            tiles(e, n_out, tile, len(columns))

        _blocks(e, n, block)

    def many(rows: list[Any]) -> None:
        with e.units(e.int(0), n) as (k, _):
            totals = [e.variable(e.zero) for _ in rows]
            with e.range(e.int(0), samples) as (s, _):
                x = e.load(e.at(h, s, ld, k))
                for row, slot in zip(rows, totals, strict=True):
                    e.b.store(e.muladd(e.coefficient(e.at(g, s, ldo, row)), x, e.b.load(slot)), slot)
            for row, slot in zip(rows, totals, strict=True):
                add(e.b.load(slot), row, k)

    with e.b.if_else(e.b.icmp_signed(">", samples, e.int(COLUMNS))) as (then, otherwise):
        with then:
            tiles(e, n_out, many)
        with otherwise:
            _chunks(e, samples, few)


def _emit_update(
    e: Emitter, p: Any, w: Any, g: Any, h: Any, scale: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any
) -> None:
    """Emit p = g w with the old w, then w += scale * g' h, in one pass over w, for at most COLUMNS samples."""
    factor = e.coefficient(scale)

    def whole(columns: list[Any]) -> None:
        def block(start: Any, stop: Any) -> None:
            clear(e, p, columns, ld, start, stop)

            def tile(rows: list[Any]) -> None:
                gs = [[e.coefficient(e.at(g, c, ldo, r)) for c in columns] for r in rows]
                with e.units(start, stop) as (k, _):
                    weights = [e.load(e.at(w, r, ld, k)) for r in rows]
                    changes: list[Any] = [None] * len(rows)
                    for c, column in enumerate(columns):
                        inputs = e.load(e.at(h, column, ld, k))
                        where = e.at(p, column, ld, k)
                        x = e.load(where)
                        for r in range(len(rows)):
                            x = e.muladd(gs[r][c], weights[r], x)
                            first = c == 0
                            changes[r] = e.b.fmul(gs[r][c], inputs) if first else e.muladd(gs[r][c], inputs, changes[r])
                        e.store(x, where)
                    for r, row in enumerate(rows):
                        e.store(e.muladd(factor, changes[r], weights[r]), e.at(w, row, ld, k))

            tiles(e, n_out, tile, len(columns))

        _blocks(e, n, block)

    for size in range(1, COLUMNS + 1):
        with e.b.if_then(e.b.icmp_signed("==", samples, e.int(size))):
            whole([e.int(c) for c in range(size)])


def _emit_squares(
    e: Emitter, total: Any, a: Any, x: Any, y: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any
) -> None:
    """Emit total = sum_si (sum_k a[i, k] x[s, k] - y[s, i])^2, residual by residual; total is one unit."""
    zero = e.int(0)
    sums = e.variable(e.zero if e.lanes else ir.Constant(e.scalar, 0.0))
    with e.range(zero, samples) as (s, _), e.range(zero, n_out) as (i, _):
        slot = e.variable(e.zero)
        with e.units(zero, n) as (k, _):
            e.b.store(e.muladd(e.load(e.at(a, i, ld, k)), e.load(e.at(x, s, ld, k)), e.b.load(slot)), slot)
        output, target = e.b.load(slot), e.at(y, s, ldo, i)
        if not e.lanes:
            (output,) = e.sums([output])
        residual = e.b.fsub(output, e.load(target) if e.lanes else e.b.load(target, align=e.bytes))
        e.b.store(e.b.fadd(e.b.load(sums), e.b.fmul(residual, residual)), sums)
    if e.lanes:
        e.store(e.b.load(sums), total)
    else:
        e.b.store(e.b.load(sums), total, align=e.bytes)


def _emit_sgd(e: Emitter, w: Any, d: Any, m: Any, hyper: Any, count: Any, first: Any, nesterov: Any) -> None:
    """Emit torch.optim.SGD on `count` units: weights w, gradient d, momentum buffer m."""
    b, zero = e.b, e.int(0)
    lr, decay, momentum, share = (e.coefficient(e.at(hyper, zero, zero, e.int(j))) for j in (LR, DECAY, KEEP, SHARE))
    first, nesterov = (b.icmp_signed("!=", flag, zero) for flag in (first, nesterov))
    buffered = b.fcmp_ordered("!=", momentum, e.zero)  # torch keeps no buffer without momentum, and ignores dampening
    with e.units(zero, count) as (k, _):
        at_w, at_d, at_m = (e.at(array, zero, zero, k) for array in (w, d, m))
        x = e.load(at_w)
        u = b.fadd(e.load(at_d), b.fmul(decay, x))
        v = b.select(first, u, b.fadd(b.fmul(momentum, e.load(at_m)), b.fmul(share, u)))
        v = b.select(buffered, v, u)
        e.store(v, at_m)
        v = b.select(nesterov, b.fadd(u, b.fmul(momentum, v)), v)
        e.store(b.fsub(x, b.fmul(lr, v)), at_w)


def _emit_adam(
    e: Emitter, w: Any, d: Any, m: Any, q: Any, hyper: Any, correction: Any, count: Any, decoupled: Any
) -> None:
    """Emit torch.optim.Adam, or AdamW (decoupled), on `count` units: weights w, gradient d, running moments m and q.

    correction: lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t), one unit each.

    Where a product overflows it is taken in torch's order, (new2 u) u and (rate mean) / bottom, and overflows as there.
    """
    b, zero = e.b, e.int(0)
    decay, beta2, new2, new1, shrink, eps = (
        e.coefficient(e.at(hyper, zero, zero, e.int(j))) for j in (DECAY, KEEP, SHARE, NEW, SHRINK, EPS)
    )
    rate, root = (e.coefficient(e.at(correction, zero, zero, e.int(j))) for j in (0, 1))
    decoupled = b.icmp_signed("!=", decoupled, zero)

    def overflown(x: Any) -> Any:
        return b.fcmp_unordered("!=", b.fsub(x, x), e.zero)

    with e.units(zero, count) as (k, _):
        at_w, at_d, at_m, at_q = (e.at(array, zero, zero, k) for array in (w, d, m, q))
        x, u, mean, square = e.load(at_w), e.load(at_d), e.load(at_m), e.load(at_q)
        u = b.select(decoupled, u, b.fadd(u, b.fmul(decay, x)))
        x = b.select(decoupled, b.fmul(x, shrink), x)
        mean = e.muladd(new1, b.fsub(u, mean), mean)
        power = b.fmul(u, u)
        power = b.select(overflown(power), b.fmul(b.fmul(new2, u), u), b.fmul(new2, power))
        square = b.fadd(b.fmul(beta2, square), power)
        e.store(mean, at_m)
        e.store(square, at_q)
        bottom = e.muladd(b.call(e.sqrt, [square]), root, eps)
        far = b.fmul(rate, mean)
        step = b.select(overflown(far), b.fdiv(far, bottom), b.fmul(rate, b.fdiv(mean, bottom)))
        e.store(b.fsub(x, step), at_w)


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
        scalar, weights, lanes = kinds[0].dtype, kinds[stored].dtype, kinds[0].ndim == 2 and not flat
        caller = Emitter(builder, scalar, weights, lanes)
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
        name = f"dln{emit.__name__}_{'lanes' if lanes else 'rows'}_{scalar}_{weights}"
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
            emit(Emitter(inner, scalar, weights, lanes), *function.args)
            inner.ret_void()
        builder.call(function, values)
        return context.get_dummy_value()

    return codegen


@intrinsic
def forward(typingctx, o, at_o, w, at_w, h, at_h, n_out, ld, n, ldo, samples):
    """Compute o = h w' for `samples` samples, in the precision of o."""
    return types.void(o, at_o, w, at_w, h, at_h, n_out, ld, n, ldo, samples), shared(_emit_forward, stored=2)


@intrinsic
def pull(typingctx, p, at_p, w, at_w, g, at_g, n_out, ld, n, ldo, samples):
    """Compute p = g w in the precision of p."""
    return types.void(p, at_p, w, at_w, g, at_g, n_out, ld, n, ldo, samples), shared(_emit_pull, stored=2)


@intrinsic
def outer(typingctx, w, at_w, g, at_g, h, at_h, scale, at_scale, n_out, ld, n, ldo, samples):
    """Add scale * g' h to w."""
    kinds = (w, at_w, g, at_g, h, at_h, scale, at_scale, n_out, ld, n, ldo, samples)
    return types.void(*kinds), shared(_emit_outer)


@intrinsic
def update(typingctx, p, at_p, w, at_w, g, at_g, h, at_h, scale, at_scale, n_out, ld, n, ldo, samples):
    """Compute p = g w, and then w += scale * g' h, for at most COLUMNS samples."""
    kinds = (p, at_p, w, at_w, g, at_g, h, at_h, scale, at_scale, n_out, ld, n, ldo, samples)
    return types.void(*kinds), shared(_emit_update)


@intrinsic
def squares(typingctx, total, at, a, at_a, x, at_x, y, at_y, n_out, ld, n, ldo, samples, like):
    """Sum the squares of x a' - y; vectors are as long as those of the weights `like`."""
    kinds = (total, at, a, at_a, x, at_x, y, at_y, n_out, ld, n, ldo, samples, like)
    return types.void(*kinds), shared(_emit_squares, stored=13, passed=13)


@intrinsic
def sgd(typingctx, w, at_w, d, at_d, m, at_m, hyper, at, count, first, nesterov):
    """One update of torch.optim.SGD."""
    return types.void(w, at_w, d, at_d, m, at_m, hyper, at, count, first, nesterov), shared(_emit_sgd)


@intrinsic
def adam(typingctx, w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count, decoupled):
    """One update of torch.optim.Adam or AdamW."""
    kinds = (w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count, decoupled)
    return types.void(*kinds), shared(_emit_adam)
