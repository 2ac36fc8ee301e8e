"""The matrix products of a layer, as vector code, and the squares of a net's errors.

Three products are all that training needs. For one layer with weights W [out, in], inputs h [B, in], and the gradient g
[B, out] of the loss with respect to the layer's outputs:

    forward   o = h W'        the outputs
    pull      p = g W         the gradient with respect to the layer's inputs
    outer     W += c g' h     the update (c = -lr), or the gradient itself (c = 1, into a buffer of zeros)

`update` is pull and outer in one pass over W. The nets are far too small for a BLAS, so the products are emitted here,
with Python loops as the unroller: a tile of some rows of W and samples stays in registers. All use n_out rows of W and
n of its columns; ld is the stride of W, h and p, ldo that of o and g.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from dln.kernels.emitter import COLUMNS, Emitter, blocks, chunks, clear, intrinsic, shared, tiles


def _nest(
    e: Emitter, columns: list[Any], n_out: Any, n: Any, tile: Callable[..., None], cleared: tuple[Any, ...] = ()
) -> None:
    """Emit the loops over a layer that the products share, for some samples; `cleared` is an array and its stride.

    What they do:

        for start, stop in blocks of the n units of a row:
            cleared[columns, start:stop] = 0
            for rows in tiles of the n_out rows:
                tile(columns, rows, start, stop)
    """

    def block(start: Any, stop: Any) -> None:
        if cleared:
            array, ld = cleared
            clear(e, array, columns, ld, start, stop)
        tiles(e, n_out, lambda rows: tile(columns, rows, start, stop), len(columns))

    blocks(e, n, block)


def _coefficients(e: Emitter, g: Any, ldo: Any, columns: list[Any], rows: list[Any]) -> list[list[Any]]:
    """Load g[s, i] of a tile, row by row: what multiplies whole vectors."""
    return [[e.coefficient(e.at(g, c, ldo, r)) for c in columns] for r in rows]


def _emit_forward(e: Emitter, o: Any, w: Any, h: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any) -> None:
    """Emit o[s, i] = sum_k w[i, k] h[s, k]."""

    def tile(columns: list[Any], rows: list[Any], start: Any, stop: Any) -> None:
        target = [[e.at(o, c, ldo, r) for c in columns] for r in rows]
        sums = [[e.variable(e.zero) for _ in columns] for _ in rows]
        if e.packed:  # later blocks go on from the sums of the earlier ones
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
            if e.packed:
                for r, x in enumerate(done):
                    e.store(x, target[r][c])
            else:
                for r, x in enumerate(e.sums(done)):
                    e.b.store(x, target[r][c], align=e.bytes)

    chunks(e, samples, lambda columns: _nest(e, columns, n_out, n, tile))


def _emit_pull(e: Emitter, p: Any, w: Any, g: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any) -> None:
    """Emit p[s, k] = sum_i g[s, i] w[i, k]."""

    def tile(columns: list[Any], rows: list[Any], start: Any, stop: Any) -> None:
        gs = _coefficients(e, g, ldo, columns, rows)
        with e.units(start, stop) as (k, _):
            weights = [e.load_weights(e.at(w, r, ld, k)) for r in rows]
            for c, column in enumerate(columns):
                where = e.at(p, column, ld, k)
                x = e.load(where)
                for r in range(len(rows)):
                    x = e.muladd(gs[r][c], weights[r], x)
                e.store(x, where)

    chunks(e, samples, lambda columns: _nest(e, columns, n_out, n, tile, cleared=(p, ld)))


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

    def few(columns: list[Any], rows: list[Any], start: Any, stop: Any) -> None:  # their g stay in registers
        gs = _coefficients(e, g, ldo, columns, rows)
        with e.units(start, stop) as (k, _):
            inputs = [e.load(e.at(h, c, ld, k)) for c in columns]
            for r, row in enumerate(rows):
                total = e.b.fmul(gs[r][0], inputs[0])
                for c in range(1, len(columns)):
                    total = e.muladd(gs[r][c], inputs[c], total)
                add(total, row, k)

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
            chunks(e, samples, lambda columns: _nest(e, columns, n_out, n, few))


def _emit_update(
    e: Emitter, p: Any, w: Any, g: Any, h: Any, scale: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any
) -> None:
    """Emit p = g w with the old w, then w += scale * g' h, in one pass over w, for at most COLUMNS samples."""
    factor = e.coefficient(scale)

    def tile(columns: list[Any], rows: list[Any], start: Any, stop: Any) -> None:
        gs = _coefficients(e, g, ldo, columns, rows)
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

    for size in range(1, COLUMNS + 1):  # all samples at once: w is read before it is written
        with e.b.if_then(e.b.icmp_signed("==", samples, e.int(size))):
            _nest(e, [e.int(c) for c in range(size)], n_out, n, tile, cleared=(p, ld))


def _emit_squares(
    e: Emitter, total: Any, a: Any, x: Any, y: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any
) -> None:
    """Emit total = sum_si (sum_k a[i, k] x[s, k] - y[s, i])^2, residual by residual; total is one unit."""
    zero = e.int(0)
    sums = e.variable(e.zero if e.packed else ir.Constant(e.scalar, 0.0))
    with e.range(zero, samples) as (s, _), e.range(zero, n_out) as (i, _):
        slot = e.variable(e.zero)
        with e.units(zero, n) as (k, _):
            e.b.store(e.muladd(e.load(e.at(a, i, ld, k)), e.load(e.at(x, s, ld, k)), e.b.load(slot)), slot)
        output, target = e.b.load(slot), e.at(y, s, ldo, i)
        if not e.packed:
            (output,) = e.sums([output])
        residual = e.b.fsub(output, e.load(target) if e.packed else e.b.load(target, align=e.bytes))
        e.b.store(e.b.fadd(e.b.load(sums), e.b.fmul(residual, residual)), sums)
    if e.packed:
        e.store(e.b.load(sums), total)
    else:
        e.b.store(e.b.load(sums), total, align=e.bytes)


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
