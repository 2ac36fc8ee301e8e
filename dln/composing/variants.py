"""Configs that differ in numbers alone: one is resolved, and the others are copies of it with their numbers set.

To resolve a config takes some milliseconds. Seeds, rates and scales (the schema's batchable numbers) change nothing
else in it, unless it has a `${...}` in which something is computed from them.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dln.base.setting import number_type
from dln.base.values import check_plain
from dln.composing.checks import check_reference, check_value
from dln.composing.compose import (
    Composed,
    affected_leaves,
    apply_override,
    fit_number,
    merge_schema,
    node_at,
    refuse_unread,
    resolve,
    resolve_typed,
)
from dln.composing.grid import written_out
from dln.composing.loader import load_config, named_config
from dln.config import ExperimentConfig, Schema, SingleConfig, fields, leaf_of
from dln.errors import ConfigError


class Resolver:
    """Resolves dictionaries, or lists of overrides, one like the other: what they have in common is resolved once."""

    def __init__(self) -> None:
        """Start without resolved configs."""
        self._first: dict[str, tuple[ExperimentConfig, Callable[[], Composed]]] = {}
        """The first config of each kind: resolved, and what makes it as it is before that."""
        self._leaves: dict[str, dict[str, tuple[str, ...] | None]] = {}
        """What takes each of its numbers, found when a second config of the kind comes."""
        self._named: dict[tuple[Schema, str], bytes] = {}
        """Named configs without overrides, pickled."""

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

        def merged() -> Composed:
            return merge_schema(schema, OmegaConf.create(dict(config)))

        return self._like(("dictionary", rest), numbers, schema, merged, lambda: resolve(config, schema))

    def resolve_list(self, overrides: Sequence[str], schema: Schema, config_name: str) -> ExperimentConfig:
        """Return what `load_config` does.

        >>> from dln.config import SingleConfig
        >>> resolver = Resolver()
        >>> lists = [[f"training.lr={lr}", "max_steps=5"] for lr in (1, 0.5)]
        >>> [resolver.resolve_list(overrides, SingleConfig, "default").training.lr for overrides in lists]
        [1.0, 0.5]
        """

        def alone() -> ExperimentConfig:
            return load_config(overrides, schema, config_name)

        lines, known, items = [*map(written_out, overrides)], _numbers(schema), dict(fields(schema))
        try:
            given = [pair for pair in map(_leaf_and_value, lines) if pair is not None]
        except HydraException:  # raised again here, and translated
            return alone()
        if len(given) < len(lines):
            return alone()
        numbers, rest, keys = {}, [], Counter(key for key, _ in given)
        for line, (key, value) in zip(lines, given, strict=True):
            if key in known and keys[key] == 1 and stands_for(value, number_type(known[key])):
                numbers[key] = value
            else:
                rest.append(line)

        def composed() -> Composed:
            config = self._copy_of(schema, config_name)
            for line in lines:
                apply_override(config, line, schema)
            for key, _ in given:
                fit_number(node_at(config, key), key, items.get(key))
            refuse_unread(config, lines)
            return config

        def whole() -> ExperimentConfig:
            try:
                for key, value in given:
                    check_plain(key, value)
                return resolve_typed(composed(), schema)
            except ConfigError:  # raised again here, in the words for any list
                return alone()

        return self._like((config_name, rest), numbers, schema, composed, whole)

    def _copy_of(self, schema: Schema, config_name: str) -> Composed:
        """Return a named config, to be changed."""
        key = schema, config_name
        if key not in self._named:
            self._named[key] = pickle.dumps(named_config([], schema, config_name))
        return pickle.loads(self._named[key])

    def _like(
        self,
        rest: Any,
        numbers: Mapping[str, float],
        schema: Schema,
        composed: Callable[[], Composed],
        whole: Callable[[], ExperimentConfig],
    ) -> ExperimentConfig:
        """Return a config that is resolved as the first of its kind was, with its own numbers.

        Args:
            rest: What it says but for numbers.
            numbers: Its batchable numbers, by their keys.
            schema: Its schema.
            composed: Makes it as it is before it is resolved.
            whole: Resolves it by itself.
        """
        key = repr((schema.__name__, rest, [*numbers]))
        if key not in self._first:
            self._first[key] = whole(), composed
            return self._first[key][0]
        like, first = self._first[key]
        if key not in self._leaves:
            node = first()
            self._leaves[key] = {path: affected_leaves(node, path) for path in numbers}
        try:
            config = with_values(like, _set(numbers, self._leaves[key], schema))
            if isinstance(config, SingleConfig):
                check_reference(config)
            return config
        except ConfigError:  # raised again here, with the key named as for any config
            return whole()


_NUMBER = re.compile(r"([a-z_.]+)=(-?(?:0|[1-9]\d*)(\.\d+)?(e-?\d+)?)")


@lru_cache(maxsize=4096)
def _leaf_and_value(override: str) -> tuple[str, Any] | None:
    """Return which key an override sets, and to what; None if it does more than give a key of the schema a value.

    >>> _leaf_and_value("training.lr=1e-3"), _leaf_and_value("data.params.matrix=x"), _leaf_and_value("+training.lr=1")
    (('training.lr', 0.001), ('data.params.matrix', 'x'), None)
    """
    plain = _NUMBER.fullmatch(override)  # which Hydra's parser takes half a millisecond to read
    if plain is not None and leaf_of(plain[1]) is not None:
        return plain[1], float(plain[2]) if plain[3] or plain[4] else int(plain[2])
    parsed = OverridesParser.create().parse_override(override)
    sets = parsed.type is OverrideType.CHANGE and parsed.package is None and not parsed.is_sweep_override()
    return (parsed.key_or_group, parsed.value()) if sets and leaf_of(parsed.key_or_group) is not None else None


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
    return {
        key: item for key, item in fields(schema) if item.metadata["batchable"] and number_type(item) in (int, float)
    }


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
        values |= dict.fromkeys(followers, float(number) if number_type(item) is float else number)
    return values
