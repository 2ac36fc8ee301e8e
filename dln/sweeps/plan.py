"""From a grid to the runs of a sweep: every cell's resolved config, its identity, and who can be trained together.

Composing a config with Hydra takes a tenth of a second, and resolving one some milliseconds. So only combinations of
values that change what runs have in common (shapes, counts, names) are composed and resolved, once each; seeds, rates
and the like (the schema's batchable fields) are set in copies, each value being checked once.
"""

from __future__ import annotations

import abc
import bisect
import copy
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dln.base.arrays import content
from dln.composing.alike import structure
from dln.composing.checks import check_value
from dln.composing.compose import Composed, affected_leaves, apply_override, resolve, typed_value
from dln.composing.contents import FILE_KEYS, by_content, digests, named_files
from dln.composing.grid import Axis, Grid
from dln.composing.variants import with_values
from dln.config import ExperimentConfig, Schema, fields, is_free_dict, leaf_of
from dln.errors import ConfigError
from dln.results.tables import IDENTITY

log = logging.getLogger("dln")

Compose = Callable[[Sequence[str]], Composed]
"""Composes overrides into a config with its `${...}` in place."""

PLAIN = (int, float, str, bool, type(None))


@dataclass(frozen=True)
class Direct:
    """An axis whose values are set in copies of a resolved config."""

    axis: Axis
    leaves: tuple[tuple[str, ...], ...]
    """For each key of the axis: the leaves that take its value, itself first."""
    columns: tuple[Sequence[Any], ...]
    """Every key's values as the schema types them."""


@dataclass(frozen=True)
class Base:
    """What cells have in common that differ in direct axes only."""

    config: ExperimentConfig
    direct: tuple[Direct, ...]
    structure: str
    """Cells of equal structure can be trained together."""
    text: str
    """The canonical text of the config, with a slot for each leaf in `slots`."""
    slots: tuple[str, ...]
    values: dict[str, Any]
    """The value of every key of the config."""


class Plan(abc.ABC):
    """The runs of a sweep, cell by cell."""

    contents: dict[str, str]
    """A digest of what every file holds that a config names, by its path."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many cells there are."""

    @abc.abstractmethod
    def overrides(self, cell: int) -> list[str]:
        """Return the overrides that make a cell's run alone, those that vary first."""

    @property
    @abc.abstractmethod
    def shapes(self) -> int:
        """How many configs had to be resolved."""

    @abc.abstractmethod
    def config(self, cell: int) -> ExperimentConfig:
        """Return the resolved config of a cell."""

    @abc.abstractmethod
    def values(self, cell: int) -> dict[str, Any]:
        """Return the value of every key of a cell, those of free mappings one by one."""

    @abc.abstractmethod
    def varying(self) -> set[str]:
        """Return the keys that are not the same in all cells."""

    @abc.abstractmethod
    def identity(self, cell: int) -> str:
        """Return a hash of the resolved config of a cell: the same for the same run in any sweep."""

    @abc.abstractmethod
    def together(self) -> Iterator[np.ndarray]:
        """Yield cells that can be trained together, in ascending order."""

    @functools.cached_property
    def identities(self) -> np.ndarray:
        """Every cell's `identity`, as bytes [cells]."""
        return np.fromiter((self.identity(cell).encode() for cell in range(len(self))), IDENTITY, len(self))


