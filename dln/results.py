"""A sweep's results on disk: part files, one row a run, compacted into one; what is on disk is the truth.

sweep.json         the values that are the same in all runs
parts/*.parquet    finished ensembles, each written beside and renamed into place
results.parquet    all of them in one file, once nothing is missing
failed.jsonl       runs that raised, and what they raised; a rerun tries them again
damaged/           files that could not be read; their runs are computed again

A row has the run's identity (a hash of its resolved config), every key of its config, the steps of events such as
`diverged_at`, and the curves: lists over the records, NaN where the run had ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dln.errors import StorageError

SWEEP, RESULTS, PARTS, FAILED, DAMAGED = "sweep.json", "results.parquet", "parts", "failed.jsonl", "damaged"
RUN = "run"
"""The column of identities."""

ROW_GROUP = 4096


class SweepStore:
    """The directory of one sweep."""

    def __init__(self, directory: str | Path) -> None:
        """Name a directory; nothing is read or written yet."""
        self.directory = Path(directory)
        self.damaged: list[str] = []
        """Files that `finished` has set aside."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other drivers out while the block runs.

        Raises:
            StorageError: Another process is at work here.
        """
        with self._writing():
            (self.directory / PARTS).mkdir(parents=True, exist_ok=True)
            lock = open(self.directory / ".lock", "w", encoding="utf-8")  # noqa: SIM115
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StorageError(
                    f"another process is at work on the sweep in {self.directory}; wait for it, or choose another "
                    "directory and merge the two later"
                ) from None
            yield

    def description(self) -> dict[str, Any] | None:
        """Return what sweep.json says, or None if there is none."""
        try:
            return json.loads((self.directory / SWEEP).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StorageError(f"{self.directory / SWEEP} cannot be read: {error}") from error

    def describe(self, description: Mapping[str, Any]) -> None:
        """Write sweep.json."""
        with self._writing():
            beside = self.directory / f".{SWEEP}.tmp"
            beside.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
            beside.replace(self.directory / SWEEP)

    def finished(self) -> set[str]:
        """Return the identities of all runs whose results can be read; files that cannot be are set aside."""
        done: set[str] = set()
        for path in self.files():
            try:
                done.update(pq.read_table(path, columns=[RUN])[RUN].to_pylist())
            except (pa.ArrowException, OSError):
                (self.directory / DAMAGED).mkdir(exist_ok=True)
                path.replace(self.directory / DAMAGED / path.name)
                self.damaged.append(path.name)
        return done

    def files(self) -> list[Path]:
        """Return the files that hold results: the compacted one first."""
        compacted = self.directory / RESULTS
        return [*([compacted] if compacted.exists() else []), *sorted((self.directory / PARTS).glob("*.parquet"))]

    def write(self, table: pa.Table) -> None:
        """Write the results of an ensemble as a part of its own."""
        name = f"{time.time_ns():x}-{os.getpid():x}.parquet"
        beside = self.directory / PARTS / f".{name}.tmp"
        with self._writing():
            try:
                _write(table, beside)
                beside.replace(self.directory / PARTS / name)
            finally:
                beside.unlink(missing_ok=True)

    def fail(self, run: str, overrides: Sequence[str], error: str) -> None:
        """Note that a run raised."""
        with self._writing(), open(self.directory / FAILED, "a", encoding="utf-8") as file:
            file.write(json.dumps({"run": run, "overrides": list(overrides), "error": error}) + "\n")

    def failures(self) -> dict[str, dict[str, Any]]:
        """Return what `fail` has noted, by identity."""
        try:
            lines = (self.directory / FAILED).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        return {told["run"]: told for told in map(json.loads, lines)}

    def diverged(self) -> set[str]:
        """Return the identities of the runs that diverged."""
        runs: set[str] = set()
        for path in self.files():
            events = [n for n in pq.read_schema(path).names if n.startswith("diverged_at")]
            table = pq.read_table(path, columns=[RUN, *events])
            lost = np.any([table[name].is_valid().to_numpy() for name in events] or [np.zeros(len(table), bool)], 0)
            runs.update(table.filter(pa.array(lost))[RUN].to_pylist())
        return runs

    def forget_failures(self) -> None:
        """Forget what failed: it is tried again."""
        (self.directory / FAILED).unlink(missing_ok=True)

    def drop(self, runs: set[str]) -> None:
        """Remove the results of some runs."""
        for path in self.files():
            table = pq.read_table(path)
            keep = [identity not in runs for identity in table[RUN].to_pylist()]
            if not all(keep):
                if any(keep):
                    self.write(table.filter(pa.array(keep)))
                path.unlink()

    def compact(self, order: Mapping[str, int]) -> None:
        """Put all parts into results.parquet, runs in the order given and then others."""
        files = self.files()
        if files == [self.directory / RESULTS] or not files:
            return
        table = read(files)
        places = np.array([order.get(identity, len(order)) for identity in table[RUN].to_pylist()])
        with self._writing():
            beside = self.directory / f".{RESULTS}.tmp"
            try:
                _write(table.take(pa.array(np.argsort(places, kind="stable"))), beside)
                beside.replace(self.directory / RESULTS)
            finally:
                beside.unlink(missing_ok=True)
            for path in files:
                if path.parent.name == PARTS:
                    path.unlink()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"cannot write to {self.directory}: {error.strerror or error}; what was finished is safe, "
                "and the same command computes the rest"
            ) from error


def make_table(
    runs: Sequence[str],
    config: Mapping[str, Sequence[Any]],
    events: Mapping[str, Sequence[int | None]],
    curves: Mapping[str, np.ndarray],
) -> pa.Table:
    """Return results as a table, one row a run.

    Args:
        runs: Identities [R].
        config: Values of every key; those that are neither numbers nor words as JSON.
        events: Steps of what happened once.
        curves: [R, T, ...] each.
    """
    columns: dict[str, pa.Array] = {RUN: pa.array(runs, pa.string())}
    columns |= {key: _config_column(values) for key, values in config.items()}
    columns |= {key: pa.array(values, pa.int64()) for key, values in events.items()}
    columns |= {key: _list_column(values) for key, values in curves.items()}
    about = {"config": list(config), "events": list(events), "curves": list(curves)}
    return pa.table(columns).replace_schema_metadata({"dln": json.dumps(about)})


def read(files: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of some files, each run once, with the columns of all of them."""
    tables = []
    for path in files:
        with pq.ParquetFile(path) as file:
            names = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
            tables.append(file.read(columns=names))
    about: dict[str, dict[str, None]] = {"config": {}, "events": {}, "curves": {}}
    for table in tables:
        for kind, names in json.loads(table.schema.metadata[b"dln"]).items():
            about[kind] |= dict.fromkeys(names)
    schema = _common([table.schema for table in tables])
    whole = pa.concat_tables([_cast(table, schema) for table in tables])
    if RUN in whole.column_names and len(files) > 1:
        seen: set[str] = set()
        first = [not (run in seen or seen.add(run)) for run in whole[RUN].to_pylist()]
        whole = whole.filter(pa.array(first)) if not all(first) else whole
    return whole.replace_schema_metadata({"dln": json.dumps({kind: list(names) for kind, names in about.items()})})


