"""Configs that differ in numbers alone: one is resolved, and the others are copies of it with their numbers set.

To resolve a config takes some milliseconds. Seeds, rates and scales (the schema's batchable numbers) change nothing
else in it, unless it has a `${...}` in which something is computed from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from dln.composing.checks import check_value
from dln.composing.compose import affected_leaves, merge_schema, resolve
from dln.config import ExperimentConfig, Schema, fields
from dln.errors import ConfigError


class Resolver:
    """Resolves dictionaries, one like the other: what they have in common is resolved once."""

    def __init__(self) -> None:
        """Start without resolved configs."""
        self._first: dict[str, tuple[ExperimentConfig, Mapping[str, Any]]] = {}
        """The first config of each kind: resolved, and as it was given."""
        self._leaves: dict[str, dict[str, tuple[str, ...] | None]] = {}
        """What takes each of its numbers, found when a second config of the kind comes."""

    def resolve(self, config: Mapping[str, Any], schema: Schema) -> ExperimentConfig:
        """Return what `resolve` does.

        >>> from dln.config import SingleConfig
        >>> resolver = Resolver()
        >>> [resolver.resolve({"training": {"lr": lr}}, SingleConfig).training.lr for lr in (1, 0.5)]
        [1.0, 0.5]
        """
        numbers: dict[str, float] = {}
        rest = _without_numbers(config, _numbers(schema), "", numbers)
        if rest is None:
            return resolve(config, schema)
        key = repr((schema.__name__, rest, [*numbers]))
        if key not in self._first:
            self._first[key] = resolve(config, schema), config
            return self._first[key][0]
        like, given = self._first[key]
        if key not in self._leaves:
            merged = merge_schema(schema, OmegaConf.create(dict(given)))
            self._leaves[key] = {path: affected_leaves(merged, path) for path in numbers}
        try:
            return with_values(like, _set(numbers, self._leaves[key], schema))
        except ConfigError:  # raised again here, with the key named as for any config
            return resolve(config, schema)


def stands_for(value: Any, kind: Any) -> bool:
    """Whether a value is what the schema makes of it, but for 1 as 1.0, where a key holds a number of this type.

    >>> stands_for(1, float), stands_for(1.0, int), stands_for(True, int)
    (True, False, False)
    """
    return kind in (int, float) and (type(value) is kind or (kind is float and type(value) is int))


def with_values(node: Any, assignments: Mapping[str, Any]) -> Any:
    """Return a copy of a config, or of a part of it, with values at dotted paths.

    >>> from dln.config import SingleConfig
    >>> with_values(SingleConfig(), {"training.lr": 0.5}).training.lr
    0.5
    """
    heads: dict[str, dict[str, Any]] = {}
    for path, value in assignments.items():
        head, _, rest = path.partition(".")
        heads.setdefault(head, {})[rest] = value
    changed = {}
    for head, inner in heads.items():
        old = node.get(head) if isinstance(node, Mapping) else getattr(node, head)
        changed[head] = inner[""] if "" in inner else with_values({} if old is None else old, inner)
    return {**node, **changed} if isinstance(node, Mapping) else dataclasses.replace(node, **changed)


@cache
def _numbers(schema: Schema) -> dict[str, dataclasses.Field]:
    """Return the batchable leaves of a schema that hold one number."""
    return {key: item for key, item in fields(schema) if item.metadata["batchable"] and item.type in (int, float)}


def _without_numbers(value: Any, known: Mapping[str, dataclasses.Field], path: str, numbers: dict[str, float]) -> Any:
    """Return a config whose batchable numbers are moved to `numbers`; None where it holds what YAML cannot say."""
    if type(value) is dict:
        rest = {}
        for key, inner in value.items():
            where = f"{path}.{key}" if path else str(key)
            kind = known[where].type if where in known else None
            if stands_for(inner, kind):
                numbers[where] = inner
            else:
                rest[key] = _without_numbers(inner, known, where, numbers)
                if rest[key] is None and inner is not None:
                    return None
        return rest
    if type(value) in (list, tuple):
        rest = [_without_numbers(inner, known, f"{path}[]", numbers) for inner in value]
        return None if any(r is None and v is not None for r, v in zip(rest, value, strict=True)) else rest
    return value if type(value) in (int, float, str, bool, type(None)) else None


def _set(
    numbers: Mapping[str, float], leaves: Mapping[str, tuple[str, ...] | None], schema: Schema
) -> dict[str, float]:
    """Return what each leaf of a config becomes that takes one of its numbers.

    Raises:
        ConfigError: A number is out of bounds, or more is computed from it.
    """
    values = {}
    for path, number in numbers.items():
        followers, item = leaves[path], _numbers(schema)[path]
        if followers is None:
            raise ConfigError(f"{path}: something is computed from it")
        check_value(path, number, item.metadata)
        values |= dict.fromkeys(followers, float(number) if item.type is float else number)
    return values
