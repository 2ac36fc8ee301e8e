"""What is sent to the page: numbers in binary, with what they are in a line of JSON before them.

A stream is frames one after the other: two lengths (uint32: of the JSON, and of the numbers), the JSON, padded with
spaces to a multiple of 4 bytes, and the numbers, Float32; all little endian. A frame of length 0 says that the server
is there.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

LOW, HIGH = 0.1, 0.9
"""The quantiles between which a band lies."""

MOST_CURVES = 32
"""Members that are sent one by one, the first, beside the bands of all."""

HEARTBEAT = struct.pack("<II", 0, 0)


def frame(kind: str, told: Mapping[str, Any], arrays: Mapping[str, Float[np.ndarray, "*shape"]]) -> bytes:
    """Return one frame: its kind, what else JSON holds, and arrays by name.

    >>> head, numbers = unpacked(frame("curves", {"seeds": 2}, {"x": np.array([1.0, 0.5])}))[0]
    >>> head["kind"], head["seeds"], numbers["x"].tolist()
    ('curves', 2, [1.0, 0.5])
    """
    columns = [[name, *array.shape] for name, array in arrays.items()]
    text = json.dumps({"kind": kind, **told, "columns": columns}, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    with np.errstate(over="ignore"):  # beyond float32 it is infinite, and drawn as such
        numbers = b"".join(np.ascontiguousarray(array, dtype="<f4").tobytes() for array in arrays.values())
    return struct.pack("<II", len(text), len(numbers)) + text + numbers


def unpacked(stream: bytes) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Return the frames of a stream, as the page reads them: what each says, and its arrays; heartbeats left out."""
    found, at = [], 0
    while at < len(stream):
        text, numbers = struct.unpack_from("<II", stream, at)
        at += 8
        if text:
            told = json.loads(stream[at : at + text])
            values = np.frombuffer(stream, "<f4", numbers // 4, at + text)
            arrays, start = {}, 0
            for name, *shape in told.pop("columns"):
                size = int(np.prod(shape))
                arrays[name], start = values[start : start + size].reshape(shape), start + size
            found.append((told, arrays))
        at += text + numbers
    return found


def curves_of(columns: Mapping[str, Float64[np.ndarray, "R T ..."]]) -> dict[str, Float64[np.ndarray, "R T"]]:
    """Return columns of one number a record each: `name[1]`, `name[2]`, ... of one that holds several.

    >>> list(curves_of({"loss": np.zeros((3, 2)), "modes": np.zeros((3, 2, 2))}))
    ['loss', 'modes[1]', 'modes[2]']
    """
    found = {}
    for name, values in columns.items():
        if values.ndim == 2:
            found[name] = values
            continue
        flat = values.reshape(*values.shape[:2], -1)
        found |= {f"{name}[{i + 1}]": flat[..., i] for i in range(flat.shape[2])}
    return found


def band(values: Float64[np.ndarray, "R T"]) -> Float64[np.ndarray, "3 T"]:
    """Return the lower quantile, the median and the upper quantile of members at each step; of those that are finite.

    NaN where there are none. Quantiles are interpolated as numpy's are.

    >>> band(np.array([[0.0, 1.0], [10.0, np.nan]])).tolist()
    [[1.0, 1.0], [5.0, 1.0], [9.0, 1.0]]
    """
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=0)
    count = np.isfinite(ordered).sum(0)
    found = np.full((3, values.shape[1]), np.nan)
    columns = np.flatnonzero(count)
    for row, share in enumerate((LOW, 0.5, HIGH)):
        place = share * (count[columns] - 1)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, count[columns] - 1)
        low, high = ordered[below, columns], ordered[above, columns]
        found[row, columns] = low + (high - low) * (place - below)
    return found


def drawn(columns: Mapping[str, Float64[np.ndarray, "R T ..."]], members: bool = True) -> dict[str, np.ndarray]:
    """Return what is drawn of curves: `NAME` [3, T], the band of all members, and `NAME|members`, the first ones."""
    found: dict[str, np.ndarray] = {}
    for name, values in curves_of(columns).items():
        found[name] = band(values)
        if members:
            found[f"{name}|members"] = values[:MOST_CURVES]
    return found


def joined(
    parts: Sequence[Mapping[str, Float64[np.ndarray, "R T ..."]]], steps: Sequence[int]
) -> dict[str, Float64[np.ndarray, "R T ..."]]:
    """Return columns of several ensembles as those of one, at all `steps`; NaN where an ensemble ended before.

    Args:
        parts: What `Ensemble.curves` returned of each, `step` among them.
        steps: All steps there are, ascending.
    """
    names = [name for name in parts[0] if name != "step"]
    made = {}
    for name in names:
        pieces = []
        for part in parts:
            values = part[name]
            whole = np.full((len(values), len(steps), *values.shape[2:]), np.nan)
            whole[:, np.searchsorted(steps, part["step"])] = values
            pieces.append(whole)
        made[name] = np.concatenate(pieces)
    return made
