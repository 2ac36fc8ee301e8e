"""A file that keeps other processes out, on every system."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from portalocker import AlreadyLocked, LockException, LockFlags, lock

from dln.errors import StorageError


@contextlib.contextmanager
def locking(path: Path, shared: bool = False, wait: bool = False) -> Iterator[bool | None]:
    """Lock a file, which is made if need be, while the block runs; tell the block whether that was possible.

    Args:
        path: The file; a process that dies, however it dies, gives up its lock.
        shared: Others may have it too, shared as well.
        wait: Wait until it is free, instead of yielding False.

    Yields:
        True: it is locked. False: another process has it. None: this file system knows no locks.

    Raises:
        StorageError: The file cannot be made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / ".lock"
    ...     with locking(path) as first, locking(path) as second:
    ...         first, second
    (True, False)
    """
    kind = (LockFlags.SHARED if shared else LockFlags.EXCLUSIVE) | (LockFlags(0) if wait else LockFlags.NON_BLOCKING)
    try:
        opened = open(path, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    with opened as file:
        try:
            lock(file, kind)
        except AlreadyLocked:
            yield False
        except LockException:
            yield None
        else:
            yield True
