"""Arrays of the user's own, from .npy and .npz files."""

from __future__ import annotations

import functools
import os
import stat
import time
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from dln.base.files import digest, from_home
from dln.base.machine import as_bytes, memory
from dln.errors import ConfigError

SETTLED = 2_000_000_000
"""Nanoseconds after which a file that is written again certainly has another modification time."""


def load_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz archive by name; that of an .npy file is called "".

    Args:
        path: Where they are.
        names: Read only those of these names; others may be there and be anything.

    Raises:
        ConfigError: There is no such file, what is wanted is not real numbers, or there are too many of them.
    """
    with opened(path) as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                arrays = {"": loaded}
            else:
                _check_listing(file, loaded.zip)
                wanted = [name for name in loaded.files if names is None or name in names]
                _bound(path, loaded, wanted)
                arrays = {name: loaded[name] for name in wanted}
        except ConfigError:
            raise
        except Exception as error:
            hint = _FROM_TEXT if Path(path).suffix in (".csv", ".tsv", ".txt") else ""
            raise ConfigError(f"{str(path)!r} is not an .npy or .npz file of numbers ({error}){hint}") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ConfigError(f"{str(path)!r}: {name or 'the array'} is of type {array.dtype}, not of real numbers")
    return arrays


_FROM_TEXT = "; of text make one: np.savez('own.npz', train_inputs=x, train_targets=y), x and y from np.loadtxt"


def opened(path: str | Path) -> IO[bytes]:
    """Open a regular file; pipes, devices and directories are refused, as reading them may never end.

    Raises:
        ConfigError: There is no such file, or it cannot be read.
    """
    try:
        mode = os.stat(_place(path)).st_mode
        if stat.S_ISREG(mode):
            return open(_place(path), "rb")
    except FileNotFoundError:
        raise ConfigError(f"no file {str(path)!r}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise ConfigError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from error
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    raise ConfigError(f"{str(path)!r} is not a file but {kinds.get(stat.S_IFMT(mode), 'a device')}")


def _place(path: str | Path) -> str:
    """Return where a path leads from here; a `~` at its beginning is the user's home."""
    return os.path.abspath(from_home(path))


def _check_listing(file: IO[bytes], archive: zipfile.ZipFile | None) -> None:
    """Raise ValueError where an archive's list of its arrays is damaged: arrays missing from it would go unnoticed."""
    if archive is None:
        return
    members = archive.infolist()
    for member in members:
        archive.open(member).close()  # a name stands in two places
    file.seek(-min(_END_OF_LISTING, file.seek(0, os.SEEK_END)), os.SEEK_END)
    end = file.read()
    if end.startswith(b"PK\x05\x06") and int.from_bytes(end[10:12], "little") not in (0xFFFF, len(members)):
        raise ValueError("its list of arrays is damaged")


_END_OF_LISTING = 22
"""Bytes that a zip archive ends in, if it has no comment: they say how many members it has."""


def _bound(path: str | Path, archive: np.lib.npyio.NpzFile, names: Collection[str]) -> None:
    """Raise ConfigError where arrays do not fit into memory; a small file may hold thousands of times its size."""
    infos = archive.zip.infolist() if archive.zip is not None else []
    size = sum(info.file_size for info in infos if info.filename.removesuffix(".npy") in names)
    if size > memory():
        raise ConfigError(f"{str(path)!r} holds {as_bytes(size)} of arrays; this machine has {as_bytes(memory())}")


def content(path: str | Path) -> str:
    """Return a digest of what a file holds; it is read again only if it may have changed.

    Raises:
        ConfigError: There is no such file, or it cannot be read.
    """
    version = _version(path)
    # Modification times are coarse: a file that is written twice in a short time may have the same one.
    young = time.time_ns() - version[1] < SETTLED
    return digest(_place(path)) if young else _content(_place(path), version)


def count_samples(path: str) -> int:
    """Return the length of an archive's `train_inputs`; a file is read again only if it changed.

    Raises:
        ConfigError: There is no such archive, or no such array.
    """
    return _count(_place(path), _version(path))


def _version(path: str | Path) -> tuple[int, ...]:
    """Return what is different once a file has been written to again."""
    with opened(path) as file:
        about = os.fstat(file.fileno())
    return about.st_ino, about.st_mtime_ns, about.st_size


@functools.lru_cache
def _content(path: str, version: tuple[int, ...]) -> str:
    return digest(path)


@functools.lru_cache
def _count(path: str, version: tuple[int, ...]) -> int:
    arrays = load_arrays(path, ["train_inputs"])
    if "train_inputs" not in arrays or arrays["train_inputs"].ndim == 0:
        raise ConfigError(f"{path!r} has no array train_inputs [N, in]")
    return len(arrays["train_inputs"])
