"""Arrays as one text that a page reads: bytes of equal weight side by side, gzip, base64."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

KINDS = {"u2": np.uint16, "i4": np.int32, "f4": np.float32, "f8": np.float64}


class Pack:
    """Arrays that a page carries, by names."""

    def __init__(self) -> None:
        """Begin with none."""
        self.manifest: dict[str, dict[str, Any]] = {}
        """Of each array: where its bytes begin, its kind, and its shape."""
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, name: str, values: np.ndarray, kind: str) -> None:
        """Add an array, cast to one of KINDS; curves of "u2" are better added by `add_curves`."""
        made = np.ascontiguousarray(values, dtype=np.dtype(KINDS[kind]).newbyteorder("<"))
        planes = made.reshape(-1, 1).view(np.uint8).T  # bytes of equal weight resemble one another
        self.manifest[name] = {"at": self._size, "kind": kind, "shape": list(made.shape)}
        self._parts.append(planes.tobytes())
        self._size += planes.size

    def add_curves(self, name: str, codes: np.ndarray) -> None:
        """Add codes of curves [N, S, K], as differences modulo 2**16: from the first of S, and from step to step."""
        told = codes.astype(np.uint16)
        told[:, 1:] -= told[:, :1]
        told[..., 1:] -= told[..., :-1].copy()
        self.add(name, told, "u2")

    def text(self) -> str:
        """Return all of it as base64 of gzip; the same arrays give the same text."""
        return base64.b64encode(gzip.compress(b"".join(self._parts), 6, mtime=0)).decode()
