"""The run that the page shows as something to take along: a command, a YAML file, a script."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dln.composing.spelling import set_to
from dln.config import SingleConfig, fields, is_free_dict
from dln.explorer.question import Question


def told_values(config: SingleConfig) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a config that are not at their defaults, and their values as YAML has them."""
    default = SingleConfig()
    for key, item in fields(SingleConfig):
        value, usual = _at(config, key), _at(default, key)
        if value == usual:
            continue
        if is_free_dict(item) and key != "reference":
            yield from ((f"{key}.{name}", inner) for name, inner in value.items() if usual.get(name) != inner)
        else:
            yield key, _plain(value)


def overrides(config: SingleConfig) -> list[str]:
    """Return what the command line says of a config."""
    return [set_to(key, value) for key, value in told_values(config)]


def as_command(question: Question, config: SingleConfig) -> str:
    """Return the command that trains what the page shows: a run, or a sweep over seeds."""
    words = [*overrides(config), *_seeds(question)]
    return " ".join(["dln", "run", *(["-m"] if question.seeds > 1 else []), *map(shlex.quote, words)])


def as_yaml(question: Question, config: SingleConfig) -> str:
    """Return a file for `configs/single/`, which says in its first lines how it is run."""
    nested: dict[str, Any] = {}
    for key, value in told_values(config):
        *heads, name = key.split(".")
        place = nested
        for head in heads:
            place = place.setdefault(head, {})
        place[name] = value
    words = ["dln", "run", *(["-m"] if question.seeds > 1 else []), "-cn=explored", *map(shlex.quote, _seeds(question))]
    text = yaml.safe_dump({"defaults": ["default", "_self_"], **nested}, sort_keys=False, default_flow_style=None)
    return f"# From dln explore. Put it in configs/single/explored.yaml and run: {' '.join(words)}\n{text}"


def as_python(question: Question, config: SingleConfig) -> str:
    """Return a script that trains what the page shows, and leaves the histories of all runs."""
    lines = [f"    {override!r}," for override in overrides(config)]
    told = "\n".join(["overrides = [", *lines, "]"]) if lines else "overrides = []"
    run = f'[*overrides, f"{question.vary}={{seed}}"] for seed in range({question.seeds})'
    return f"import dln\n\n{told}\nhistories = dln.run_experiments([{run}])\n"


def _seeds(question: Question) -> list[str]:
    return [f"{question.vary}=range(0,{question.seeds})"] if question.seeds > 1 else []


def _at(config: SingleConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _plain(value: Any) -> Any:
    """Return a value without dataclasses: metrics and theories by name, where the name says all."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if dataclasses.is_dataclass(value):
        named = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        given = {name: inner for name, inner in named.items() if inner not in (None, {})}
        return given["name"] if len(given) == 1 else given
    return value