class GridPlan(Plan):
    """The runs of one grid."""

    def __init__(self, grid: Grid, schema: Schema, compose: Compose) -> None:
        """Compose and check what needs to be, once each.

        Raises:
            ConfigError: A value cannot be run; the message names its key.
        """
        from dln.blueprint import check_names  # imports torch: only once the grid is understood

        self.grid, self.schema = grid, schema
        axes = grid.axes
        groups = [i for i, axis in enumerate(axes) if axis.is_group]
        _check_shapes(axes, groups)
        composed = {
            place: compose([*grid.fixed, *_overrides([axes[i] for i in groups], place)])
            for place in itertools.product(*(range(len(axes[i])) for i in groups))
        }
        merged = [
            i
            for i, axis in enumerate(axes)
            if not axis.is_group and not all(_is_direct(axis, config, schema) for config in composed.values())
        ]
        _check_shapes(axes, [*groups, *merged])
        self._outer = [i for i in range(len(axes)) if i in groups or i in merged]
        self._inner = [i for i in range(len(axes)) if i not in self._outer]
        self._bases: dict[tuple[int, ...], Base] = {}
        self.contents = {}
        columns = {i: _typed(axes[i], schema) for i in self._inner}
        for place in itertools.product(*(range(len(axes[i])) for i in self._outer)):
            at = dict(zip(self._outer, place, strict=True))
            config = composed[tuple(at[i] for i in groups)]
            if merged or self._inner:
                config = copy.deepcopy(config)
            for i in merged:
                for override in axes[i].overrides(at[i]):
                    apply_override(config, override, schema)
            for i in self._inner:
                for override in axes[i].overrides(0):
                    apply_override(config, override, schema)
            # Only now: a key that has an axis of its own follows no other.
            followers = {
                i: tuple(affected_leaves(config, clean(key)) or () for key in axes[i].keys) for i in self._inner
            }
            direct = [Direct(axes[i], followers[i], columns[i]) for i in self._inner]
            resolved = resolve(config, schema)
            check_names(resolved)
            slots = tuple(
                sorted({str(leaf_of(p)) for d in direct for leaves in d.leaves for p in leaves} - _shared(schema))
            )
            self.contents |= {path: content(path) for _, path in named_files(resolved)}
            text = _template(resolved, slots, self.contents)
            base = Base(resolved, tuple(direct), structure(resolved), text, slots, config_values(resolved))
            self._bases[place] = base
            for d in direct:
                self._check_values(base, d, check_names)

    def __len__(self) -> int:
        return len(self.grid)

    def overrides(self, cell: int) -> list[str]:
        """Return the overrides that make a cell's run alone, those that vary first."""
        return self.grid.overrides(cell)

    @property
    def shapes(self) -> int:
        """How many configs had to be composed."""
        return len(self._bases)

    def config(self, cell: int) -> ExperimentConfig:
        """Return the resolved config of a cell."""
        base, places = self._base(cell)
        return with_values(base.config, _assignments(base, places))

    def values(self, cell: int) -> dict[str, Any]:
        """Return the value of every key of a cell, those of free mappings one by one."""
        base, places = self._base(cell)
        swept = {p: v for p, v in _assignments(base, places).items() if not p.startswith("shared.")}
        values = {**base.values, **swept}
        return {**values, **digests(values, self.contents)}

    def varying(self) -> set[str]:
        """Return the keys that are not the same in all cells."""
        bases = [{**base.values, **digests(base.values, self.contents)} for base in self._bases.values()]
        keys = {key for values in bases for key in values}
        swept = {
            path
            for base in self._bases.values()
            for direct in base.direct
            if len(direct.axis) > 1
            for leaves in direct.leaves
            for path in leaves
            if not path.startswith("shared.")
        }
        swept |= {f"{path}.digest" for path in swept if path in FILE_KEYS}
        return swept | {k for k in keys if any(v.get(k) != bases[0].get(k) for v in bases)}

    def identity(self, cell: int) -> str:
        """Return a hash of the resolved config of a cell: the same for the same run in any sweep."""
        base, places = self._base(cell)
        swept = _assignments(base, places)
        # A value is its own slot, or inside a mapping that is one.
        values = [
            _text(by_content(slot, value, self.contents))
            for slot in base.slots
            for value in [swept[slot] if slot in swept else _get(with_values(base.config, swept), slot)]
        ]
        return hashlib.blake2b(base.text.format(*values).encode(), digest_size=12).hexdigest()

    def together(self) -> Iterator[np.ndarray]:
        """Yield cells that can be trained together, in ascending order."""
        everyone = np.arange(len(self))
        place = np.zeros(len(self), np.int64)  # which base: a number in mixed radix
        rest = everyone
        scale = 1
        for i in reversed(range(len(self.grid.axes))):
            rest, value = np.divmod(rest, len(self.grid.axes[i]))
            if i in self._outer:
                place += value * scale
                scale *= len(self.grid.axes[i])
        numbers: dict[str, int] = {}
        kinds = np.array([numbers.setdefault(base.structure, len(numbers)) for base in self._bases.values()])
        for number in range(len(numbers)):
            yield everyone[kinds[place] == number]

    def _base(self, cell: int) -> tuple[Base, list[int]]:
        place = self.grid.place(cell)
        return self._bases[tuple(place[i] for i in self._outer)], [place[i] for i in self._inner]

    def _check_values(self, base: Base, direct: Direct, check_names: Callable[[ExperimentConfig], Any]) -> None:
        """Check every value of an axis beside the first values of the others."""
        metadata = {key: item.metadata for key, item in fields(self.schema)}
        for leaves, column in zip(direct.leaves, direct.columns, strict=True):
            bounds = metadata[str(leaf_of(leaves[0]))]
            if isinstance(column, range) and leaves[0] in metadata:  # the ends tell
                column = (column[0], column[-1])
            for value in column:
                check_value(leaves[0], value, bounds if leaves[0] in metadata else {})
                if leaves[0] not in metadata or isinstance(value, str):
                    config = with_values(base.config, dict.fromkeys(leaves, value))
                    check_names(config)
                    self.contents |= {path: content(path) for _, path in named_files(config)}


