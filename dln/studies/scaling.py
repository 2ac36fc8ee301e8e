"""A study made shorter or longer, and changed by words as on the command line."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dln.composing.grid import values_by_key
from dln.composing.spelling import set_to
from dln.errors import ConfigError, suggestion
from dln.studies.study import Part, Study, Table

_NUMBER = re.compile(r"(?<!\$)\{(\w+)\}")
"""Where a text has one of the scaled numbers: `{seeds}`."""


def arranged(study: Study, words: Sequence[str] = ()) -> Study:
    """Return a study as it will be run: its numbers in place, and changed by words.

    A scaled number goes geometrically from its value at the file's own scale to that at 1, and stays whole. Numbers
    whose product is the same at both ends, such as learning rate and steps, have that product in between, too.

    Args:
        study: As it is in the file.
        words: `scale=0.1`; `NAME=VALUE` of a scaled number; and else overrides of all parts, in place of their own.

    Raises:
        ConfigError: A word is none of those, or out of bounds.
    """
    scale, given, overrides = study.scale, {}, {}
    for word in words:
        name, sign, text = word.partition("=")
        if not (name and sign):
            known = ["scale", *study.scaled]
            raise ConfigError(f"{word!r} is no KEY=VALUE; {suggestion(word, known)}, or any key of run.py")
        if name == "scale":
            scale = _number(word, text, float)
        elif name in study.scaled:
            given[name] = _number(word, text, int if _whole(study.scaled[name]) else float)
        else:
            overrides[name] = text
    if not study.scale <= scale <= 1:
        shorter = ", ".join([*study.scaled, "or any key"])
        raise ConfigError(f"scale must lie between {study.scale:g} and 1, not be {scale:g}; for less, set {shorter}")
    numbers = scaled_numbers(study, scale) | given
    parts = {name: _part(study, part, numbers, overrides, name) for name, part in study.parts.items()}
    return dataclasses.replace(study, parts=parts, scale=scale, sweep={}, zip=[])


def scaled_numbers(study: Study, scale: float) -> dict[str, float]:
    """Return what the scaled numbers of a study are at a scale.

    >>> study = Study({}, [], scale=0.01, scaled={"seeds": [10, 1000], "lr": [0.1, 0.001]})
    >>> scaled_numbers(study, 0.01), scaled_numbers(study, 0.1), scaled_numbers(study, 1.0)
    ({'seeds': 10, 'lr': 0.1}, {'seeds': 100, 'lr': 0.01}, {'seeds': 1000, 'lr': 0.001})
    """
    return {name: _between(ends, study.scale, scale) for name, ends in study.scaled.items()}


def _between(ends: Sequence[float], own: float, scale: float) -> float:
    short, full = ends
    if scale in (own, 1):
        return full if scale == 1 else short
    share = 1 - math.log(scale) / math.log(own)
    value = float(f"{short * (full / short) ** share:.12g}")
    return round(value) if _whole(ends) else value


def _whole(ends: Sequence[float]) -> bool:
    return all(isinstance(end, int) for end in ends)


def _number(word: str, text: str, kind: type[float]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0 or value != kind(value):
        raise ConfigError(f"{word!r}: {text!r} is no {'whole ' if kind is int else ''}number above 0")
    return kind(value)


def _part(study: Study, part: Part, numbers: Mapping[str, float], overrides: Mapping[str, str], name: str) -> Part:
    sweep = {**study.sweep, **part.sweep}
    sweep = {key: _filled(value, numbers, f"parts.{name}.sweep.{key}") for key, value in sweep.items()} | dict(
        overrides
    )
    groups = [*_groups(study.zip), *_groups(part.zip)]
    zips = [_still_together(group, part.aggregate, sweep, overrides) for group in groups]
    table = dataclasses.replace(
        part.aggregate, baseline=_filled(part.aggregate.baseline, numbers, f"parts.{name}.aggregate.baseline")
    )
    return dataclasses.replace(part, sweep=sweep, zip=[group for group in zips if len(group) > 1], aggregate=table)


def _still_together(
    group: Sequence[str], table: Table, sweep: Mapping[str, Any], overrides: Mapping[str, str]
) -> list[str]:
    """Return which keys of some that move together still do; a key that is set to one value moves no more.

    Raises:
        ConfigError: One that tells conditions apart is set, and one that followed it is not.
    """
    known = {*_names(table.by), *_names(table.over)}
    left = [key for key in group if key not in overrides]
    for key in group:
        stay = [other for other in left if other not in known]
        if key in overrides and key in known and stay:
            told = ", ".join(str(sweep.get(other)) for other in stay)
            raise ConfigError(f"{key} moves together with {' and '.join(stay)}: set that too (it is {told})")
    return left or [key for key in group if len(values_by_key([f"{key}={sweep[key]}"])[key]) > 1]


def _names(words: str | Sequence[str] | None) -> Sequence[str]:
    return [words] if isinstance(words, str) else words or []


def _groups(zips: Sequence[Any]) -> list[list[str]]:
    return [[*zips]] if zips and all(isinstance(key, str) for key in zips) else [list(group) for group in zips]


def _filled(value: Any, numbers: Mapping[str, float], where: str) -> Any:
    """Return a value with scaled numbers in place of their names in braces."""
    if isinstance(value, Mapping):
        return {key: _filled(inner, numbers, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, numbers, where) for inner in value]
    if not isinstance(value, str):
        return value
    for name in _NUMBER.findall(value):
        if name not in numbers:
            raise ConfigError(f"{where}: there is no scaled number {name!r}; {suggestion(name, numbers)}")
    alone = _NUMBER.fullmatch(value)
    return numbers[alone[1]] if alone else _NUMBER.sub(lambda found: str(numbers[found[1]]), value)


def overrides_of(part: Part) -> list[str]:
    """Return the sweep of a part as words of the command line: a text is what stands behind `=` there.

    >>> from dln.studies.study import Table
    >>> sweep = {"training.lr": "0.1,0.2", "evaluate_at": {"linear": 5}, "training.batch_size": None}
    >>> overrides_of(Part(Table("training.batch_seed"), sweep))
    ['training.lr=0.1,0.2', 'evaluate_at={linear: 5}', 'training.batch_size=null']
    """
    keys = dict(part.sweep)
    if part.store == "sums":
        table = part.aggregate
        kept = {"aggregate.over": _names(table.over), "aggregate.quantiles": table.quantiles}
        kept |= {"aggregate.of": _names(table.of)} if table.of else {}
        keys = {key: list(value) for key, value in kept.items()} | keys
    return [f"{key}={value}" if isinstance(value, str) else set_to(key, value) for key, value in keys.items()]
