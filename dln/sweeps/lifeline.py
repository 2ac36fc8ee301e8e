"""Processes that end when another does: workers on the driver's machine must not go on when it has died."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

LOOK = 1.0
"""Seconds between looks at whether the driver is still there."""


def this_process() -> dict[str, Any]:
    """Return what tells this process from all others: the machine, its number there, and when it started."""
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; of other machines nothing is known.

    >>> is_gone(this_process()), is_gone({**this_process(), "machine": "another"})
    (False, False)
    """
    if process["machine"] != _machine():
        return False
    if process["started"] is not None:
        return _started(process["pid"]) != process["started"]
    return not psutil.pid_exists(process["pid"])  # os.kill(pid, 0) would end it on Windows


@contextlib.contextmanager
def ending_with(process: Mapping[str, Any]) -> Iterator[None]:
    """End this process at once if, while the block runs, another is gone."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK):
            if is_gone(process):
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _machine() -> str:
    """Return a name for this start of this machine and, in containers, for what numbers processes there."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks of its machine; None if it has ended, or the system does not tell."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