class Plans(Plan):
    """Several plans one after the other."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """Take at least one plan."""
        self.plans = list(plans)
        self.contents = {path: digest for plan in plans for path, digest in plan.contents.items()}
        self._starts = np.cumsum([0, *map(len, plans)]).tolist()

    def __len__(self) -> int:
        return self._starts[-1]

    def overrides(self, cell: int) -> list[str]:
        """Return the overrides that make a cell's run alone."""
        plan, own = self._plan(cell)
        return plan.overrides(own)

    @property
    def shapes(self) -> int:
        """How many configs had to be composed."""
        return sum(plan.shapes for plan in self.plans)

    def config(self, cell: int) -> ExperimentConfig:
        """Return the resolved config of a cell."""
        plan, own = self._plan(cell)
        return plan.config(own)

    def identity(self, cell: int) -> str:
        """Return a hash of the resolved config of a cell."""
        plan, own = self._plan(cell)
        return plan.identity(own)

    def values(self, cell: int) -> dict[str, Any]:
        """Return the value of every key of a cell."""
        plan, own = self._plan(cell)
        return plan.values(own)

    def varying(self) -> set[str]:
        """Return the keys that are not the same in all cells."""
        first, *others = [plan.values(0) for plan in self.plans]
        keys = {key for values in (first, *others) for key in values}
        between = {key for key in keys if any(values.get(key) != first.get(key) for values in others)}
        return between.union(*(plan.varying() for plan in self.plans))

    def together(self) -> Iterator[np.ndarray]:
        """Yield cells that can be trained together, plan by plan."""
        for start, plan in zip(self._starts, self.plans, strict=False):
            for cells in plan.together():
                yield cells + start

    def _plan(self, cell: int) -> tuple[Plan, int]:
        place = bisect.bisect_right(self._starts, cell) - 1
        return self.plans[place], cell - self._starts[place]


def config_values(config: ExperimentConfig) -> dict[str, Any]:
    """Return the value of every key of a config; mappings that the schema leaves free are opened."""
    values: dict[str, Any] = {}
    for key, item in fields(type(config)):
        if key.startswith("shared."):
            continue
        value = _get(config, key)
        if is_free_dict(item) and isinstance(value, Mapping):
            values |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            values[key] = value
    return values


def _overrides(axes: Sequence[Axis], place: Sequence[int]) -> list[str]:
    return [text for axis, at in zip(axes, place, strict=True) for text in axis.overrides(at)]


MOST_SHAPES = 10_000
"""Configs of a plan that are composed or resolved, at some hundredths of a second each, before its first run starts."""


def _check_shapes(axes: Sequence[Axis], outer: Sequence[int]) -> None:
    """Refuse axes whose combinations have to be resolved one by one where those are too many; else say how many."""
    count = math.prod(len(axes[i]) for i in outer)
    keys = ", ".join(axes[i].keys[0] for i in outer)
    if count > MOST_SHAPES:
        raise ConfigError(
            f"{keys}: {count:,} combinations of values that change what runs have in common, each of which is looked "
            f"at before the first run; at most {MOST_SHAPES:,} can be, so sweep over fewer at a time"
        )
    if count > 500:
        log.info("looking at %d combinations of %s, some %.0f s", count, keys, 0.05 * count)


def _is_direct(axis: Axis, config: Composed, schema: Schema) -> bool:
    """Whether all values can be set in copies: batchable leaves, plain values, nothing computed from them."""
    items = dict(fields(schema))
    for key, column, values in zip(axis.keys, axis.columns, axis.values(), strict=True):
        leaf = items.get(str(leaf_of(clean(key))))
        if leaf is None or not leaf.metadata["batchable"] or affected_leaves(config, clean(key)) is None:
            return False
        if not isinstance(column, range) and not all(isinstance(v, PLAIN) for v in values):
            return False
    return True


def clean(key: str) -> str:
    """Return a key without the + or ++ of an override that adds it."""
    return key.lstrip("+")


def _typed(axis: Axis, schema: Schema) -> tuple[Sequence[Any], ...]:
    """Return an axis' values as the schema types them, e.g. a learning rate of 1 as 1.0."""
    typed = []
    items = dict(fields(schema))
    for i, (key, column, values) in enumerate(zip(axis.keys, axis.columns, axis.values(), strict=True)):
        path = clean(key)
        kind = items[path].type if path in items else None
        if isinstance(column, range) and kind is int:
            typed.append(column)
            continue
        converted = []
        for at, value in enumerate(values):
            if (kind is int and type(value) is int) or (kind is float and type(value) in (int, float)):
                converted.append(kind(value))
            elif path in items:
                converted.append(typed_value(schema, axis.overrides(at)[i], path))
            else:
                converted.append(value)
        typed.append(converted)
    return tuple(typed)


def _shared(schema: Schema) -> set[str]:
    return {key for key, _ in fields(schema) if key.startswith("shared.")}


def _assignments(base: Base, places: Sequence[int]) -> dict[str, Any]:
    return {
        path: column[at]
        for direct, at in zip(base.direct, places, strict=True)
        for leaves, column in zip(direct.leaves, direct.columns, strict=True)
        for path in leaves
    }


def _get(config: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), config)


def _text(value: Any) -> str:
    """Return the canonical text of a value."""
    return json.dumps(value, sort_keys=True, default=dataclasses.asdict)


def _template(config: ExperimentConfig, slots: Sequence[str], contents: Mapping[str, str]) -> str:
    """Return the canonical text of a config, with {} for each of `slots`; of `shared` only what lanes take counts."""
    lines = [type(config).__name__]
    for key in sorted(key for key, _ in fields(type(config)) if not key.startswith("shared.")):
        said = _text(by_content(key, _get(config, key), contents))
        text = "{}" if key in slots else said.replace("{", "{{").replace("}", "}}")
        lines.append(f"{key}={text}")
    return "\n".join(lines)
