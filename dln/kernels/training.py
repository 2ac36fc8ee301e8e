"""The training loop of the compiled engine: members trained for many steps, their losses measured on the way.

With more samples in a batch than there are inputs, the columns of the identity are propagated instead of the batch:

    the batch       inputs X [B, n]      outputs X A'      their gradient  (2 / d_out) (X A' - Y) / B
    the identity    inputs I [n, n]      outputs A'        their gradient  (2 / d_out) (X'X A' - X'Y) / B = G'

The gradient of the end-to-end map A is G, and layer l gets (W_L ... W_{l+1})' G (W_{l-1} ... W_1)' either way, so any
batch costs what one of n samples does. Losses are not computed this way: they would cancel to nothing when they are
small.

With biases this holds as it stands, for what is affine in x is linear in (x, 1): n counts a constant input, which feeds
a constant unit of each layer, whose weights the biases are. Every sample of a batch has 1 in these units. Of the
identity's columns only the last has, the constant's own: its output is the bias of the end-to-end map, and those of the
others, which have 0 there, are the columns of the map's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dln.kernels.batches import Drawn
from dln.kernels.compiling import compiled, inner
from dln.kernels.emitter import COLUMNS
from dln.kernels.layout import AT_A, AT_H, AT_W, LD, UNITS, USED, Layout, layer_of, longest_of, slots_of
from dln.kernels.moves import add, add_squares, fill, gather, peek, subtract, take, widen
from dln.kernels.products import forward, outer, pull, squares, update
from dln.kernels.rules import EPS, HYPER, LR, RATE, SHRINK, step

HEAD = 16
"""Units of scratch kept for single coefficients: a whole vector in the rows layout."""

GRADIENT_ROWS = 8
"""Rows of a layer whose gradient is kept before the rule is applied to them: it stays in the first-level cache."""


@inner
def compose(f, w, shape):
    """Write the maps W_L ... W_{i+1} [d_out, units] from layers of units to the outputs, in float64, to f.

    The product is taken from the top layer down, so that vectors run along rows of W; the last is the end-to-end map.
    """
    depth = shape.shape[1] - 1
    v, d_out, bias = slots_of(w), shape[UNITS, depth], shape[USED, 0] - shape[UNITS, 0]
    widen(f, shape[AT_A, depth - 1] * v, w, shape[AT_W, depth - 1] * v, d_out * shape[LD, depth - 1] * v)
    for i in range(depth - 2, -1, -1):
        a, b = shape[AT_A, i], shape[AT_A, i + 1]
        ld, ldo = shape[LD, i], shape[LD, i + 1]
        pull(f, a, w, shape[AT_W, i], f, b, shape[UNITS, i + 1], ld, shape[USED, i], ldo, d_out)
        if bias:  # the constant unit feeds the next constant unit
            for j in range(d_out):
                add(f, (a + j * ld + shape[UNITS, i]) * v, f, (b + j * ldo + shape[UNITS, i + 1]) * v, v)


class Method(NamedTuple):
    """How weights are updated."""

    variant: int
    """The rule's; see `dln.kernels.rules`."""
    done: int
    """Updates made before."""
    hyper: np.ndarray
    """[G, K HYPER, V], HYPER rows for each layer or, if K is 1, for all; see `dln.kernels.rules`. Rows LR, RATE and
    SHRINK are written by `train`."""
    lr: np.ndarray
    """Float64 learning rates [S, G, V], one for each update, or the same for all if S is 1."""
    lr_factors: np.ndarray
    """Float64 factors on them [K], one a layer, or the same for all if K is 1; layers whose factor is 0 are frozen."""
    decay: float
    """Weight decay."""
    correction: np.ndarray
    """Float64 [updates, 2], the rule's factors of the updates, or none."""


class Condensed(NamedTuple):
    """Whole sets in fewer numbers; see `dln.kernels.batches.Data`. What is not needed is empty."""

    moments: np.ndarray
    """[D, n, n + d_out], X'X / N and X'Y / N, for gradients on full batches."""
    samples: np.ndarray
    """Float64 [D, k, n + d_out], whose squared residuals sum to the loss on the training set."""
    tests: np.ndarray
    """The same of the test sets."""
    test_of: np.ndarray
    """[G, V], the row of tests that is a member's."""


class Noted(NamedTuple):
    """What `train` writes down on the way."""

    records: np.ndarray
    """Sorted offsets [T] at which losses are measured, before the update."""
    losses: np.ndarray
    """Float64 [2, T, G, V]: batch and test losses."""
    kept: np.ndarray
    """[T, G, P] or [T, G, P, V]: the weights at each record; nothing is if T is 0."""
    reach: np.ndarray
    """Zeros [S, G, VECTOR]: the squares of what the members' outputs are made of are added, step by step or, if S is 1,
    of all steps; also of the step after the last update, if its batch is drawn. A slot has its element, a member in the
    rows layout the whole vector. Nothing is if S is 0."""


