"""The tables that a sweep's results are kept in, one row a run: made, written, read, and many put into one.

Columns are the run's identity, every key of its config, the steps of events, and the curves: lists over the records.
A table's metadata say which is which, under "dln". Files are sealed (`dln.base.sealed`): callers check them first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dln.base import sealed
from dln.errors import DamagedError, DlnError, StorageError
from dln.history import ENDS
from dln.results.older import default_of

RUN = "run"
"""The column of identities."""

IDENTITY = np.dtype("S24")
"""Identities in memory: 24 bytes a run, where Python's strings would take a hundred."""

KINDS = ("config", "events", "curves")
"""What a column can be, besides the one of identities."""

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
    elsewhere: Mapping[str, np.ndarray] | None = None,
) -> pa.Table:
    """Return results as a table, one row a run.

    Args:
        runs: Identities [R].
        config: Values of every key; those that are neither numbers nor words as JSON.
        events: Steps at which runs ended early, None where one did not; and numbers, or lists of them, of other events.
        curves: [R, T, ...] each.
        present: Which of the records [R, T] are a run's own: the others are left out. None: all.
        trajectories: How many were computed.
        lanes: How many lanes share them.
        elsewhere: Which rows [R] of some curves are stored somewhere else: they are null here.

    >>> losses = np.array([[4.0, 2.0], [3.0, np.nan]])
    >>> table = make_table(["r", "s"], {"training.lr": [0.1, 9.0]}, {}, {"train_loss": losses}, np.isfinite(losses))
    >>> table["train_loss"].to_pylist()
    [[4.0, 2.0], [3.0]]
    """
    columns: dict[str, pa.Array] = {RUN: pa.array(runs, pa.string())}
    columns |= {key: config_column(values) for key, values in config.items()}
    columns |= {key: _event_column(key, values) for key, values in events.items()}
    columns |= {key: _list_column(values, present, (elsewhere or {}).get(key)) for key, values in curves.items()}
    told = {"config": list(config), "events": list(events), "curves": list(curves)}
    told |= {"trajectories": trajectories, "lanes": lanes}
    return pa.table(columns).replace_schema_metadata({"dln": json.dumps(told)})


def write(tables: Iterable[pa.Table], path: Path) -> None:
    """Write tables of one schema, at least one, to a file, a row group or more each, and seal it."""
    parts = iter(tables)
    first = next(parts)
    with (
        pa.OSFile(str(path), "wb") as file,
        pq.ParquetWriter(file, first.schema, write_page_checksum=True, **_encoding(first.schema)) as writer,
    ):
        for table in itertools.chain([first], parts):
            writer.write_table(table, row_group_size=ROW_GROUP)
        writer.add_key_value_metadata(sealed.METADATA)
    sealed.seal(path)


def check(path: Path) -> None:
    """Check that a file is what was written, and a table of ours; of one that is not sealed, that it can be read.

    Raises:
        DamagedError: It is not.
        StorageError: It may not be read.
    """
    whole = sealed.check(path)
    with opened(path) as file:
        for group in range(0 if whole else file.num_row_groups):
            file.read_row_group(group)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file; what Arrow cannot read in the block is damaged.

    Raises:
        DamagedError: It is not what was written, or no table of ours.
        StorageError: It may not be read.
    """
    with sealed.reading(path):
        try:
            with pa.OSFile(str(path)) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
                told = about(file.schema_arrow)
                if not {RUN}.union(*(told[kind] for kind in KINDS)) <= set(file.schema_arrow.names):
                    raise ValueError("it lacks columns")
                yield file
        except DlnError:
            raise
        except MemoryError:
            raise StorageError(f"there is not enough memory to read {path}") from None
        except (pa.ArrowException, ValueError, LookupError) as error:
            raise DamagedError(path, str(error).partition("\n")[0]) from error


def sizes(path: Path) -> tuple[int, int]:
    """Return how many bytes of a table are its values, and how many say what they are."""
    with opened(path) as file:
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        values = sum(group.column(c).total_compressed_size for group in groups for c in range(group.num_columns))
    return values, path.stat().st_size - values


def about(schema: pa.Schema) -> dict[str, Any]:
    """Return which columns of a table are keys of the config, events, and curves, and its trajectories and lanes.

    Raises:
        ValueError: It is no table of ours.
    """
    try:
        told = json.loads((schema.metadata or {})[b"dln"])
        return {"trajectories": 0, "lanes": 0, **told, **{kind: [*told[kind]] for kind in KINDS}}
    except (ValueError, LookupError, TypeError):
        raise ValueError("it is no table of a sweep") from None


def read(files: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of some files, each run once, with the columns of all of them."""
    tables = []
    for path in files:
        with opened(path) as file:
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
    groups = RowGroups(files, joint_schema([schema_of(path) for path in files]))
    for start in range(0, len(chosen), ROW_GROUP):
        some = chosen[start : start + ROW_GROUP]
        yield groups.rows(source[some], row[some])


