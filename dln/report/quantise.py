"""Numbers in 16 bits on a logarithmic scale: what a curve is drawn from, with a bound on its relative error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

NAN, ZERO, INFINITY, MINUS_INFINITY, FIRST = range(5)
"""Codes of what has no size; those of positive numbers begin at FIRST, of negative ones at the largest, downwards."""

LARGEST = 2**16 - 1
FINE = 0.0
COARSE = 1e-3
"""Least steps of logarithms, which are twice the relative error: as fine as codes allow, or as far as one sees."""


@dataclass(frozen=True)
class Scale:
    """Sizes exp(low + k * step), for k = 0, 1, ..."""

    low: float
    step: float
    split: int = LARGEST + 1
    """The first code of a negative number."""

    @property
    def error(self) -> float:
        """The largest relative error of a number, rounding aside.

        >>> round(Scale(0.0, 0.002).error, 6)
        0.001001
        """
        return float(np.expm1(self.step / 2))

    def to_json(self) -> dict[str, Any]:
        """Return what a page reads it from."""
        return {"low": self.low, "step": self.step, "split": self.split}


def encode(values: np.ndarray, finest: float = FINE) -> tuple[np.ndarray, Scale]:
    """Return codes of numbers, uint16 of the same shape, and the scale that tells what they mean.

    A number x is exp(low + k * step) but for a factor within exp(+-step / 2), with its sign. Zero, NaN and the two
    infinities are kept as they are. The step is as small as codes allow for the range of sizes, but not below `finest`.

    Args:
        values: Of any shape.
        finest: The least step.

    >>> codes, scale = encode(np.array([1.0, 0.0, -100.0, np.nan, np.inf]))
    >>> decode(codes, scale).round(12).tolist()
    [1.0, 0.0, -100.0, nan, inf]
    """
    values = np.asarray(values, np.float64)
    sized = np.isfinite(values) & (values != 0)
    logs = np.log(np.abs(values), where=sized, out=np.zeros(values.shape))
    low, high = (float(logs[sized].min()), float(logs[sized].max())) if sized.any() else (0.0, 0.0)
    signed = bool((values[sized] < 0).any())
    room = (LARGEST - FIRST) // 2 if signed else LARGEST - FIRST
    step = max((high - low) / room, finest)
    size = np.rint((logs - low) / step) if step > 0 else np.zeros(values.shape)
    codes = np.where(values > 0, FIRST + size, LARGEST - size)
    for code, which in {
        NAN: np.isnan(values),
        ZERO: values == 0,
        INFINITY: values == np.inf,
        MINUS_INFINITY: values == -np.inf,
    }.items():
        codes[which] = code
    return codes.astype(np.uint16), Scale(low, step, FIRST + room + 1)


def decode(codes: np.ndarray, scale: Scale) -> np.ndarray:
    """Return the numbers that codes stand for; pages do the same in JavaScript (`store.js`)."""
    size = np.where(codes < scale.split, codes.astype(np.int64) - FIRST, LARGEST - codes.astype(np.int64))
    with np.errstate(over="ignore"):  # the largest number may be rounded up
        sizes = np.minimum(np.exp(scale.low + size * scale.step), np.finfo(np.float64).max)
    values = sizes * np.where(codes < scale.split, 1.0, -1.0)
    for code, value in {NAN: np.nan, ZERO: 0.0, INFINITY: np.inf, MINUS_INFINITY: -np.inf}.items():
        values[codes == code] = value
    return values