class Scratch(NamedTuple):
    """Where `train` computes: zeros, of one thread."""

    d: np.ndarray
    """Gradient of GRADIENT_ROWS rows of a layer."""
    z: np.ndarray
    """The batch and its moments."""
    h: np.ndarray
    """The units' values: the layers' outputs, sample by sample."""
    g: np.ndarray
    """Gradients with respect to them."""
    f: np.ndarray
    """Float64, for losses: maps, and samples to measure on."""


def scratch_maker(layout: Layout, drawn: Drawn, condensed: Condensed, recorded: bool) -> Callable[[], Scratch]:
    """Return what makes room for `train`, of one thread each time; for losses only if any are `recorded`."""
    n, d_out, capacity = int(layout.used[0]), int(layout.units[-1]), drawn.order.shape[2]
    ld = layout.ld.tolist()
    sample = ld[0] + ld[-1]
    samples = capacity + condensed.samples.shape[1] + condensed.tests.shape[1]
    units = n * sum(ld)  # never more than n columns: larger batches are condensed
    for_losses = 2 * d_out * max(ld) + HEAD + samples * sample if recorded else 0
    return lambda: Scratch(
        d=layout.zeros(GRADIENT_ROWS * max(ld)),
        z=layout.zeros(HEAD + (n + capacity) * sample),
        h=layout.zeros(units),
        g=layout.zeros(units),
        f=layout.zeros(for_losses, dtype=np.float64),
    )


