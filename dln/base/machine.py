"""How much memory this process may use."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import psutil

from dln.errors import ConfigError


def memory() -> int:
    """Return how many bytes this process may use: those of the machine, or fewer where a cgroup or `ulimit` says so.

    This is the total, not what is free at this moment, so that a config is refused always or never.
    """
    return min(_bounds(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")))


def free() -> int:
    """Return about how many bytes this process may use at this moment: of what there is, as much as is free."""
    return min(memory(), psutil.virtual_memory().available)


def is_shortage(error: BaseException | None) -> bool:
    """Whether an error says that there is not enough memory, as numpy and Arrow do, or in torch's own way.

    >>> is_shortage(MemoryError()), is_shortage(RuntimeError("not enough memory: ...")), is_shortage(RuntimeError("x"))
    (True, True, False)
    """
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def _bounds(process: Path, cgroups: Path) -> Iterator[int]:
    """Yield every bound on the memory of this process that the system tells."""
    yield psutil.virtual_memory().total
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit
    yield from _grouped(process, cgroups)


@functools.cache
def _grouped(process: Path, cgroups: Path) -> tuple[int, ...]:
    """Return the bounds of control groups, read once: those that a process was started with."""
    return tuple(_of_cgroups(process, cgroups))


def _of_cgroups(process: Path, cgroups: Path) -> Iterator[int]:
    """Yield the bounds of the control groups that a process is in, and of those around them; containers are such."""
    for line in _text(process).splitlines():
        _, controllers, own = line.split(":", 2)
        if not controllers:  # version 2: one tree for everything
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        inner = root / own.lstrip("/")
        for group in (inner, *inner.parents):
            limit = _text(group / name).strip()
            if limit.isdecimal():  # "max" is no bound
                yield int(limit)
            if group == root:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def check_fits(needed: float, key: str, what: str) -> None:
    """Raise ConfigError where `what`, which a config's `key` asks for, needs more bytes than there are.

    >>> check_fits(1e30, "model.in_dim", "the weights")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dln.errors.ConfigError: model.in_dim: the weights need at least 1e+12 EB of memory, and there are ...
    """
    if needed > memory():
        raise ConfigError(
            f"{key}: {what} need at least {as_bytes(needed)} of memory, and there are {as_bytes(memory())}"
        )


def as_bytes(count: float) -> str:
    """Return a number of bytes as people say it.

    >>> as_bytes(3.2e9), as_bytes(1500), as_bytes(10**30)
    ('3.2 GB', '1.5 kB', '1e+12 EB')
    """
    scale, unit = next((s, u) for s, u in _UNITS if count >= s or s == 1)
    return f"{count / scale:.{2 if count / scale < 10 else 3}g} {unit}"


_UNITS = ((1e18, "EB"), (1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))
