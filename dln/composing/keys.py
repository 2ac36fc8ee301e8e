"""The keys of the schemas: all of them, and those that hold whole numbers."""

from __future__ import annotations

import functools

from dln.config import ComparativeConfig, Schema, SingleConfig, fields


def keys(schema: Schema) -> list[str]:
    """Every key of the schema, dotted, sections included."""
    leaves = [key for key, _ in fields(schema)]
    sections = {".".join(key.split(".")[:i]) for key in leaves for i in range(1, key.count(".") + 1)}
    return sorted({*leaves, *sections})


@functools.cache
def whole_keys() -> frozenset[str]:
    """Every key of either schema that holds a whole number, or null."""
    return frozenset(
        key
        for schema in (SingleConfig, ComparativeConfig)
        for key, item in fields(schema)
        if item.type in (int, int | None)
    )
