"""The quantities of `dln.measure.quantities` of all members at many records at once, by kernels of their own.

The gradient of layer l is A_l' U_l: A_l = W_L ... W_{l+1} maps the layer's outputs to the net's, and U_l = G B_l',
with B_l = W_{l-1} ... W_1, carries the gradient G = dLoss / dW of the end-to-end map to the layer's inputs. Both have
as many rows as the net has outputs, so norms of gradients cost what a step on so many samples does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from dln.base.parallel import run_blocks
from dln.kernels.batches import Draw, plain
from dln.kernels.compiling import compiled
from dln.kernels.emitter import Emitter, clear, intrinsic, shared, tiles
from dln.kernels.layout import AT_A, LD, UNITS, USED, Layout, layer_of, longest_of, shape_of, slots_of
from dln.kernels.moves import fill, gather, peek, take, widen
from dln.kernels.products import forward
from dln.kernels.training import HEAD, compose


def _emit_sum_squares(e: Emitter, total: Any, w: Any, rows: Any, ld: Any, first: Any, last: Any) -> None:
    """Emit total = sum of squares of columns first..last of `rows` rows of w; total is one unit."""
    slot = e.variable(e.zero)
    start, stop = (first, last) if e.packed else (e.int(0), ld)
    places = ir.Constant(ir.VectorType(ir.IntType(64), e.n), list(range(e.n)))
    with e.range(e.int(0), rows) as (r, _), e.units(start, stop) as (k, _):
        x = e.load_weights(e.at(w, r, ld, k))
        if not e.packed:  # a row's vectors hold other columns too
            column = e.b.add(e.splat(k, places.type), places)
            inside = [
                e.b.icmp_signed("<=", e.splat(first, places.type), column),
                e.b.icmp_signed("<", column, e.splat(last, places.type)),
            ]
            x = e.b.select(e.b.and_(inside[0], inside[1]), x, e.zero)
        e.b.store(e.muladd(x, x, e.b.load(slot)), slot)
    e.store_sum(e.b.load(slot), total)


def _emit_end_gradient(
    e: Emitter, g: Any, a: Any, x: Any, y: Any, n_out: Any, ld: Any, n: Any, ldo: Any, samples: Any
) -> None:
    """Emit g[i, k] = sum_s (sum_j a[i, j] x[s, j] - y[s, i]) x[s, k]."""
    with e.range(e.int(0), n_out) as (i, _):
        clear(e, g, [i], ld, e.int(0), n)
        with e.range(e.int(0), samples) as (s, _):
            slot = e.variable(e.zero)
            with e.units(e.int(0), n) as (k, _):
                e.b.store(e.muladd(e.load(e.at(a, i, ld, k)), e.load(e.at(x, s, ld, k)), e.b.load(slot)), slot)
            output, target = e.b.load(slot), e.coefficient(e.at(y, s, ldo, i))
            residual = e.b.fsub(output if e.packed else e.splat(e.sums([output])[0]), target)
            with e.units(e.int(0), n) as (k, _):
                where = e.at(g, i, ld, k)
                e.store(e.muladd(residual, e.load(e.at(x, s, ld, k)), e.load(where)), where)


def _emit_outer_squares(
    e: Emitter, total: Any, a: Any, u: Any, n_out: Any, lda: Any, ld: Any, n: Any, samples: Any
) -> None:
    """Emit total = sum_ik (sum_s a[s, i] u[s, k])^2; total is one unit."""
    sums = e.variable(e.zero)

    def tile(rows: list[Any]) -> None:
        with e.units(e.int(0), n) as (k, _):
            entries = [e.variable(e.zero) for _ in rows]
            with e.range(e.int(0), samples) as (s, _):
                x = e.load(e.at(u, s, ld, k))
                for row, slot in zip(rows, entries, strict=True):
                    e.b.store(e.muladd(e.coefficient(e.at(a, s, lda, row)), x, e.b.load(slot)), slot)
            for slot in entries:
                entry = e.b.load(slot)
                e.b.store(e.muladd(entry, entry, e.b.load(sums)), sums)

    tiles(e, n_out, tile)
    e.store_sum(e.b.load(sums), total)


@intrinsic
def _sum_squares(typingctx, total, at, w, at_w, rows, ld, first, last):
    """Sum the squares of columns first..last of w, in the precision of total."""
    return types.void(total, at, w, at_w, rows, ld, first, last), shared(_emit_sum_squares, stored=2)


@intrinsic
def _end_gradient(typingctx, g, at_g, a, at_a, x, at_x, y, at_y, n_out, ld, n, ldo, samples, like):
    """Compute g = (x a' - y)' x; vectors are as long as those of the weights `like`."""
    kinds = (g, at_g, a, at_a, x, at_x, y, at_y, n_out, ld, n, ldo, samples, like)
    return types.void(*kinds), shared(_emit_end_gradient, stored=13, passed=13)


@intrinsic
def _outer_squares(typingctx, total, at, a, at_a, u, at_u, n_out, lda, ld, n, samples, like):
    """Sum the squares of a' u; vectors are as long as those of the weights `like`."""
    kinds = (total, at, a, at_a, u, at_u, n_out, lda, ld, n, samples, like)
    return types.void(*kinds), shared(_emit_outer_squares, stored=11, passed=11)


class _Wanted(NamedTuple):
    norms: bool
    """squares[0] and squares[1]."""
    maps: bool
    """`ends`."""
    gradients: bool
    """squares[2]; needs `maps`."""


@compiled
def _summarise(kept, shape, drawn, samples, records, wanted, squares, ends, f, first, last):
    """Find quantities of members (rows) or packs of members (packs) first..last of all records, record by record.

    Args:
        kept: Weights [T * G, P] or [T * G, P, V].
        shape: [6, L + 1]; see `dln.kernels.layout`; maps are kept.
        drawn: The batches, a `dln.kernels.batches.Drawn`.
        samples: Float64 [D, k, n + d_out]: pseudo-samples of the full batch.
        records: Which batch each record has [T].
        wanted: What to find, a `_Wanted`.
        squares: [3, T * G, L, V], written with sums of squares of weights, biases, gradients.
        ends: [T * G, d_out, ld] or [..., V], written with end-to-end maps.
        f: Float64 scratch.
        first: First to do.
        last: One past the last.
    """
    inputs, targets, dataset, stream, order, size = drawn
    depth = shape.shape[1] - 1
    n, d_out, ld0, ld_top = shape[USED, 0], shape[UNITS, depth], shape[LD, 0], shape[LD, depth]
    bias = n - shape[UNITS, 0]
    v, packs, pseudo = slots_of(kept[0]), len(dataset), samples.shape[1]
    top = shape[AT_A, depth]
    total = top + d_out * ld_top
    u = total + HEAD
    spare = u + d_out * longest_of(shape)
    x = spare + d_out * longest_of(shape)
    y = x + max(order.shape[2], pseudo) * ld0
    for item in range(first, last):
        w, m, s = kept[item], item % packs, records[item // packs]
        fill(f, 0, f.size, 0.0)  # a diverged member may have left NaN in the padding
        if wanted.norms:
            for i in range(depth):
                n_out, used, ld, _, at = layer_of(shape, i)
                _sum_squares(f, total, w, at, n_out, ld, 0, shape[UNITS, i])
                for slot in range(v):
                    squares[0, item, i, slot] = peek(f, total * v + slot)
                _sum_squares(f, total, w, at, n_out, ld, shape[UNITS, i], used)
                for slot in range(v):
                    squares[1, item, i, slot] = peek(f, total * v + slot)
        if wanted.maps:
            compose(f, w, shape)
            widen(ends[item], 0, f, shape[AT_A, 0] * v, d_out * ld0 * v)
        if wanted.gradients:
            for j in range(d_out):
                fill(f, (top + j * ld_top + j) * v, v, 1.0)
            count, scale = np.int64(size[s]), 2.0
            if count > 0:
                gather(f, x * v, ld0, v, inputs, dataset[m], stream[m], order, s, count)
                gather(f, y * v, ld_top, v, targets, dataset[m], stream[m], order, s, count)
                scale = 2 / (count * d_out)
            else:
                take(f, x * v, ld0, v, samples, dataset[m], 0, n)
                take(f, y * v, ld_top, v, samples, dataset[m], n, d_out)
                count = pseudo
            above, below = spare, u
            _end_gradient(f, below, f, shape[AT_A, 0], f, x, f, y, d_out, ld0, n, ld_top, count, w)
            for i in range(depth):
                n_out, used, ld, ldo, at = layer_of(shape, i)
                _outer_squares(f, total, f, shape[AT_A, i + 1], f, below, n_out, ldo, ld, used, d_out, w)
                for slot in range(v):
                    squares[2, item, i, slot] = scale * scale * peek(f, total * v + slot)
                if i == depth - 1:
                    break
                fill(f, above * v, d_out * ldo * v, 0.0)
                forward(f, above, w, at, f, below, n_out, ld, used, ldo, d_out)
                if bias:  # the constant feeds the next constant
                    for j in range(d_out):
                        constant = (below + j * ld + shape[UNITS, i]) * v
                        widen(f, (above + j * ldo + n_out) * v, f, constant, v)
                above, below = below, above


@compiled
def _compare(a, b, numbers, slots, packs_a, packs_b, pack_a, slot_a, pack_b, slot_b, out, first, last):
    """Compare the pairs first..last of members of two arrays of weights at all records, number by number.

    Args:
        a: Weights of lane a, [T, packs_a, numbers, slots], as a flat array.
        b: Those of lane b.
        numbers: P, units of a member's weights.
        slots: Members side by side in a pack.
        packs_a: How many packs a has at each record.
        packs_b: Of b.
        pack_a: Each pair's pack of a [R].
        slot_a: Each pair's slot in it [R].
        pack_b: Of b [R].
        slot_b: Of b [R].
        out: Zeros [T, R, 4], written with ||a - b||^2, <a, b>, ||a||^2, ||b||^2.
        first: First pair.
        last: One past the last.
    """
    for t in range(len(out)):
        for p in range(numbers):
            for r in range(first, last):
                x = np.float64(a[((t * packs_a + pack_a[r]) * numbers + p) * slots + slot_a[r]])
                y = np.float64(b[((t * packs_b + pack_b[r]) * numbers + p) * slots + slot_b[r]])
                out[t, r, 0] += (x - y) * (x - y)
                out[t, r, 1] += x * y
                out[t, r, 2] += x * x
                out[t, r, 3] += y * y


def quantities(
    names: Collection[str], layout: Layout, kept: np.ndarray, draw: Draw, offsets: Sequence[int] | np.ndarray
) -> dict[str, np.ndarray]:
    """Return quantities of all members at several records, float64 [T, R, ...].

    Args:
        names: Which of `dln.measure.quantities.IN_KERNELS`.
        layout: Of `kept`.
        kept: Weights at the records [T, G, P] or [T, G, P, V].
        draw: The R members' batches.
        offsets: Which batch of the draw each record has [T].
    """
    if not names:
        return {}
    (records, packs), members = kept.shape[:2], len(draw.dataset)
    n, d_out, ld = layout.used[0], layout.units[-1], layout.ld
    gradients = "gradient_squares" in names
    full = gradients and bool((draw.size[list(offsets)] == 0).any())
    samples = draw.data.samples if full else np.zeros((0, 0, n + d_out))
    squares = np.zeros((3, records * packs, layout.depth, layout.slots))
    maps = gradients or "end_to_end" in names
    wanted = _Wanted(bool({"weight_squares", "bias_squares"} & set(names)), maps, gradients)
    ends = layout.zeros(records * packs if maps else 0, d_out, ld[0], dtype=np.float64)
    arguments = (
        kept.reshape(records * packs, *kept.shape[2:]), shape_of(layout, keep=True), draw.packed(layout), samples,
        plain(offsets, np.int64), wanted, squares, ends,
    )  # fmt: skip
    scratch = d_out * (ld.sum() + 2 * ld.max()) + HEAD + max(draw.order.shape[2], samples.shape[1]) * (ld[0] + ld[-1])

    def work(first: int, last: int) -> None:
        _summarise(*arguments, layout.zeros(scratch, dtype=np.float64), first, last)

    run_blocks(work, records * packs)
    squares = np.moveaxis(squares.reshape(3, records, packs, layout.depth, layout.slots), 4, 3)
    squares = squares.reshape(3, records, -1, layout.depth)[:, :, :members]
    found: dict[str, np.ndarray] = dict(
        zip(("weight_squares", "bias_squares", "gradient_squares"), squares, strict=True)
    )
    if maps:
        ends = np.moveaxis(ends.reshape(records, packs, d_out, ld[0], layout.slots), 4, 2)
        found["end_to_end"] = ends.reshape(records, -1, d_out, ld[0])[:, :members, :, : layout.units[0]]
    return {name: found[name] for name in names}


def pair_quantities(
    layout: Layout, a: np.ndarray, b: np.ndarray, member_a: np.ndarray, member_b: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the quantities of pairs of members of equal layout, float64 [T, R, ...].

    Args:
        layout: Of both.
        a: Weights of lane a at the records, [T, G, P] or [T, G, P, V].
        b: Weights of lane b.
        member_a: Each pair's member of a [R].
        member_b: Each pair's member of b [R].
    """
    out = np.zeros((len(a), len(member_a), 4))
    places = [np.divmod(member, layout.slots) for member in (member_a, member_b)]
    arguments = (
        a.reshape(-1), b.reshape(-1), int(layout.starts[-1]), layout.slots, a.shape[1], b.shape[1],
        *(plain(index, np.int64) for place in places for index in place),
    )  # fmt: skip
    run_blocks(lambda first, last: _compare(*arguments, out, first, last), len(member_a))
    return {"difference_squares": out[:, :, 0], "inner_products": out[:, :, 1:]}
