"""Machine code kept on disk, checked before it is used: a damaged file never ends a run.

numba's own cache trusts what it reads: a file that was cut short ends every run in an EOFError, one flipped bit in a
crash, and two processes that compile at once may leave one function under the other's name. Here every compiled
function is one file: a digest of all that follows, a digest of what it was compiled from, its machine code. What does
not match is compiled anew, so that it is enough to rename files into place.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import os
import pickle
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import _Cache, _CacheLocator
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

log = logging.getLogger("dln")

SIZE = 32
"""Bytes of a digest."""

_said: set[str] = set()


class KernelCache(_Cache):
    """The compiled versions of one function, one file each."""

    def __init__(self, function: Callable, sources: str) -> None:
        """Take a function at the top of a module, and the text of whatever else its machine code comes from."""
        self._file = Path(inspect.getfile(function))
        self._name = f"{self._file.stem}.{function.__qualname__}"
        self._sources = _digest(self._file.read_bytes() + sources.encode())

    @property
    def places(self) -> list[Path]:
        """Directories that are looked through, and written to if they can be, in this order."""
        own = _CacheLocator.get_suitable_cache_subpath(str(self._file))
        if config.CACHE_DIR:  # type: ignore[attr-defined]
            return [Path(config.CACHE_DIR) / own]  # type: ignore[attr-defined]
        user = AppDirs(appname="numba", appauthor=False).user_cache_dir
        return [self._file.parent / "__pycache__", Path(user) / own]

    @property
    def cache_path(self) -> Any:
        """The first of `places`, as a string."""
        return str(self.places[0])

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the function as it was compiled for a signature on a processor like this one, or None."""
        target_context.refresh()
        name, kind = self._kind(sig, target_context.codegen())
        for place in self.places:
            code = read(place / name, kind)
            if code is not None:
                return CompileResult._rebuild(target_context, *pickle.loads(code))
        _say("compiling the kernels for this machine, once: some seconds")
        return None

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Keep a compiled function in the first place that can be written to, if there is any."""
        if data.library.has_dynamic_globals:  # it holds addresses of this process
            return
        name, kind = self._kind(sig, data.library.codegen)
        code = dumps(data._reduce())
        whys = []
        for place in self.places:
            try:
                write(place / name, kind, code)
                return
            except OSError as error:
                whys.append(f"{place}: {error.strerror or error}")
        _say(f"the compiled kernels cannot be kept ({'; '.join(whys)}): every process compiles them anew")

    def _kind(self, sig: Any, codegen: Any) -> tuple[str, bytes]:
        """Return the name of a version's file, and a digest of all that its machine code comes from.

        A change of the source replaces the file; another signature, processor, Python or numba has a file of its own.
        """
        machine = sig, codegen.magic_tuple(), sys.implementation.cache_tag, numba.__version__, llvmlite.__version__
        asked = _digest(repr(machine).encode())
        return f"{self._name}-{asked.hex()[:16]}.kernel", _digest(asked + self._sources)

    def enable(self) -> None:
        """Do nothing: it always is."""

    def disable(self) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing: what is out of date is not read."""


def read(path: Path, kind: bytes) -> bytes | None:
    """Return the machine code in a file if it is whole and of this kind; what is damaged is removed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, rest = content[:SIZE], content[SIZE:]
    if digest != _digest(rest):
        log.warning("%s is damaged: it is compiled anew", path)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return rest[SIZE:] if rest[:SIZE] == kind else None


def write(path: Path, kind: bytes, code: bytes) -> None:
    """Put machine code into a file, which is there whole or not at all whoever else writes it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        beside.write_bytes(_digest(kind + code) + kind + code)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=SIZE).digest()


def _say(what: str) -> None:
    """Log something once a process."""
    if what not in _said:
        _said.add(what)
        log.warning(what)
