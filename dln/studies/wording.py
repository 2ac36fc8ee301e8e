"""Numbers and departures in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

WAYS = {1: "above", -1: "below"}


def digits(value: float | None, count: int = 4) -> str:
    """Write a number, or a dash where there is none.

    >>> digits(0.123), digits(None), digits(2.0, 3)
    ('0.1230', '-', '2.00')
    """
    return "-" if value is None else f"{value:#.{count}g}"


def between(value: float | None, low: float | None, high: float | None) -> str:
    """Write a number and its interval, with as many digits as tell the ends apart.

    >>> between(0.98, 0.97, 0.99), between(12.0, 11.9999, 12.0001), between(2.0, None, None)
    ('0.9800 [0.9700, 0.9900]', '12.00000 [11.99990, 12.00010]', '2.000')
    """
    if value is None or low is None or high is None:
        return digits(value)
    size = abs(value) / (high - low) if high > low else 1
    count = min(max(math.ceil(math.log10(max(size, 1))) + 2, 4), 12)
    return f"{digits(value, count)} [{digits(low, count)}, {digits(high, count)}]"


def sentence(row: Mapping[str, Any], confidence: float = 0.95) -> str:
    r"""Say where a condition leaves its baseline, and how it ends, from a row of `outcomes`.

    >>> row = {"curve": "loss", "first": 20, "first side": 1, "first p": 1e-9, "lasting": 60, "lasting side": -1}
    >>> row |= {"step": 100, "runs": 50, "diverged": 2, "stopped": 0, "count": 48}
    >>> row |= {"ratio": 0.98, "ratio low": 0.97, "ratio high": 0.99}
    >>> print(sentence(row).replace("; ", "\n"))
    loss leaves the baseline at step 20, above it (p = 1e-09), and from step 60 on it stays below
    at step 100 it is 0.9800 [0.9700, 0.9900] of it (95 %, 48 of 50 runs, 2 diverged)
    """
    told = f"{row['curve']} {_departure(row)}; at step {row['step']} "
    if row["ratio"] is None:
        told += "there is no ratio ("
    else:
        told += f"it is {between(row['ratio'], row['ratio low'], row['ratio high'])} of it ({100 * confidence:g} %, "
    return f"{told}{counted(row)})"


def counted(row: Mapping[str, Any]) -> str:
    """Say how many runs there are, and how many of them are counted no more.

    >>> counted({"runs": 50, "count": 48, "diverged": 2, "stopped": 0})
    '48 of 50 runs, 2 diverged'
    """
    counts = [f"{row['count']} of {row['runs']} runs" if row["count"] < row["runs"] else f"{row['runs']} runs"]
    return ", ".join([*counts, *(f"{row[name]} {name}" for name in ("diverged", "stopped") if row[name])])


def _departure(row: Mapping[str, Any]) -> str:
    if row["first"] is None:
        return "stays within the baseline's band"
    p = f"p = {row['first p']:.0e}" if row["first p"] else "p < 1e-300"
    left = f"leaves the baseline at step {row['first']}, {WAYS[row['first side']]} it ({p}), "
    if row["lasting"] is None:
        return f"{left}but not to the end"
    side = WAYS[row["lasting side"]]
    if row["lasting"] == row["step"]:
        return f"{left}and is {side} at the end"
    return (
        f"{left}and stays there"
        if row["lasting"] == row["first"]
        else f"{left}and from step {row['lasting']} on it stays {side}"
    )
