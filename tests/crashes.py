"""A process that dies at its k-th operation on files, without killing ours: from then on nothing reaches the disk."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CHANGES = ("mkdir", "rename", "replace", "rmdir", "unlink", "fsync")
"""Functions of `os` that change what is on disk, or put it there for good."""


class CrashError(BaseException):
    """The process is dead; no `except Exception` saves it, and its clean-up does nothing either."""


class Crash:
    """Counts operations on files, and lets none through from the `at`-th on."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0
        self.unsafe: set[int] = set()
        """Inodes of files that were written and not synced."""

    def step(self) -> None:
        """Count one operation, or die."""
        self.count += 1
        if self.count > self.at:
            raise CrashError

    def lose_power(self, directory: Path) -> None:
        """Empty all files that were never put on the disk for good."""
        for path in directory.rglob("*"):
            if path.is_file() and path.stat().st_ino in self.unsafe:
                os.truncate(path, 0)


@contextmanager
def crashing(at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crash]:
    """Let the block's process die when it begins its operation `at`; it then ends in `CrashError`."""
    crash = Crash(at)

    def counted(function, wrote=lambda result, *args: None):
        def operation(*args, **kwargs):
            crash.step()
            result = function(*args, **kwargs)
            wrote(result, *args)
            return result

        return operation

    def opened(file, mode="r", *args, **kwargs):
        writes = set(mode) & set("wxa+")
        if writes:
            crash.step()
        stream = genuine(file, mode, *args, **kwargs)
        if writes and not str(file).endswith(("lock", "failed.jsonl")):
            crash.unsafe.add(os.fstat(stream.fileno()).st_ino)
        return stream

    def synced(result, descriptor, *args):
        crash.unsafe.discard(os.fstat(descriptor).st_ino)

    def arrow_opened(path, mode="r"):
        if mode == "wb":
            opened(path, mode).close()
        return arrow_genuine(path, mode)

    genuine, arrow_genuine = io.open, pa.OSFile
    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, counted(getattr(os, name), *([synced] if name == "fsync" else [])))
        patch.setattr("io.open", opened)
        patch.setattr("builtins.open", opened)

        patch.setattr(pa, "OSFile", arrow_opened)
        patch.setattr(pq.ParquetWriter, "write_table", counted(pq.ParquetWriter.write_table))
        yield crash
