"""Pieces as tables, one row each: sums over runs of one condition, in place of the rows and curves of those runs.

Columns are `condition`, a hash of what its runs have in common; `run`, their identities; the keys that they agree in;
`step` and how many runs are `present`, `diverged`, `stopped` there; and what is kept of each curve, `CURVE count`, ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dln.aggregates.keeping import Keeping
from dln.aggregates.piece import Column, Pair, Piece, Sums, joined_pieces
from dln.aggregates.sketch import COARSE, EXACT, Sketch
from dln.results import tables
from dln.results.tables import IDENTITY, RUN

CONDITION = "condition"

ENDS = ("present", "diverged", "stopped")

_RAW = pa.binary(IDENTITY.itemsize // 2)
"""An identity on disk: 12 bytes, of which memory holds the hexadecimal digits."""

_DIGITS = np.array([f"{byte:02x}".encode() for byte in range(256)])


@dataclass(frozen=True)
class Told:
    """What is said of all runs of an ensemble whose pieces lie in one file."""

    keeping: Keeping
    dtype: str
    diverged: int
    trajectories: int
    lanes: int


def make_pieces(
    conditions: Sequence[str], config: Mapping[str, Sequence[Any]], pieces: Sequence[Piece], told: Told
) -> pa.Table:
    """Return pieces as a table.

    Args:
        conditions: The hash of each one's condition.
        config: The values of the keys that each one's runs agree in.
        pieces: The pieces, of the same columns.
        told: What is said of all.
    """
    columns: dict[str, pa.Array] = {CONDITION: pa.array(conditions, pa.string())}
    columns[RUN] = pa.array([[*_raw(piece.runs)] for piece in pieces], pa.list_(_RAW))
    columns |= {key: tables.config_column(values) for key, values in config.items()}
    rows = [_as_row(piece, np.dtype(told.dtype)) for piece in pieces]
    columns |= {name: _lists([row[name] for row in rows]) for name in rows[0]}
    about = {kind: [] for kind in tables.KINDS} | {"config": list(config)}
    about |= {"trajectories": told.trajectories, "lanes": told.lanes, "diverged": told.diverged}
    about |= {"dtype": told.dtype, "columns": [*pieces[0].columns], "pairs": [*pieces[0].pairs]}
    about |= {"runs": sum(len(piece.runs) for piece in pieces), "aggregate": told.keeping.told()}
    return pa.table(columns).replace_schema_metadata({"dln": json.dumps(about)})


def _as_row(piece: Piece, kind: np.dtype) -> dict[str, np.ndarray]:
    """Return a piece as flat arrays by the names of their columns."""
    row: dict[str, np.ndarray] = {"step": piece.step, **{name: getattr(piece, name) for name in ENDS}}
    row = {name: values.astype(np.int32) for name, values in row.items()}
    for name, column in piece.columns.items():
        row |= {f"{name} count": column.count.astype(np.int32), **_sums(f"{name} ", column.sums)}
        row |= _sums(f"{name} log ", column.logs) if column.logs is not None else {}
        for end in ("min", "max"):
            values = getattr(column, end)
            row |= {f"{name} {end}": values.astype(kind)} if values is not None else {}
        if column.sketch is not None:
            row[f"{name} bins"] = np.diff(column.sketch.bins, prepend=0)  # mostly 1
            row[f"{name} bin counts"] = column.sketch.counts.astype(np.int32)
            row[f"{name} bin sizes"] = column.sketch.sizes.astype(np.int32)
    for (one, other), pair in piece.pairs.items():
        row[f"{one}, {other} count"], row[f"{one}, {other} sum"] = pair.count.astype(np.int32), pair.products.ravel()
    return row


def _sums(name: str, sums: Sums) -> dict[str, np.ndarray]:
    return {f"{name}sum": sums.one.ravel(), f"{name}squares": sums.two.ravel()}


def _lists(rows: Sequence[np.ndarray]) -> pa.Array:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(rows)))


def piece_of(table: pa.Table, row: int) -> Piece:
    """Return the piece in a row of a table."""
    about = tables.about(table.schema)
    found: dict[str, Any] = {}

    def has(name: str) -> bool:
        return name in table.column_names

    def read(name: str) -> np.ndarray:
        return table[name][row].values.to_numpy(zero_copy_only=False)

    def sums(name: str) -> Sums | None:
        if not has(f"{name}sum"):
            return None
        return Sums(*(read(f"{name}{what}").reshape(-1, len(found["step"])) for what in ("sum", "squares")))

    found |= {name: read(name).astype(np.int64) for name in ("step", *ENDS)}
    found["runs"] = runs_of(table[RUN][row].values)
    shift = 0 if len(found["runs"]) <= EXACT else COARSE

    def column(name: str) -> Column:
        low, high = (read(f"{name} {end}").astype(float) if has(f"{name} {end}") else None for end in ("min", "max"))
        bins = [read(f"{name} {part}").astype(np.int64) for part in BINS if has(f"{name} {part}")]
        own, logs = sums(f"{name} "), sums(f"{name} log ")
        assert own is not None
        sketch = Sketch(shift, bins[0], np.cumsum(bins[1]), bins[2]) if bins else None
        return Column(read(f"{name} count").astype(np.int64), own, logs, low, high, sketch)

    def pair(one: str, other: str) -> Pair:
        products = read(f"{one}, {other} sum").reshape(-1, len(found["step"]))
        return Pair(read(f"{one}, {other} count").astype(np.int64), products)

    found["columns"] = {name: column(name) for name in about["columns"]}
    found["pairs"] = {(one, other): pair(one, other) for one, other in about["pairs"]}
    return Piece(**found)


BINS = ("bin sizes", "bins", "bin counts")


def runs_of(values: pa.Array) -> np.ndarray:
    """Return identities as memory holds them [R]."""
    raw = np.frombuffer(values.buffers()[1], np.uint8) if len(values) else np.zeros(0, np.uint8)
    size = _RAW.byte_width
    raw = raw[values.offset * size : (values.offset + len(values)) * size].reshape(-1, size)
    return _DIGITS[raw].view(IDENTITY).reshape(-1)


def _raw(runs: np.ndarray) -> Iterator[bytes]:
    return (bytes.fromhex(run.decode()) for run in runs.tolist())


@dataclass(frozen=True)
class Found:
    """Pieces in files: where each lies, of what condition it is, and which runs it holds."""

    file: np.ndarray
    row: np.ndarray
    condition: list[str]
    runs: list[np.ndarray]

    @classmethod
    def of(cls, files: Sequence[Path]) -> Found:
        """Look at all pieces of some files."""
        places, conditions, runs = [], [], []
        for number, path in enumerate(files):
            with tables.opened(path) as file:
                table = file.read(columns=[CONDITION, RUN], use_threads=False)
            conditions += table[CONDITION].to_pylist()
            runs += [runs_of(cell.values) for cell in table[RUN]]
            places += [(number, row) for row in range(len(table))]
        file, row = np.array(places, np.int64).reshape(-1, 2).T
        return cls(file, row, conditions, runs)

    def by_condition(self) -> dict[str, list[int]]:
        """Return the numbers of the pieces of each condition."""
        found: dict[str, list[int]] = {}
        for number, condition in enumerate(self.condition):
            found.setdefault(condition, []).append(number)
        return found

    def counted(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Return which pieces count: every run is in at most one.

        A piece whose runs all lie in those that count already is passed over: it was put together with others, or is a
        copy. One that holds all runs of some that count takes their place. Of others that have some runs in common the
        first counts.

        Returns:
            The numbers of those that count, and pairs: one that does not though it has runs that no other has, and one
            that it has runs in common with.
        """
        kept: list[int] = []
        odd: list[tuple[int, int]] = []
        for numbers in self.by_condition().values():
            runs = [self.runs[n] for n in numbers]
            apart = len(np.unique(np.concatenate(runs))) == sum(map(len, runs))
            kept += numbers if apart else self._one_after_the_other(numbers, odd)
        return kept, odd

    def _one_after_the_other(self, numbers: Sequence[int], odd: list[tuple[int, int]]) -> list[int]:
        kept: list[int] = []
        for n in numbers:
            shared = {m: np.isin(self.runs[m], self.runs[n], assume_unique=True) for m in kept}
            shared = {m: common for m, common in shared.items() if common.any()}
            if sum(int(common.sum()) for common in shared.values()) == len(self.runs[n]):
                continue
            if all(common.all() for common in shared.values()):
                kept = [m for m in kept if m not in shared] + [n]
            else:
                odd.append((n, next(m for m, common in shared.items() if not common.all())))
        return kept