def columns_of(path: Path) -> dict[str, list[str]]:
    """Return which columns of a file are keys of the config, events, and curves."""
    return json.loads(pq.read_schema(path).metadata[b"dln"])


def _config_column(values: Sequence[Any]) -> pa.Array:
    plain = [v if isinstance(v, int | float | str | None) else _json(v) for v in values]
    try:
        return pa.array(plain)
    except pa.ArrowException:  # numbers beside words
        return pa.array([None if v is None else v if isinstance(v, str) else _json(v) for v in plain])


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=dataclasses.asdict)


def _list_column(values: np.ndarray) -> pa.Array:
    """Return values [R, T, ...] as lists of T numbers, or of T fixed-size lists."""
    inner: pa.Array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[2:]):
        inner = pa.FixedSizeListArray.from_arrays(inner, size)
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]), inner)


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return a schema that all tables can be cast to."""
    kinds: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            kinds[field.name] = _wider(kinds.get(field.name, field.type), field.type)
    return pa.schema(list(kinds.items()))


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
    return pa.table(columns, schema=schema).replace_schema_metadata(table.schema.metadata)


def _write(table: pa.Table, path: Path) -> None:
    """Write curves as split bytes, which compress best, and everything else as dictionaries."""
    split, words = {}, []
    for field in table.schema:
        name, kind = field.name, field.type
        while _is_list(kind):
            name, kind = f"{name}.list.element", kind.value_type
        if pa.types.is_floating(kind) and _is_list(field.type):
            split[name] = "BYTE_STREAM_SPLIT"
        else:
            words.append(name)
    options: dict[str, Any] = {"use_dictionary": words, "column_encoding": split, "compression": "zstd"}
    pq.write_table(table, path, row_group_size=ROW_GROUP, **options)