@compiled
def train(weights, buffers, method, shape, drawn, condensed, updates, noted, scratch, first, last):
    """Train members (rows) or packs of members (packs) first..last in place.

    Args:
        weights: [G, P] or [G, P, V].
        buffers: The rule's arrays, like weights, or None; their type decides at compile time what is done.
        method: How they are updated, a `Method`.
        shape: [6, L + 1]; see `dln.kernels.layout`.
        drawn: The batches, a `Drawn`.
        condensed: Whole sets, a `Condensed`.
        updates: How many to make.
        noted: What is written on the way, a `Noted`.
        scratch: Where to compute, a `Scratch`.
        first: First member or pack.
        last: One past the last.
    """
    variant, done, hyper, lr, lr_factors, decay, correction = method
    inputs, targets, dataset, stream, order, size = drawn
    moments, samples, tests, test_of = condensed
    records, losses, kept, reach = noted
    d, z, h, g, f = scratch
    depth, a = shape.shape[1] - 1, shape[AT_A, 0]
    n, d_out, ld0, ld_top, top = shape[USED, 0], shape[UNITS, depth], shape[LD, 0], shape[LD, depth], shape[AT_H, depth]
    bias = n - shape[UNITS, 0]
    capacity, pseudo, tested = order.shape[2], samples.shape[1], tests.shape[1]
    v = slots_of(weights[0])
    # Offsets in z: 1 / B; the step's length and the second correction; X'X / B; X'Y / B; inputs, targets of the batch.
    share, factors, sigma = 0, 1, HEAD
    cross = sigma + n * ld0
    x = cross + n * ld_top
    y = x + capacity * ld0
    # Offsets in f: the end-to-end map, twice; a sum; inputs and targets of the batch, the training set, the test set.
    total = 2 * d_out * longest_of(shape)
    batch_x = total + HEAD
    batch_y = batch_x + capacity * ld0
    train_x = batch_y + capacity * ld_top
    train_y = train_x + pseudo * ld0
    test_x = train_y + pseudo * ld_top
    test_y = test_x + tested * ld0
    for m in range(first, last):
        w, own, data, draws = weights[m], hyper[m], dataset[m], stream[m]
        # A diverged member may have left NaN in the padding.
        fill(z, 0, z.size, 0.0)
        fill(h, 0, h.size, 0.0)
        fill(g, 0, g.size, 0.0)
        if len(records) > 0:
            fill(f, 0, f.size, 0.0)
        if len(samples) > 0:
            take(f, train_x * v, ld0, v, samples, data, 0, n)
            take(f, train_y * v, ld_top, v, samples, data, n, d_out)
        if len(tests) > 0:
            take(f, test_x * v, ld0, v, tests, test_of[m], 0, n)
            take(f, test_y * v, ld_top, v, tests, test_of[m], n, d_out)
        record = 0
        for s in range(updates + 1):
            # Losses
            while record < len(records) and records[record] == s:
                if len(kept) > 0:
                    widen(kept[record, m], 0, w, 0, w.size)
                compose(f, w, shape)
                count = np.int64(size[s])
                if count > 0:
                    gather(f, batch_x * v, ld0, v, inputs, data, draws, order, s, count)
                    gather(f, batch_y * v, ld_top, v, targets, data, draws, order, s, count)
                    squares(f, total, f, a, f, batch_x, f, batch_y, d_out, ld0, n, ld_top, count, w)
                else:
                    squares(f, total, f, a, f, train_x, f, train_y, d_out, ld0, n, ld_top, pseudo, w)
                for slot in range(v):
                    losses[0, record, m, slot] = peek(f, total * v + slot) / (max(count * d_out, 1))
                if len(tests) > 0:
                    squares(f, total, f, a, f, test_x, f, test_y, d_out, ld0, n, ld_top, tested, w)
                    for slot in range(v):
                        losses[1, record, m, slot] = peek(f, total * v + slot)
                record += 1
            if s == updates and (len(reach) == 0 or s == len(size)):
                break
            # Learning rate, rounded last
            at_rate = min(s, len(lr) - 1)
            if s == 0 or at_rate > 0:
                for k in range(len(lr_factors)):
                    for slot in range(v):
                        rate, at_own = lr[at_rate, m, slot] * lr_factors[k], k * HYPER
                        fill(own, (at_own + LR) * v + slot, 1, rate)
                        fill(own, (at_own + RATE) * v + slot, 1, -rate if buffers is None else 1.0)
                        fill(own, (at_own + SHRINK) * v + slot, 1, 1 - rate * decay)
            # Inputs: the batch, or the columns of the identity
            count = np.int64(size[s])
            changed = s == 0 or size[s - 1] != count
            identity = count == 0 or count > n
            columns = n if identity else count
            if not identity:
                gather(h, 0, ld0, v, inputs, data, draws, order, s, count)
                gather(z, y * v, ld_top, v, targets, data, draws, order, s, count)
            elif changed:
                fill(h, 0, n * ld0 * v, 0.0)
                for j in range(n):
                    fill(h, (j * ld0 + j) * v, v, 1.0)
            if identity and count > 0:
                gather(z, x * v, ld0, v, inputs, data, draws, order, s, count)
                gather(z, y * v, ld_top, v, targets, data, draws, order, s, count)
                fill(z, share * v, v, 1 / count)
                fill(z, sigma * v, (x - sigma) * v, 0.0)
                outer(z, sigma, z, x, z, x, z, share, n, ld0, n, ld0, count)
                outer(z, cross, z, x, z, y, z, share, n, ld_top, d_out, ld0, count)
            elif identity and changed:
                take(z, sigma * v, ld0, v, moments, data, 0, n)
                take(z, cross * v, ld_top, v, moments, data, n, d_out)
            if bias and changed:  # of the identity's columns only the last, the constant's own, carries the constant
                for i in range(1, depth):
                    for j in range(columns):
                        at = shape[AT_H, i] + j * shape[LD, i] + shape[UNITS, i]
                        fill(h, at * v, v, 0.0 if identity and j < n - 1 else 1.0)
            # Outputs, and the gradient of the loss with respect to them
            for i in range(depth):
                n_out, used, ld, ldo, at = layer_of(shape, i)
                forward(h, shape[AT_H, i + 1], w, at, h, shape[AT_H, i], n_out, ld, used, ldo, columns)
            if len(reach) > 0:
                row = min(s, len(reach) - 1) * len(weights) + m
                add_squares(reach, row * reach.shape[2], h, top * v, columns * ld_top * v)
            if s == updates:
                break
            if identity:
                pull(g, top, h, top, z, sigma, n, ld_top, d_out, ld0, n)
                subtract(g, top * v, z, cross * v, n * ld_top * v, 2 / d_out)
            else:
                widen(g, top * v, h, top * v, count * ld_top * v)
                subtract(g, top * v, z, y * v, count * ld_top * v, 2 / (count * d_out))
            # Gradients and updates, from the top layer down
            for i in range(depth - 1, -1, -1):
                n_out, used, ld, ldo, at = layer_of(shape, i)
                below, above = shape[AT_H, i], shape[AT_H, i + 1]
                layer = min(i, len(lr_factors) - 1)
                at_own, frozen = layer * HYPER, lr_factors[layer] == 0
                if buffers is None and i > 0 and columns <= COLUMNS and not frozen:
                    update(g, below, w, at, g, above, h, below, own, at_own + RATE, n_out, ld, used, ldo, columns)
                    continue
                if i > 0:
                    pull(g, below, w, at, g, above, n_out, ld, used, ldo, columns)
                if frozen:
                    continue
                if buffers is None:
                    outer(w, at, g, above, h, below, own, at_own + RATE, n_out, ld, used, ldo, columns)
                    continue
                if len(correction) > 0:
                    for slot in range(v):
                        rate = lr[at_rate, m, slot] * lr_factors[layer]
                        fill(z, factors * v + slot, 1, rate * correction[s, 0])
                        fill(z, (factors + 1) * v + slot, 1, correction[s, 1])
                for row in range(0, n_out, GRADIENT_ROWS):
                    rows, at_row = min(GRADIENT_ROWS, n_out - row), at + row * ld
                    fill(d, 0, rows * ld * v, 0.0)
                    outer(d, 0, g, above + row, h, below, own, at_own + RATE, rows, ld, used, ldo, columns)
                    first_of_all = np.int64(done + s == 0)
                    step(buffers, m, w, at_row, d, own, at_own, z, factors, rows * ld, first_of_all, variant)
                    if v == 1 and own[EPS, 0] == 0:  # the padding divided 0 by 0
                        for j in range(rows):
                            fill(w, at_row + j * ld + used, ld - used, 0.0)
