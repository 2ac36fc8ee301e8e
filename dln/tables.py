"""The tables that a sweep's results are kept in, one row a run: made, written, read, and many put into one.

Columns are the run's identity, every key of its config, the steps of events, and the curves: lists over the records.
Which is which, a table says in its metadata, under "dln".
"""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dln.history import ENDS

RUN = "run"
"""The column of identities."""

IDENTITY = np.dtype("S24")
"""Identities in memory: a few bytes a run, where Python's words would take a hundred."""

ROW_GROUP = 4096
"""Rows that are written, and put in order, at a time."""

GATHERED = 2**25
"""Bytes of row groups that are held while files are put together."""


def make_table(
    runs: Sequence[str],
    config: Mapping[str, Sequence[Any]],
    events: Mapping[str, Sequence[Any]],
    curves: Mapping[str, np.ndarray],
    present: np.ndarray | None = None,
    trajectories: int = 0,
    lanes: int = 0,
) -> pa.Table:
    """Return results as a table, one row a run.

    Args:
        runs: Identities [R].
        config: Values of every key; those that are neither numbers nor words as JSON.
        events: Steps at which runs ended early, None where one did not; and numbers, or lists of them, of other events.
        curves: [R, T, ...] each.
        present: Which of the records [R, T] are a run's own: the others are left out. None: all.
        trajectories: How many were computed.
        lanes: For so many.
    """
    columns: dict[str, pa.Array] = {RUN: pa.array(runs, pa.string())}
    columns |= {key: _config_column(values) for key, values in config.items()}
    columns |= {key: _event_column(key, values) for key, values in events.items()}
    columns |= {key: _list_column(values, present) for key, values in curves.items()}
    about = {"config": list(config), "events": list(events), "curves": list(curves)}
    about |= {"trajectories": trajectories, "lanes": lanes}
    return pa.table(columns).replace_schema_metadata({"dln": json.dumps(about)})


def write(tables: Iterable[pa.Table], path: Path) -> None:
    """Write tables of one schema, at least one, to a file, a row group or more each."""
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, **_encoding(table.schema))
            writer.write_table(table, row_group_size=ROW_GROUP)
    finally:
        if writer is not None:
            writer.close()


def read(files: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of some files, each run once, with the columns of all of them."""
    tables = []
    for path in files:
        with pq.ParquetFile(path) as file:
            names = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
            tables.append(file.read(columns=names))
    schema = joint_schema([table.schema for table in tables])
    whole = pa.concat_tables([_cast(table, schema) for table in tables])
    if RUN in whole.column_names and len(files) > 1:
        first = np.unique(_identities(whole[RUN]), return_index=True)[1]
        whole = whole.take(pa.array(np.sort(first))) if len(first) < len(whole) else whole
    return whole


def gather(files: Sequence[Path], order: np.ndarray, others: bool = False) -> Iterator[pa.Table]:
    """Yield the rows of some runs, in their order, a row group at a time.

    Args:
        files: Where the rows are; of runs that several have, the first counts.
        order: Identities; those that no file has are passed over, and so is a second mention.
        others: Yield the rows of all other runs after them, as they stand in the files.
    """
    found = [identities(path) for path in files]
    source = np.repeat(np.arange(len(files), dtype=np.int32), [len(f) for f in found])
    row = np.concatenate([np.arange(len(f), dtype=np.int32) for f in found])
    runs, first = np.unique(np.concatenate(found), return_index=True)
    del found
    wanted, place = np.unique(order, return_index=True)
    at = np.searchsorted(runs, wanted).clip(max=len(runs) - 1)
    here = runs[at] == wanted
    chosen = first[at[here]][np.argsort(place[here])]
    if others:
        chosen = np.concatenate([chosen, np.sort(np.delete(first, at[here]))])
    groups = _RowGroups(files, joint_schema([pq.read_schema(path) for path in files]))
    for start in range(0, len(chosen), ROW_GROUP):
        some = chosen[start : start + ROW_GROUP]
        yield groups.rows(source[some], row[some])


class _RowGroups:
    """Row groups of several files; those used last are held, as far as `GATHERED` goes."""

    def __init__(self, files: Sequence[Path], schema: pa.Schema) -> None:
        self.files, self.schema = files, schema
        metadata = [pq.read_metadata(path) for path in files]
        sizes = [[m.row_group(g).num_rows for g in range(m.num_row_groups)] for m in metadata]
        self.starts = [np.cumsum([0, *size]) for size in sizes]
        self.held: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self.bytes = 0

    def rows(self, source: np.ndarray, row: np.ndarray) -> pa.Table:
        """Return rows, given by their file and their number in it, in that order."""
        group = np.empty(len(row), np.int64)
        for file in np.unique(source):
            ours = source == file
            group[ours] = np.searchsorted(self.starts[file], row[ours], "right") - 1
        by_group = np.lexsort((group, source))
        edges = np.flatnonzero(np.diff(source[by_group]) | np.diff(group[by_group])) + 1
        parts = []
        for some in np.split(by_group, edges):
            file, number = int(source[some[0]]), int(group[some[0]])
            parts.append(self._group(file, number).take(pa.array(row[some] - self.starts[file][number])))
        return pa.concat_tables(parts).take(pa.array(np.argsort(by_group))).combine_chunks()

    def _group(self, file: int, number: int) -> pa.Table:
        key = file, number
        if key not in self.held:
            with pq.ParquetFile(self.files[file]) as opened:
                self.held[key] = _cast(opened.read_row_group(number, use_threads=False), self.schema)
            self.bytes += self.held[key].nbytes
            while len(self.held) > 1 and self.bytes > GATHERED:
                self.bytes -= self.held.popitem(last=False)[1].nbytes
        self.held.move_to_end(key)
        return self.held[key]


def identities(path: Path) -> np.ndarray:
    """Return the identities of a file's runs [R], row by row."""
    with pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        parts = [_identities(file.read_row_group(g, columns=[RUN], use_threads=False)[RUN]) for g in groups]
    return np.concatenate([np.array([], IDENTITY), *parts])


def _identities(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), IDENTITY)


