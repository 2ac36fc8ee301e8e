"""Small tools that know nothing of training: devices, precision, and records on disk."""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.base.files import from_home
from dln.base.sealed import content
from dln.errors import ConfigError, DamagedError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("dln")


def select_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` takes cuda where there is one, else mps, else the cpu.

    Raises:
        ConfigError: There is no such device here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which `meta` cannot
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(f"device: {name!r} cannot be used here; use cpu, cuda, cuda:N, mps or auto") from None
    return device


def as_tensors(
    arrays: Sequence[Any], dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> list[torch.Tensor]:
    """Return arrays, tensors or nested lists as tensors of one precision: `dtype` or, if that is None, their own.

    Their own is float32 where all are float32, and float64 otherwise.

    Raises:
        ConfigError: Numbers are complex.

    >>> [str(t.dtype) for t in as_tensors([np.ones(2), [1, 2]])]
    ['torch.float64', 'torch.float64']
    """
    import torch

    tensors = [torch.as_tensor(a if isinstance(a, torch.Tensor) else np.asarray(a)).detach() for a in arrays]
    if any(t.is_complex() for t in tensors):
        raise ConfigError("weights and samples must be real numbers, not complex ones")
    own = torch.float32 if all(t.dtype == torch.float32 for t in tensors) else torch.float64
    return [t.to(dtype=dtype or own, device=device) for t in tensors]


def to_json(record: dict[str, Any]) -> str:
    """Return a record as one line of strict JSON: numbers that are not finite become null.

    >>> to_json({"step": 3, "train_loss": float("nan"), "layer_norms": [1.0, float("inf")]})
    '{"step": 3, "train_loss": null, "layer_norms": [1.0, null]}'
    """
    return json.dumps({name: _finite(value) for name, value in record.items()}, allow_nan=False)


def save_history(path: str | Path, records: Iterable[dict[str, Any]]) -> None:
    """Write records to a .jsonl file, one a line."""
    with open(from_home(path), "w", encoding="utf-8") as file:
        file.writelines(to_json(record) + "\n" for record in records)


def load_history(path: str | Path, checksums: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Read the records of a .jsonl file; null becomes NaN. A last line cut short by a crash is left out.

    Records from the first that is damaged on are left out too, and a warning says so.

    Args:
        path: The file.
        checksums: Of its lines, if they are known (`checksums_of`).

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: The first record is damaged already, or it is no file.
        StorageError: It may not be read.
    """
    lines, fault = whole_lines(from_home(path), checksums)
    if fault and not lines:
        raise DamagedError(path, fault, "run it again")
    if fault:
        log.warning("%s is damaged: %s; only the %d records before that are read", path, fault, len(lines))
    return [*map(parsed_record, lines)]


def whole_lines(path: Path, checksums: Sequence[str] | None = None) -> tuple[list[bytes], str]:
    """Return the lines of a .jsonl file before the first that is damaged, and what is wrong with that, if one is.

    Without checksums a line is damaged if it is no record. A last line cut short by a crash is left out.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: It is no file.
        StorageError: It may not be read.
    """
    lines = content(path).split(b"\n")[:-1]  # after the last newline: nothing, or a line cut short
    if checksums is not None:
        own, wanted = checksums_of(lines), [*checksums]
        if own == wanted:
            return lines, ""
        pairs = enumerate(zip(own, wanted, strict=False))
        whole = next((number for number, (a, b) in pairs if a != b), min(len(own), len(wanted)))
        if whole < len(lines):
            return lines[:whole], f"line {whole + 1}: it is not what was written"
        return lines, f"it ends after {whole} of {len(wanted)} records"
    for number, line in enumerate(lines):
        try:
            parsed_record(line)
        except (ValueError, RecursionError) as error:
            return lines[:number], f"line {number + 1}: {error}"
    return lines, ""


def checksums_of(lines: Sequence[bytes]) -> list[str]:
    """Return what tells whether lines of a history, without their ends, are what was written."""
    return [f"{zlib.crc32(line):08x}" for line in lines]


def parsed_record(line: bytes) -> dict[str, Any]:
    """Return the record that a line of a history is.

    Raises:
        ValueError: It is none.

    >>> parsed_record(b'{"step": 3, "train_loss": null}')
    {'step': 3, 'train_loss': nan}
    """
    record = json.loads(line.decode())
    if not isinstance(record, dict):
        raise ValueError("not a record")
    return {name: _with_nan(value) for name, value in record.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(v) for v in value]
    return math.nan if value is None else value
