"""A process's surroundings: standard output that may be closed, and the order in which modules are looked for."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any


class Patient:
    """A stream that drops what is written once writing has failed: a closed pipe or terminal, a full disk."""

    def __init__(self, stream: Any) -> None:
        """Write to another stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        try:
            return self._stream.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        try:
            self._stream.flush()
        except OSError:
            self._fall_silent()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fall_silent(self) -> None:
        """Drop what is still buffered, and all that follows."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def speak_patiently() -> None:
    """Make standard output and standard error `Patient`, also where they were closed from the start."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened would take its number
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif not isinstance(stream, Patient):
            setattr(sys, name, Patient(stream))


def look_for_libraries_first() -> None:
    """Move the directory that `python -m dln` or a script came from to the end of where modules are looked for.

    A file `rich.py` in a user's folder is then not taken for the library of that name; extensions are found as before.
    """
    places = ("", os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0])))
    if sys.path and os.path.realpath(sys.path[0]) in map(os.path.realpath, places):
        sys.path.append(sys.path.pop(0))