def gather_pieces(files: Sequence[Path], found: Found, kept: Sequence[int], order: Sequence[str]) -> Iterator[pa.Table]:
    """Yield tables with one row a condition: all pieces of it that are kept, put together.

    Args:
        files: Where they lie.
        found: What lies there.
        kept: The numbers of those that count.
        order: Conditions, in which order they are to come; others follow.
    """
    schemas = [tables.schema_of(path) for path in files]
    schema = tables.joint_schema(schemas)
    about = {**tables.about(schemas[0]), "config": tables.about(schema)["config"], "diverged": 0}
    about["runs"] = sum(len(found.runs[number]) for number in kept)
    groups = tables.RowGroups(files, schema)
    left = set(kept)
    chosen = {name: [n for n in numbers if n in left] for name, numbers in found.by_condition().items()}
    ordered = [name for name in dict.fromkeys([*order, *chosen]) if chosen.get(name)]
    counts = {"trajectories": 0, "lanes": 0, "diverged": 0}
    held: list[pa.Table] = []
    for name in ordered:
        numbers = np.array(chosen[name])
        rows = groups.rows(found.file[numbers], found.row[numbers])
        rows = rows.replace_schema_metadata({"dln": json.dumps(about)})
        if len(numbers) == 1:
            held.append(rows)
        else:
            piece = joined_pieces([piece_of(rows, i) for i in range(len(rows))])
            config = {key: [rows[key][0].as_py()] for key in about["config"]}
            told = Told(Keeping.read(about["aggregate"]), about["dtype"], **counts)
            held.append(_like(make_pieces([name], config, [piece], told), schema))
        if sum(table.nbytes for table in held) > HELD:
            yield _one_group(held, about)
            held = []
    if held:
        yield _one_group(held, about)


HELD = 2**23
"""Bytes of pieces that are written together."""


def _like(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return pa.table({f.name: table[f.name].cast(f.type) for f in schema})


def _one_group(held: Sequence[pa.Table], about: Mapping[str, Any]) -> pa.Table:
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in held]).combine_chunks()
    return whole.replace_schema_metadata({"dln": json.dumps(about)})
