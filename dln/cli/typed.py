"""The command as it was typed, which is kept beside its results so that it can be given again."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

_typed: list[str] = []


def remember(argv: Sequence[str]) -> None:
    """Take note of a process's arguments before anything changes them."""
    _typed[:] = argv


def command(*more: str) -> str:
    """Return what was typed, and further arguments, in the words of a shell.

    >>> remember(["dln run", "-m", "training.batch_seed=0..9", "hydra.sweep.subdir=lr_${training.lr}"])
    >>> print(command("max_steps=5"))
    dln run -m training.batch_seed=0..9 'hydra.sweep.subdir=lr_${training.lr}' max_steps=5
    >>> remember([])
    """
    door, *given = _typed or sys.argv
    return shlex.join([*(door.split() if door.startswith("dln ") else ["python", door]), *given, *more])


def dated(given: str | None = None) -> str:
    """Return the command below a comment that says when it was given, and where.

    Args:
        given: The command, if it was not typed: what stands for a call from Python.
    """
    told = command() if given is None else given
    return f"# {datetime.now():%Y-%m-%d %H:%M:%S} in {os.getcwd()}\n{told}\n"


def keep(folder: Path) -> None:
    """Write the command into a folder that is there, as a text file."""
    from dln.results.run import COMMANDS

    (folder / COMMANDS).write_text(dated(), encoding="utf-8")
