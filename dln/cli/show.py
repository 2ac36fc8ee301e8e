"""`dln show`: a sweep as a table, a run as a sheet, and a folder that holds such as a list, the newest last."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dln.base.files import from_home
from dln.cli.aggregate import print_aggregate
from dln.cli.sheet import end, moment, number, sheet
from dln.cli.table import print_table
from dln.errors import StorageError, printable, suggestion
from dln.results.listing import StoredRun, StoredSweep, listed, look

FOLDERS = ("outputs", "multirun")
"""Where runs and sweeps go that are not told where."""

LEAST = 20
"""Characters of a command that are shown on the narrowest terminal."""

Stored = StoredRun | StoredSweep


def show(directory: str | None = None, columns: Sequence[str] = (), by: Sequence[str] | None = None) -> None:
    """Print what lies in a directory.

    Args:
        directory: Of a run, of a sweep, or a folder that holds some; None: `outputs` and `multirun` here.
        columns: Which curves and events; by default all, in a list `train_loss`.
        by: The keys that tell the rows of a sweep's table apart.

    Raises:
        StorageError: There is none, or no such column or key, or it may not be read.
        DamagedError: A file of a sweep is not what was written.
    """
    folders = [Path(name) for name in FOLDERS] if directory is None else [from_home(directory)]
    stored = None if directory is None else look(folders[0])
    if isinstance(stored, StoredSweep):
        if stored.sums_over:
            over = " and ".join(stored.sums_over)
            print(printable(f"{stored.runs} runs, of which sums over {over} are kept"))
            print_aggregate(str(stored.directory), stored.sums_over, by, columns or None)
        else:
            print_table(stored.directory, columns, by)
        if stored.command:
            print(printable(f"made by: {stored.command}"))
        return
    if by is not None:
        raise StorageError(f"--by groups the runs of a sweep, and {directory or 'this folder'} is none")
    if stored is not None:
        print(sheet(stored, columns))
    else:
        print_list(folders, columns)


def print_list(folders: Sequence[Path], columns: Sequence[str] = ()) -> None:
    """Print the runs and sweeps in some folders, a line each.

    Raises:
        StorageError: There are none, or none has such a column.
    """
    where = " and ".join(map(str, folders))
    there = [folder for folder in folders if folder.is_dir()]
    found = sorted(itertools.chain(*map(listed, there)), key=lambda stored: stored.when)
    if not found:
        what = f"no run and no sweep in {where}" if there else f"there is no folder {where.replace(' and ', ', nor ')}"
        raise StorageError(f"{what}; name the directory of one, or a folder that holds some: dln show DIRECTORY")
    shown = columns or ("train_loss",)
    _check_known(columns, found, where)
    rows = [["when", "directory", "what", "runs", *shown, "state", "command"]]
    for stored in found:
        about = moment(stored.when), str(stored.directory), stored.what, str(stored.runs)
        rows.append([*about, *(_values(stored, name) for name in shown), state(stored), given(stored)])
    print(f"{len(found)} in {printable(where)}")
    print("\n".join(aligned(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)))
    for stored in found:
        for fault in stored.faults:
            print(printable(f"damaged: {stored.directory}: {fault}"))


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Return rows as lines with columns one below the other; the last one is cut to the width, and nothing else.

    >>> aligned([["a", "bc"], ["def", "g" * 40]], width=32)
    ['a    bc', 'def  gggggggggggggggggggggggggg…']
    """
    rows = [[*map(printable, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = None if width is None else max(width - sum(widths[:-1]) - 2 * len(widths[:-1]), LEAST)
    lines = []
    for row in rows:
        last = row[-1] if room is None or len(row[-1]) <= room else f"{row[-1][: room - 1]}…"
        lines.append("  ".join([*map(str.ljust, row[:-1], widths), last]).rstrip())
    return lines


def _check_known(columns: Sequence[str], found: Sequence[Stored], where: str) -> None:
    known = dict.fromkeys(name for stored in found for name in stored.values)
    for name in columns:
        if not any(lane in known for lane in _lanes(name)):
            raise StorageError(f"no run in {where} has a column {name!r}; {suggestion(name, known)}")


def _lanes(name: str) -> list[str]:
    """Return what a column is called in a run, and in the lanes of a comparison."""
    return [name, f"{name}_a", f"{name}_b"]


def _values(stored: Stored, name: str) -> str:
    """Return what a run ended with: of a comparison, in both lanes; of a sweep nothing."""
    return ", ".join(number(stored.values[lane]) for lane in _lanes(name) if lane in stored.values) or "-"


def state(stored: Stored) -> str:
    """Say in a few words in what state a run or a sweep is.

    >>> state(StoredRun(Path("nowhere")))
    'unfinished'
    """
    if isinstance(stored, StoredSweep):
        return f"{stored.state}, {stored.failed} failed" if stored.failed else stored.state
    return ", ".join([stored.state, *(f"{end(name)} at {step}" for name, step in stored.ends.items())])


def given(stored: Stored) -> str:
    """Say what a run was changed by; of a sweep its last command or, where it was not kept, over what it goes."""
    if isinstance(stored, StoredRun):
        return " ".join(stored.overrides)
    return stored.command or (f"over {', '.join(stored.keys)}" if stored.keys else "")
