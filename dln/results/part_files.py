"""Results in a sweep's directory: a file of all that is finished, and beside it a folder of what came since."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from dln.base.sealed import reading
from dln.errors import DamagedError
from dln.results import tables


def files_of(compacted: Path, parts: Path) -> list[Path]:
    """Return the files that hold results: the compacted one first, then the parts as they were made.

    Raises:
        StorageError: They may not be read.
    """
    with reading(compacted.parent):
        try:
            names = sorted(os.listdir(parts))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        own = [parts / name for name in names if name.endswith(".parquet")]
        return [*([compacted] if compacted.exists() else []), *own]


def whole_files(files: Iterable[Path], set_aside: Callable[[Path], None]) -> list[Path]:
    """Return the files that are as they were written; others are set aside."""
    whole = []
    for path in files:
        try:
            tables.check(path)
            whole.append(path)
        except DamagedError:
            set_aside(path)
        except FileNotFoundError:  # somebody has removed it
            continue
    return whole
