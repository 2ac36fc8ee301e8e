"""Small tools that know nothing of training: devices, and records on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.errors import ConfigError, StorageError

if TYPE_CHECKING:
    import torch


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
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(f"device: {name!r} cannot be used here; use cpu, cuda, cuda:N, mps or auto") from None
    return device


def to_json(record: dict[str, Any]) -> str:
    """Return a record as one line of strict JSON: numbers that are not finite become null.

    >>> to_json({"step": 3, "train_loss": float("nan"), "layer_norms": [1.0, float("inf")]})
    '{"step": 3, "train_loss": null, "layer_norms": [1.0, null]}'
    """
    return json.dumps({name: _finite(value) for name, value in record.items()}, allow_nan=False)


def save_history(path: str | Path, records: Iterable[dict[str, Any]]) -> None:
    """Write records to a .jsonl file, one a line."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(to_json(record) + "\n" for record in records)


def load_history(path: str | Path) -> list[dict[str, Any]]:
    """Read the records of a .jsonl file; null becomes NaN. A last line cut short by a crash is left out.

    Raises:
        StorageError: A line that is not the last is no record.
    """
    records = []
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # after the last newline: nothing, or a line cut short
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise StorageError(f"{path}, line {number}: not a record ({error})") from None
        records.append({name: _with_nan(value) for name, value in record.items()})
    return records


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(v) for v in value]
    return math.nan if value is None else value
