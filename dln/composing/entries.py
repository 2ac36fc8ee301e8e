"""What stands in lists of metrics, events and callbacks: names, or mappings with a name, params and a label."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dln.config import CallbackConfig, EventConfig, MetricConfig, TheoryConfig, TrackerConfig
from dln.errors import ConfigError, suggestion

Kind = type[CallbackConfig] | type[MetricConfig] | type[EventConfig] | type[TheoryConfig] | type[TrackerConfig]


def kind_of(key: str) -> Kind | None:
    """Return what the entries are of a list of names that stands at `key`, if it is one."""
    if key.startswith("callbacks"):
        return CallbackConfig
    if key == "theory":
        return TheoryConfig
    return EventConfig if key == "events" else MetricConfig if "metrics" in key else None


BY_A_WORD = (MetricConfig, TheoryConfig)
"""Kinds of which a word is short for a list of it: `metrics=cheap`."""


def listed(kind: Kind, value: Any, key: str) -> list[Any]:
    """Return a list of metrics, events or callbacks as a list of `kind`; a word is short for a list of it."""
    if isinstance(value, str) and kind in BY_A_WORD:
        value = [value]
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list such as [NAME, NAME], not {value!r}")
    return [named(kind, entry, f"{key}[{i}]") for i, entry in enumerate(value)]


def named(kind: Kind, entry: Any, where: str) -> Any:
    """Return an entry of a list of metrics, events or callbacks as a `kind`; `where` is its key, for messages.

    Raises:
        ConfigError: It is neither a name nor a mapping with a name, params and a label.

    >>> named(MetricConfig, "weight_norm", "metrics[0]")
    MetricConfig(name='weight_norm', params={}, label=None)
    """
    if isinstance(entry, kind):
        return entry
    if isinstance(entry, str) and kind is not CallbackConfig:
        return kind(name=entry)
    if not isinstance(entry, Mapping):
        short = "" if kind is CallbackConfig else "a name or "
        raise ConfigError(f"{where} must be {short}a mapping such as {{name: NAME, params: {{...}}}}, not {entry!r}")
    known = [item.name for item in dataclasses.fields(kind)]
    for key in entry:
        if key not in known:
            raise ConfigError(f"unknown key '{where}.{key}'; {suggestion(key, known)}")
    if not isinstance(entry.get("name"), str):
        raise ConfigError(f"{where}.name is missing: the registered name")
    if not isinstance(entry.get("params", {}), Mapping):
        raise ConfigError(f"{where}.params must be a mapping, not {entry['params']!r}")
    if not isinstance(entry.get("label", ""), str | None):
        raise ConfigError(f"{where}.label must be a name, not {entry['label']!r}")
    return kind(**entry)