def columns_of(path: Path) -> dict[str, Any]:
    """Return which columns of a file are keys of the config, events, and curves, and how much work was in them."""
    return json.loads(pq.read_schema(path).metadata[b"dln"])


def _config_column(values: Sequence[Any]) -> pa.Array:
    distinct = {id(value): value for value in values}  # what is fixed in a sweep is one object for all its runs
    texts = {i: v if isinstance(v, int | float | str | None) else _json(v) for i, v in distinct.items()}
    plain = [texts[id(value)] for value in values]
    try:
        return pa.array(plain)
    except pa.ArrowException:  # numbers beside words
        return pa.array([None if v is None else v if isinstance(v, str) else _json(v) for v in plain])


def _event_column(name: str, values: Sequence[Any]) -> pa.Array:
    if name.startswith(ENDS):
        return pa.array(values, pa.int64())
    lists = any(isinstance(value, list) for value in values)
    return pa.array(values, pa.list_(pa.float64()) if lists else pa.float64())


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=dataclasses.asdict)


def _list_column(values: np.ndarray, present: np.ndarray | None) -> pa.Array:
    """Return values [R, T, ...] as lists of those that are present [R, T]: numbers, or fixed-size lists."""
    present = np.ones(values.shape[:2], bool) if present is None else present
    inner: pa.Array = pa.array(values[present].reshape(-1))
    for size in reversed(values.shape[2:]):
        inner = pa.FixedSizeListArray.from_arrays(inner, size)
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *present.sum(1)], dtype=np.int32)), inner)


def joint_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return a schema with all columns of some tables, which they can be cast to."""
    kinds: dict[str, pa.DataType] = {}
    about: dict[str, dict[str, None]] = {"config": {}, "events": {}, "curves": {}}
    for schema in schemas:
        for field in schema:
            kinds[field.name] = _wider(kinds.get(field.name, field.type), field.type)
        told = json.loads(schema.metadata[b"dln"])
        for kind in about:
            about[kind] |= dict.fromkeys(told[kind])
    return pa.schema(list(kinds.items()), {"dln": json.dumps({kind: list(names) for kind, names in about.items()})})


def _wider(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if _is_list(a) and _is_list(b):
        return pa.list_(_wider(a.value_type, b.value_type))
    if all(pa.types.is_integer(t) or pa.types.is_floating(t) for t in (a, b)):
        return pa.float64()
    return pa.string()


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = {}
    for field in schema:
        missing = field.name not in table.column_names
        columns[field.name] = pa.nulls(len(table), field.type) if missing else table[field.name].cast(field.type)
    return pa.table(columns, schema=schema)


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Say how columns are written: curves as split bytes, which compress best, everything else as dictionaries."""
    split, words = {}, []
    for field in schema:
        name, kind = field.name, field.type
        while _is_list(kind):
            name, kind = f"{name}.list.element", kind.value_type
        if pa.types.is_floating(kind) and _is_list(field.type):
            split[name] = "BYTE_STREAM_SPLIT"
        else:
            words.append(name)
    return {"use_dictionary": words, "column_encoding": split, "compression": "zstd"}