class RowGroups:
    """Row groups of several files; those used last are held, as far as `GATHERED` goes."""

    def __init__(self, files: Sequence[Path], schema: pa.Schema) -> None:
        """Name the files, and what their rows are to be cast to."""
        self.files, self.schema = files, schema
        self.starts = [np.cumsum([0, *_sizes(path)]) for path in files]
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
            with opened(self.files[file]) as source:
                self.held[key] = _cast(source.read_row_group(number, use_threads=False), self.schema)
            self.bytes += self.held[key].nbytes
            while len(self.held) > 1 and self.bytes > GATHERED:
                self.bytes -= self.held.popitem(last=False)[1].nbytes
        self.held.move_to_end(key)
        return self.held[key]


def identities(path: Path, column: str = RUN) -> np.ndarray:
    """Return the identities of a file's runs [R], row by row; or those in another column, empty where it is null."""
    with opened(path) as file:
        groups = range(file.num_row_groups)
        parts = [_identities(file.read_row_group(g, columns=[column], use_threads=False)[column]) for g in groups]
    return np.concatenate([np.array([], IDENTITY), *parts])


def identities_of(table: pa.Table) -> list[bytes]:
    """Return the identities of a table's runs."""
    return _identities(table[RUN]).tolist()


def _identities(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.fill_null("").to_pylist(), IDENTITY)


def schema_of(path: Path) -> pa.Schema:
    """Return the schema of a file."""
    with opened(path) as file:
        return file.schema_arrow


def columns_of(path: Path) -> dict[str, Any]:
    """Return what `about` says of a file."""
    return about(schema_of(path))


def constants(files: Sequence[Path]) -> dict[str, Any]:
    """Return the values of the config that are the same in all rows of some files, as `stored` has them."""
    keys = list(dict.fromkeys(key for path in files for key in columns_of(path)["config"]))
    if not keys:
        return {}
    distinct = {key: column.unique() for key, column in zip(keys, read(files, keys).select(keys), strict=True)}
    return {key: values[0].as_py() for key, values in distinct.items() if len(values) == 1}


def stored(value: Any) -> Any:
    """Return what a value of the config is in a table.

    >>> stored(0.5), stored([1, 2])
    (0.5, '[1, 2]')
    """
    return config_column([value])[0].as_py()


def _sizes(path: Path) -> list[int]:
    """Return the rows of each row group."""
    with opened(path) as file:
        return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def config_column(values: Sequence[Any]) -> pa.Array:
    """Return the values of a key as a column; those that are neither numbers nor words as JSON."""
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
    numbers = [n for value in values for n in (value if isinstance(value, list) else [value]) if n is not None]
    whole = all(isinstance(n, int) for n in numbers)
    # Where there is no number, the type is not known; it is taken from other parts when they are joined.
    kind = pa.null() if not numbers else pa.int64() if whole else pa.float64()
    return pa.array(values, pa.list_(kind) if lists else kind)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=dataclasses.asdict)


def _list_column(values: np.ndarray, present: np.ndarray | None, null: np.ndarray | None = None) -> pa.Array:
    """Return values [R, T, ...] as lists of those that are present [R, T]: numbers, or fixed-size lists; or as null."""
    present = np.ones(values.shape[:2], bool) if present is None else present
    present = present if null is None else present & ~null[:, None]
    inner: pa.Array = pa.array(values[present].reshape(-1))
    for size in reversed(values.shape[2:]):
        inner = pa.FixedSizeListArray.from_arrays(inner, size)
    ends = pa.array(np.cumsum([0, *present.sum(1)], dtype=np.int32))
    return pa.ListArray.from_arrays(ends, inner, mask=None if null is None else pa.array(null))


def joint_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return a schema with all columns of some tables, which they can be cast to.

    >>> tables = [make_table(["r"], {"training.batch_size": [size]}, {}, {}) for size in (10, None)]
    >>> joint_schema([table.schema for table in tables]).field("training.batch_size").type
    DataType(int64)
    """
    kinds: dict[str, pa.DataType] = {}
    named: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    for schema in schemas:
        for field in schema:
            kinds[field.name] = _wider(kinds.get(field.name, field.type), field.type)
        told = about(schema)
        for kind in named:
            named[kind] |= dict.fromkeys(told[kind])
    return pa.schema(list(kinds.items()), {"dln": json.dumps({kind: list(names) for kind, names in named.items()})})


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
    """Return a table with the columns of a schema: what it lacks is null, keys that are newer have their defaults."""
    columns = {}
    for field in schema:
        default = default_of(field.name)
        if field.name in table.column_names:
            columns[field.name] = table[field.name].cast(field.type)
        elif default is None:
            columns[field.name] = pa.nulls(len(table), field.type)
        else:
            columns[field.name] = config_column([default] * len(table)).cast(field.type)
    return pa.table(columns, schema=schema)


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Say how columns are written: numbers of curves as split bytes, which compress best, all else as dictionaries.

    So are whole numbers in pieces; identities there, no two of which are the same, are written as they are.
    """
    split, words = {}, []
    pieces = "aggregate" in about(schema)
    for field in schema:
        name, kind = field.name, field.type
        while _is_list(kind):
            name, kind = f"{name}.list.element", kind.value_type
        numbers = pa.types.is_floating(kind) or (pieces and pa.types.is_integer(kind))
        if numbers and _is_list(field.type):
            split[name] = "BYTE_STREAM_SPLIT"
        elif not pa.types.is_fixed_size_binary(kind):
            words.append(name)
    return {"use_dictionary": words, "column_encoding": split, "compression": "zstd"}
