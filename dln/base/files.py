"""Files that are there whole or not at all: written beside their place, put on the disk, and renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

BESIDE = ".{}.tmp"
"""What a file is called while it is written; one that is left over is of a process that was killed."""


@contextlib.contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give the block a path to write to; what it wrote is then at `path`, in place of what was there.

    The file is on the disk before it is renamed, and its new name is on the disk when the `with` statement ends. If the
    block raises, nothing has changed.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "note.txt"
    >>> with placing(path) as beside:
    ...     _ = beside.write_text("done")
    >>> path.read_text(), beside.exists()
    ('done', False)
    >>> folder.cleanup()
    """
    beside = beside_of(path)
    try:
        yield beside
        sync(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)


def from_home(path: str | Path) -> Path:
    """Return a path with the user's home in place of a `~` at its beginning, which shells leave in `key=~/path`.

    >>> from_home("~") == Path.home(), from_home("a/~") == Path("a/~")
    (True, True)
    """
    return Path(os.path.expanduser(path))


def in_short(path: str | Path, start: str | Path = os.curdir) -> str:
    """Return a path as it is told to a person who works in `start`: from there, or from the root if that is shorter.

    >>> in_short("a/b"), in_short("/home/me/a", "/home/me"), in_short("/x", "/home/me")
    ('a/b', 'a', '/x')
    """
    return min(os.path.relpath(path, start), os.path.abspath(path), key=len)


def beside_of(path: Path) -> Path:
    """Return where a file is written before it is put into place."""
    return path.with_name(BESIDE.format(path.name))


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a directory, are on the disk itself."""
    directory = path.is_dir()
    if directory and os.name == "nt":
        return  # Windows opens no directories, and has names on the disk by itself
    handle = os.open(path, os.O_RDONLY if directory else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Wait until a directory and everything in it is on the disk itself."""
    for path in directory.iterdir():
        (sync_tree if path.is_dir() else sync)(path)
    sync(directory)


def digest(path: str | Path) -> str:
    """Return a hash of what a file holds."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
