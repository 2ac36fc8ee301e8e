"""The step at which members diverge: the first whose batch loss, found as `dln.train` finds it, is not finite.

The kernels add up the squares of the outputs on the way, which bounds every loss at next to no cost. Only a stretch in
which that bound comes near the largest number is gone through again, and there torch computes the loss: whether a sum
overflows depends on precision and order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import MSELoss

from dln.kernels.batches import Data, Draw
from dln.kernels.state import State
from dln.model import DeepLinearNetwork

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

MARGIN = 1e4
"""How far below the largest number a sum of squared residuals is safe, whatever its order: 100 times in a residual."""

AT_ONCE, BYTES = 256, 2**24
"""Steps that are gone through again at a time, at most, and how large their weights may be."""


def near_limit(loss: Any, count: int, dtype: np.dtype) -> Bool[np.ndarray, " *r"]:
    """Return where the sum of `count` squares whose mean is `loss` may overflow; NaN counts as near too.

    >>> near_limit([1.0, 1e37, np.nan], 10, np.dtype("float32")).tolist()
    [False, True, True]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return ~(np.asarray(loss, np.float64) * count < np.finfo(dtype).max / MARGIN)


def may_overflow(reach: Float64[np.ndarray, "*s r"], draw: Draw, dtype: np.dtype) -> Bool[np.ndarray, "*s r"]:
    """Return which members may have had a loss that is not finite, by their `reach` in `State.train`.

    The residuals are h - y, or A x - y with the map A: their squares sum to 2 |h|^2 + 2 |y|^2 at most, and |h|^2 to
    |A|^2 |x|^2.
    """
    inputs, targets = draw.data.squares[draw.dataset].T
    with np.errstate(over="ignore", invalid="ignore"):
        return near_limit(2 * (reach * np.maximum(inputs, 1) + targets), 1, dtype)


def records_near_limit(
    losses: Sequence[Float64[np.ndarray, "t r"]], draw: Draw, test: Data | None, dtype: np.dtype
) -> Bool[np.ndarray, "2 t r"]:
    """Return which recorded losses, on the batch and on the test set, are near the limit."""
    counts = draw.largest, 0 if test is None else test.inputs.shape[1]
    outputs = draw.data.targets.shape[2]
    return np.stack([near_limit(a, n * outputs, dtype) & (n > 0) for a, n in zip(losses, counts, strict=True)])


def torch_loss(parameters: Sequence[np.ndarray], depth: int, inputs: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean squared error of a network with `depth` weights, and then biases, as `dln.train` finds it."""
    model = DeepLinearNetwork.from_weights(parameters[:depth], parameters[depth:] or None, check=False)
    with torch.no_grad():
        return MSELoss()(model(torch.from_numpy(inputs)), torch.from_numpy(targets)).item()


@dataclass
class Close:
    """A member at a step at which its losses are near the largest number."""

    place: int
    offset: int
    parameters: list[np.ndarray]
    """Its weights, and then biases."""
    train_loss: float
    """As torch finds it."""


def go_through(
    state: State, draw: Draw, updates: int, lr: Float64[np.ndarray, "s r"], test: Data | None, test_of: np.ndarray
) -> Iterator[Close]:
    """Train members again and yield every step at which they come near the limit, up to the first that is lost.

    Args:
        state: The members as they were at the start; it is trained.
        draw: The batches of all steps whose losses count.
        updates: How many of the steps end in an update.
        lr: Learning rates, one for each update or the same for all.
        test: Test sets, or None.
        test_of: Each member's row of them.
    """
    steps, layout, lost = len(draw.size), state.layout, np.zeros(state.members, bool)
    at_once = min(AT_ONCE, max(1, BYTES // state.nbytes))
    for first in range(0, steps, at_once):
        part = draw.between(first, min(first + at_once, steps))
        count = len(part.size)
        rates = lr[min(first, len(lr) - 1) :][:count]
        kept, reach = state.blank(count), np.empty((count, state.members))
        losses = state.train(part, min(count, updates - first), rates, range(count), test, test_of, kept, reach)
        close = may_overflow(reach, part, layout.dtype) | records_near_limit(losses, part, test, layout.dtype).any(0)
        parameters = layout.take_all(kept, state.members)
        for place, offset in np.argwhere(close.T).tolist():
            if not lost[place]:
                own = [a[offset, place].copy() for a in parameters]
                loss = torch_loss(own, layout.depth, *part.samples(place, offset))
                lost[place] = not np.isfinite(loss)
                yield Close(place, first + offset, own, loss)
        if lost.all():
            return
