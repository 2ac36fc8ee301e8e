"""Moving numbers about: filling, converting, gathering batches.

These are emitted too, as each would otherwise take numba as long to compile as all the products together.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from dln.kernels.emitter import Emitter, intrinsic, shared


def _convert(e: Emitter, x: Any, to: Any) -> Any:
    if x.type == to:
        return x
    return e.b.fptrunc(x, to) if to == ir.FloatType() else e.b.fpext(x, to)


def _emit_fill(e: Emitter, target: Any, count: Any, value: Any) -> None:
    value = _convert(e, value, e.scalar)
    with e.range(e.int(0), count) as (j, _):
        e.b.store(value, e.b.gep(target, [j]))


def _emit_widen(e: Emitter, target: Any, source: Any, count: Any) -> None:
    with e.range(e.int(0), count) as (j, _):
        e.b.store(_convert(e, e.b.load(e.b.gep(source, [j])), e.scalar), e.b.gep(target, [j]))


def _emit_add(e: Emitter, target: Any, source: Any, count: Any) -> None:
    with e.range(e.int(0), count) as (j, _):
        where = e.b.gep(target, [j])
        e.b.store(e.b.fadd(e.b.load(where), e.b.load(e.b.gep(source, [j]))), where)


def _emit_subtract(e: Emitter, target: Any, source: Any, count: Any, scale: Any) -> None:
    scale = _convert(e, scale, e.scalar)
    with e.range(e.int(0), count) as (j, _):
        where = e.b.gep(target, [j])
        difference = e.b.fsub(e.b.load(where), e.b.load(e.b.gep(source, [j])))
        e.b.store(e.b.fmul(scale, difference), where)


def _emit_reach(e: Emitter, total: Any, x: Any, count: Any) -> None:
    """Emit total += x^2 element by element, over whole vectors of x; total is one vector."""
    zero = e.int(0)
    sums = e.variable(e.load(total))
    with e.units(zero, count) as (k, _):
        value = e.load(e.at(x, zero, zero, k))
        e.b.store(e.muladd(value, value, e.b.load(sums)), sums)
    e.store(e.b.load(sums), total)


def _emit_rows(
    e: Emitter, target: Any, ld: Any, v: Any, source: Any, width: Any, first: Any, n: Any, count: Any, locate: Any
) -> None:
    """Emit target[j, k, slot] = source[locate(slot, j), first + k]."""
    b = e.b
    with e.range(e.int(0), v) as (slot, _), e.range(e.int(0), count) as (j, _):
        start = b.add(b.mul(locate(slot, j), width), first)
        with e.range(e.int(0), n) as (k, _):
            x = _convert(e, b.load(b.gep(source, [b.add(start, k)])), e.scalar)
            b.store(x, b.gep(target, [b.add(b.mul(b.add(b.mul(j, ld), k), v), slot)]))


def _emit_take(
    e: Emitter, target: Any, ld: Any, v: Any, source: Any, _: Any, rows: Any, width: Any, dataset: Any, __: Any,
    first: Any, n: Any,
) -> None:  # fmt: skip
    def locate(slot: Any, j: Any) -> Any:
        return e.b.add(e.b.mul(e.b.load(e.b.gep(dataset, [slot])), rows), j)

    _emit_rows(e, target, ld, v, source, width, first, n, rows, locate)


def _emit_gather(
    e: Emitter, target: Any, ld: Any, v: Any, source: Any, _: Any, rows: Any, n: Any, dataset: Any, __: Any,
    stream: Any, ___: Any, order: Any, ____: Any, drawn: Any, capacity: Any, step: Any, count: Any,
) -> None:  # fmt: skip
    b = e.b

    def locate(slot: Any, j: Any) -> Any:
        batch = b.add(b.mul(b.load(b.gep(stream, [slot])), drawn), step)
        sample = b.sext(b.load(b.gep(order, [b.add(b.mul(batch, capacity), j)])), ir.IntType(64))
        return b.add(b.mul(b.load(b.gep(dataset, [slot])), rows), sample)

    _emit_rows(e, target, ld, v, source, n, e.int(0), n, count, locate)


@intrinsic
def peek(typingctx, array, at):
    """Return number `at` of an array of any shape."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), codegen


@intrinsic
def fill(typingctx, target, at, count, value):
    """target[at : at + count] = value. Here and below, offsets and counts are of numbers."""
    return types.void(target, at, count, types.float64), shared(_emit_fill, flat=True)


@intrinsic
def widen(typingctx, target, at, source, at_source, count):
    """target[...] = source[...] in the precision of target."""
    return types.void(target, at, source, at_source, count), shared(_emit_widen, stored=2, flat=True)


@intrinsic
def add(typingctx, target, at, source, at_source, count):
    """target[...] += source[...]."""
    return types.void(target, at, source, at_source, count), shared(_emit_add, flat=True)


@intrinsic
def subtract(typingctx, target, at, source, at_source, count, scale):
    """target[...] = scale * (target[...] - source[...])."""
    return types.void(target, at, source, at_source, count, types.float64), shared(_emit_subtract, flat=True)


@intrinsic
def add_squares(typingctx, total, at, x, at_x, count):
    """Add the squares of x[...], whole vectors of it, to one vector total[at : ...]."""
    return types.void(total, at, x, at_x, count), shared(_emit_reach, flat=True)


@intrinsic
def take(typingctx, target, at, ld, v, source, dataset, first, n):
    """target[j, k, slot] = source[dataset[slot], j, first + k] for k < n."""
    kinds = (target, at, ld, v, source, dataset, first, n)
    return types.void(*kinds), shared(_emit_take, stored=4, flat=True, whole=(4, 5))


@intrinsic
def gather(typingctx, target, at, ld, v, source, dataset, stream, order, step, count):
    """target[j, k, slot] = source[dataset[slot], order[stream[slot], step, j], k]: the batch of every slot."""
    kinds = (target, at, ld, v, source, dataset, stream, order, step, count)
    return types.void(*kinds), shared(_emit_gather, stored=4, flat=True, whole=(4, 5, 6, 7))
