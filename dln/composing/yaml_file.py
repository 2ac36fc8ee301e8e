"""A user's YAML file, checked before Hydra reads it: what is wrong with it, with its line and column.

Hydra and OmegaConf expand aliases without bound and know no file names; here nothing is built until it is known that
the file is text, and of how many values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dln.base.files import in_short
from dln.composing.hydra_internals import get_yaml_loader
from dln.errors import ConfigError

LARGEST = 10_000_000
"""Bytes of a file; what is larger is no config."""

MOST_VALUES = 100_000
"""Values in a file, those that aliases repeat counted as often as they are repeated."""

DEEPEST = 50
"""Lists and mappings inside each other."""


def check_yaml(path: Path) -> None:
    """Raise ConfigError, with the line and column, unless a file holds a mapping in YAML, or nothing."""
    read_yaml(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, an empty one if it holds nothing.

    Raises:
        ConfigError: It holds something else; the message has the line and column.
    """
    shown = in_short(path)
    text = _text(path, shown)
    try:
        _bound(yaml.parse(text, Loader=yaml.SafeLoader), shown)
        content = yaml.load(text, Loader=get_yaml_loader())
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{shown}{_place(error.problem_mark or error.context_mark)}: {_problem(error)}") from error
    except yaml.reader.ReaderError as error:
        where = _position(text[: error.position])
        raise ConfigError(f"{shown}{where}: the character {chr(error.character)!r} cannot stand in YAML") from error
    except Exception as error:  # PyYAML raises anything where a value does not fit its explicit tag, `!!int x`
        raise ConfigError(f"{shown}: a value is not what it should be ({str(error)[:80]})") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{shown} must be a mapping, key: value, one a line; it is {_kind(content)}")
    for key, value in (content or {}).items():
        if not isinstance(key, str):
            raise ConfigError(f"{shown}: {key!r} is no key; a key is a word")
        if key == "hydra" and not isinstance(value, dict):
            raise ConfigError(f"{shown}: hydra must be a mapping, not {value!r}")
    return content or {}


def _text(path: Path, shown: str) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{shown} has more than {LARGEST // 10**6} MB: that is no config")
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {shown}: {error.strerror}") from error
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        where = _position(raw[: error.start].decode("utf-8"))
        raise ConfigError(f"{shown}{where}: this is no UTF-8 text; save the file in that encoding") from error


@dataclass
class _Open:
    """A list or mapping that has begun: its anchor, and what it holds so far."""

    anchor: str | None
    values: int = 1
    depth: int = 1


def _bound(events: Iterator[Any], shown: str) -> None:
    """Raise ConfigError where the values, aliases followed, would be too many, too deep, or without end."""
    stack, known, started = [_Open(None, values=0)], {}, set()
    for event in events:
        whole = None
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(_Open(event.anchor))
            started.add(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            whole = stack.pop()
        elif isinstance(event, yaml.ScalarEvent):
            whole = _Open(event.anchor, depth=0)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in known:
                whole = known[event.anchor]
            elif event.anchor in started:
                raise ConfigError(f"{shown}{_place(event.start_mark)}: *{event.anchor} refers to what it is inside of")
            else:
                place = _place(event.start_mark)
                raise ConfigError(f"{shown}{place}: above is no &{event.anchor}; quote text that begins with *")
        if whole is not None:
            known[whole.anchor] = whole
            stack[-1].values += whole.values
            stack[-1].depth = max(stack[-1].depth, whole.depth + 1)
        if len(stack) - 2 + stack[-1].depth > DEEPEST:
            raise ConfigError(f"{shown}{_place(event.start_mark)}: more than {DEEPEST} levels inside each other")
        if stack[-1].values > MOST_VALUES:
            raise ConfigError(f"{shown}{_place(event.start_mark)}: more than {MOST_VALUES:,} values, aliases followed")


HINTS = {
    "\\t": "a tab; YAML is indented by spaces",
    "<block end>": "the indentation fits no line above; the keys of one section stand in one column",
    "mapping values are not allowed": "a second ':' in a line, or a wrong indentation; quote text that holds ': '",
    "could not find expected ':'": "a key without ':' behind it",
    "single document": "a second document begins (---); a config is one",
    "constructor for the tag": "a tag that configs do not know; quote text that begins with !",
    "unhashable key": "a list or mapping is no key",
}
"""The likely fault, by some words of PyYAML's message."""


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context).split())
    hint = next((hint for part, hint in HINTS.items() if part in f"{error.context} {problem}"), None)
    return problem[:150] if hint is None else f"{problem[:150]}: {hint}"


def _place(mark: Any) -> str:
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def _position(before: str) -> str:
    """Return the line and column of what follows a text."""
    return f", line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def _kind(content: Any) -> str:
    return "a list" if isinstance(content, list) else f"{str(content)[:40]!r}"
