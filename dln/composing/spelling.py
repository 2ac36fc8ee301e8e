"""Values of Python's as overrides are written: a dictionary of keys is what a list of overrides is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from dln.base.values import check_plain, plain
from dln.config import ComparativeConfig, SingleConfig, fields, leaf_of
from dln.errors import ConfigError


def spelled(value: Any) -> str:
    """Write a Python value as an override does.

    >>> spelled([{"name": "switch_batch_size", "params": {"step": 100, "batch_size": None}}])
    '[{name: "switch_batch_size", params: {step: 100, batch_size: null}}]'
    """
    value = plain(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, str):
        return '"' + re.sub(r'(\\*)("|\Z)', _escaped, value) + '"'
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _escaped(found: re.Match[str]) -> str:
    backslashes, quote = found.groups()
    return 2 * backslashes + (r"\"" if quote else "")


def set_to(key: str, value: Any) -> str:
    """Return the override that sets a key to a Python value.

    Raises:
        ConfigError: A config holds no such value.
    """
    check_plain(key, plain(value))
    return f"{key}={spelled(value)}"


def swept_overrides(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the overrides of a sweep that a dictionary describes: a value for a key is fixed, several are an axis.

    A list, an array or a range holds the values of an axis; of a key whose value is a list itself, such as `metrics`,
    a list of lists does.

    Args:
        config: Keys and their values, dotted or nested as in a YAML file.
        prefix: What stands before the keys, with its dot.

    Raises:
        ConfigError: A config holds no such value, or an axis has none.

    >>> list(swept_overrides({"training.lr": [0.1, 0.2], "training": {"batch_seed": range(3)}, "max_steps": 5}))
    ['training.lr=0.1,0.2', 'training.batch_seed=range(0,3)', 'max_steps=5']
    >>> list(swept_overrides({"metrics": ["weight_norm"], "model.hidden_dim": [10, [4, 3, 4]]}))
    ['metrics=["weight_norm"]', 'model.hidden_dim=10,[4, 3, 4]']
    """
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and leaf_of(key) is None:
            yield from swept_overrides(value, f"{key}.")
            continue
        values = None if isinstance(value, str | Mapping) else _listed(value)
        if values is None or (key in _holding_lists() and not any(isinstance(v, list) for v in values)):
            yield set_to(key, value if values is None else values)
        else:
            yield f"{key}={_axis(key, values)}"


def _listed(value: Any) -> list[Any] | None:
    """Return what has values one after the other as a list of them; None if it is one value."""
    value = plain(value)
    if isinstance(value, str | Mapping):
        return None
    return [*map(plain, value)] if isinstance(value, Iterable) else None


def _axis(key: str, values: Sequence[Any]) -> str:
    """Return the values of an axis as they stand in an override; many whole numbers in a row as a range."""
    if not values:
        raise ConfigError(f"{key}: there is no value to sweep over")
    for i, value in enumerate(values):
        check_plain(f"{key}[{i}]", value)
    if len(values) > 2 and all(type(value) is int for value in values):
        step = values[1] - values[0]
        if step > 0 and values == list(range(values[0], values[-1] + 1, step)):
            return f"range({values[0]},{values[-1] + 1}{'' if step == 1 else f',{step}'})"
    return ",".join(map(spelled, values)) if len(values) > 1 else f"choice({spelled(values[0])})"


@cache
def _holding_lists() -> frozenset[str]:
    """The keys of either schema whose value is a list, unless it is nothing or a word for one."""
    return frozenset(
        key for schema in (SingleConfig, ComparativeConfig) for key, item in fields(schema) if _holds_list(item)
    )


def _holds_list(item: dataclasses.Field) -> bool:
    if item.default_factory is not dataclasses.MISSING:
        return isinstance(item.default_factory(), list)
    return item.type is Any and item.default is None
