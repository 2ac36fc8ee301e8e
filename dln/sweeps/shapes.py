"""Which combinations of a grid are composed and resolved, once each, and how every cell's config is made from them.

Composing a config with Hydra takes a tenth of a second, and resolving one some milliseconds. So only combinations of
values that change what runs have in common (shapes, counts, names) are composed and resolved, once each; seeds, rates
and the like (the schema's batchable fields) are set in copies, each value being checked once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import math
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dln.base.arrays import content
from dln.base.setting import number_type
from dln.composing.alike import structure
from dln.composing.checks import check_reference, check_value
from dln.composing.compose import Composed, affected_leaves, apply_override, resolve, typed_value
from dln.composing.contents import FILE_KEYS, by_content, digests, named_files
from dln.composing.grid import Axis, Grid
from dln.composing.variants import stands_for, with_values
from dln.config import ExperimentConfig, Schema, SingleConfig, fields, is_free_dict, leaf_of
from dln.errors import ConfigError

log = logging.getLogger("dln")

Compose = Callable[[Sequence[str]], Composed]
"""Composes overrides into a config with its `${...}` in place."""

PLAIN = (int, float, str, bool, type(None))

MOST_SHAPES = 10_000
"""Configs of a grid that are composed or resolved, at some hundredths of a second each, before its first run starts."""


@dataclass(frozen=True)
class Direct:
    """An axis whose values are set in copies of a resolved config."""

    axis: Axis
    leaves: tuple[tuple[str, ...], ...]
    """For each key of the axis: the leaves that take its value, itself first."""
    columns: tuple[Sequence[Any], ...]
    """Every key's values as the schema types them."""

    def values(self, at: int) -> dict[str, Any]:
        """Return what each leaf becomes with the axis' values of this number."""
        pairs = zip(self.leaves, self.columns, strict=True)
        return {path: column[at] for leaves, column in pairs for path in leaves}


@dataclass(frozen=True)
class Shape:
    """What cells have in common that differ in direct axes only; `swept` is what the leaves of those are in a cell."""

    base: ExperimentConfig
    """The resolved config of the first of them."""
    direct: tuple[Direct, ...]
    structure: str
    """Cells of equal structure can be trained together."""
    text: str
    """The canonical text of the config, with a blank in place of the line of each leaf in `blanks`."""
    blanks: tuple[str, ...]
    contents: dict[str, str]
    """A digest of what every file holds that a cell's config names, by its path."""

    def config(self, swept: Mapping[str, Any]) -> ExperimentConfig:
        """Return the resolved config of a cell."""
        return with_values(self.base, swept)

    def values(self, swept: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every key of a cell, those of free mappings one by one."""
        values = {**self._values, **{path: value for path, value in swept.items() if _is_read(path)}}
        return {**values, **digests(values, self.contents)}

    def varying(self) -> set[str]:
        """Return the keys in which cells of this shape differ."""
        swept = {path for axis in self.direct if len(axis.axis) > 1 for leaves in axis.leaves for path in leaves}
        return {path for path in swept if _is_read(path)} | {f"{path}.digest" for path in swept & {*FILE_KEYS}}

    def identity(self, swept: Mapping[str, Any]) -> str:
        """Return a hash of the resolved config of a cell: the same for the same run in any sweep."""
        # A blank takes the swept value itself, or the mapping that it is inside of.
        values = [swept[blank] if blank in swept else _get(self.config(swept), blank) for blank in self.blanks]
        lines = [_line(*leaf, value, self.contents) for leaf, value in zip(self._leaves, values, strict=True)]
        return _hash(self.text.format(*lines))

    def moving_with(self, keys: Sequence[str]) -> set[str]:
        """Return the leaves whose value is known where those of some keys are, of which none is fixed.

        Raises:
            ConfigError: A key is not swept over, or its values change what runs have in common.
        """
        found: set[str] = set()
        for axis in self.direct:
            own = [(leaves, c) for leaves, c in zip(axis.leaves, axis.columns, strict=True) if {*leaves} & {*keys}]
            apart = len({*zip(*(column for _, column in own), strict=True)}) == len(axis.axis)
            found.update(*(axis.leaves if own and apart else [leaves for leaves, _ in own]))
        for key in keys:
            if key not in found:
                free = ", ".join(sorted(self.varying())) or "nothing"
                raise ConfigError(
                    f"aggregate.over: {key} does not vary in this sweep, or changes what its runs have in common; "
                    f"what may be averaged over: {free}"
                )
        return found

    @functools.cached_property
    def _leaves(self) -> list[tuple[str, dataclasses.Field]]:
        """The keys of the blanks, and their fields."""
        items = dict(fields(type(self.base)))
        return [(blank, items[blank]) for blank in self.blanks]

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        return _config_values(self.base)


@dataclass(frozen=True)
class Shaped:
    """A grid and the shapes that its cells have."""

    grid: Grid
    outer: tuple[int, ...]
    """The axes whose values change what runs have in common; the others are direct."""
    shapes: dict[tuple[int, ...], Shape]
    """By the place of a cell on the outer axes."""

    def find(self, cell: int) -> tuple[Shape, dict[str, Any]]:
        """Return the shape of a cell, and what the leaves of its direct axes are."""
        place = self.grid.place(cell)
        shape = self.shapes[tuple(place[i] for i in self.outer)]
        own = (at for i, at in enumerate(place) if i not in self.outer)
        return shape, {
            path: v for axis, at in zip(shape.direct, own, strict=True) for path, v in axis.values(at).items()
        }

    def apart(self, keys: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of each cell among those that differ in more than some leaves, and its place among others.

        Both are [cells]. The place is that of its values, in order, of the axes that have any of the leaves.
        """
        sizes = [len(axis) for axis in self.grid.axes]
        ranks: dict[int, np.ndarray] = {}
        direct = next(iter(self.shapes.values())).direct
        for i, axis in zip((i for i in range(len(sizes)) if i not in self.outer), direct, strict=True):
            own = [c for leaves, c in zip(axis.leaves, axis.columns, strict=True) if {*leaves} & {*keys}]
            ranks |= {i: _ranks(own[0])} if own else {}
        number = place = np.zeros(sizes, np.int64)
        for i, size in enumerate(sizes):
            along = ranks.get(i, np.arange(size)).reshape([size if j == i else 1 for j in range(len(sizes))])
            number, place = (number, place * size + along) if i in ranks else (number * size + along, place)
        return number.ravel(), place.ravel()

    def together(self) -> Iterator[np.ndarray]:
        """Yield cells that can be trained together, in ascending order."""
        sizes = [len(axis) for axis in self.grid.axes]
        numbers: dict[str, int] = {}
        kinds = np.array([numbers.setdefault(shape.structure, len(numbers)) for shape in self.shapes.values()])
        places = kinds.reshape([size if i in self.outer else 1 for i, size in enumerate(sizes)])
        of_cells = np.broadcast_to(places, sizes).ravel()
        for number in range(len(numbers)):
            yield np.flatnonzero(of_cells == number)


def _ranks(values: Iterable[Any]) -> np.ndarray:
    """Return the place of each value among them in ascending order, null first.

    >>> _ranks([5, None, 3])
    array([2, 0, 1])
    """
    given = [*values]
    order = sorted(range(len(given)), key=lambda i: (given[i] is not None, str(type(given[i])), given[i] or 0))
    return np.argsort(order)


def shaped(grid: Grid, schema: Schema, compose: Compose) -> Shaped:
    """Compose and check what needs to be, once each.

    Raises:
        ConfigError: A value cannot be run; the message names its key.
    """
    axes = grid.axes
    groups = [i for i, axis in enumerate(axes) if axis.is_group]
    _check_count([axes[i] for i in groups])
    composed = {
        place: compose(
            [*grid.fixed, *(text for i, at in zip(groups, place, strict=True) for text in axes[i].overrides(at))]
        )
        for place in _places([axes[i] for i in groups])
    }
    pickled = {place: pickle.dumps(config) for place, config in composed.items()}  # for copies, faster than deepcopy's
    inner = [
        i
        for i, axis in enumerate(axes)
        if not axis.is_group and all(_is_direct(axis, config, schema) for config in composed.values())
    ]
    merged = [i for i in range(len(axes)) if i not in (*groups, *inner)]
    outer = tuple(sorted([*groups, *merged]))
    _check_count([axes[i] for i in (*groups, *merged)])
    columns = [_typed(axes[i], schema) for i in inner]
    shapes = {}
    for place in _places([axes[i] for i in outer]):
        at = {**dict.fromkeys(inner, 0), **dict(zip(outer, place, strict=True))}
        config = pickle.loads(pickled[tuple(at[i] for i in groups)])
        for i in (*merged, *inner):
            for override in axes[i].overrides(at[i]):
                apply_override(config, override, schema)
        # Only now: a key that has an axis of its own follows no other.
        followers = [tuple(affected_leaves(config, _clean(key)) or () for key in axes[i].keys) for i in inner]
        direct = tuple(map(Direct, [axes[i] for i in inner], followers, columns))
        shapes[place] = _shape(resolve(config, schema), direct, schema)
    return Shaped(grid, outer, shapes)


def _shape(config: ExperimentConfig, direct: tuple[Direct, ...], schema: Schema) -> Shape:
    """Check a resolved config, and every value of its direct axes; return what cells have in common with it."""
    from dln.factory import check_names  # imports torch: only once the grid is understood

    check_names(config)
    blanks = {str(leaf_of(path)) for axis in direct for leaves in axis.leaves for path in leaves}
    blanks = tuple(sorted(filter(_is_read, blanks)))
    contents = {path: content(path) for _, path in named_files(config)}
    text = _template(config, blanks, contents)
    _refuse_equal(config, direct)
    for other in _to_check(config, direct, schema):
        check_names(other)
        contents |= {path: content(path) for _, path in named_files(other)}
    return Shape(config, direct, structure(config), text, blanks, contents)


def _to_check(config: ExperimentConfig, direct: Sequence[Direct], schema: Schema) -> Iterator[ExperimentConfig]:
    """Check every value of direct axes, beside the first values of the others; yield configs whose names are to be."""
    metadata = {key: item.metadata for key, item in fields(schema)}
    for leaves, column in ((leaves, c) for axis in direct for leaves, c in zip(axis.leaves, axis.columns, strict=True)):
        is_leaf = leaves[0] in metadata
        if isinstance(column, range) and is_leaf:  # the ends tell
            column = (column[0], column[-1])
        for value in column:
            check_value(leaves[0], value, metadata[leaves[0]] if is_leaf else {})
            if not is_leaf or isinstance(value, str):
                yield with_values(config, dict.fromkeys(leaves, value))


def _refuse_equal(config: ExperimentConfig, direct: Sequence[Direct]) -> None:
    """Raise ConfigError where a cell is compared with a reference that equals it."""
    reference = config.reference if isinstance(config, SingleConfig) else {}
    swept: dict[str, Any] = {}
    for axis in direct:
        pairs = zip(axis.leaves, axis.columns, strict=True)
        own = {path: column for leaves, column in pairs for path in leaves if path in reference}
        wanted = tuple(reference[path] for path in own)
        at = next((at for at, values in enumerate(zip(*own.values(), strict=True)) if values == wanted), None)
        if own and at is None:
            return
        swept |= {} if at is None else axis.values(at)
    if swept and isinstance(config, SingleConfig):
        check_reference(with_values(config, swept))


def _places(axes: Sequence[Axis]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(len(axis)) for axis in axes))


def _config_values(config: ExperimentConfig) -> dict[str, Any]:
    """Return the value of every key of a config; mappings that the schema leaves free are opened."""
    values: dict[str, Any] = {}
    for key, item in fields(type(config)):
        if not _is_read(key):
            continue
        value = _get(config, key)
        if is_free_dict(item) and isinstance(value, Mapping):
            values |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            values[key] = value
    return values


def _check_count(axes: Sequence[Axis]) -> None:
    """Refuse axes whose combinations have to be resolved one by one where those are too many; else say how many."""
    count = math.prod(map(len, axes))
    keys = ", ".join(axis.keys[0] for axis in axes)
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
        leaf = items.get(str(leaf_of(_clean(key))))
        if leaf is None or not leaf.metadata["batchable"] or affected_leaves(config, _clean(key)) is None:
            return False
        if not isinstance(column, range) and not all(isinstance(v, PLAIN) for v in values):
            return False
    return True


def _clean(key: str) -> str:
    """Return a key without the + or ++ of an override that adds it."""
    return key.lstrip("+")


def _typed(axis: Axis, schema: Schema) -> tuple[Sequence[Any], ...]:
    """Return an axis' values as the schema types them, e.g. a learning rate of 1 as 1.0."""
    typed = []
    items = dict(fields(schema))
    for i, (key, column, values) in enumerate(zip(axis.keys, axis.columns, axis.values(), strict=True)):
        path = _clean(key)
        kind = number_type(items[path]) if path in items else None
        if isinstance(column, range) and kind is int:
            typed.append(column)
            continue
        converted = []
        for at, value in enumerate(values):
            if stands_for(value, kind):
                converted.append(float(value) if kind is float else value)
            elif path in items:
                converted.append(typed_value(schema, axis.overrides(at)[i], path))
            else:
                converted.append(value)
        typed.append(converted)
    return tuple(typed)


def _is_read(path: str) -> bool:
    """Whether runs read a key: what is `shared` was copied to the lanes; who tracks, optimises or averages looks on."""
    return not f"{path}.".startswith(("shared.", "tracker.", "objective.", "aggregate."))


def _get(config: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), config)


def _text(value: Any) -> str:
    """Return the canonical text of a value."""
    return json.dumps(value, sort_keys=True, default=dataclasses.asdict)


def _template(config: ExperimentConfig, blanks: Sequence[str], contents: Mapping[str, str]) -> str:
    """Return the canonical text of a config, with {} for each of `blanks`; of `shared` only what lanes take counts."""
    text = type(config).__name__
    for key, item in sorted(fields(type(config)), key=lambda leaf: leaf[0]):
        if _is_read(key):
            line = _line(key, item, _get(config, key), contents)
            text += "{}" if key in blanks else line.replace("{", "{{").replace("}", "}}")
    return text


def identity_of(config: ExperimentConfig, contents: Mapping[str, str]) -> str:
    """Return the identity of the run of any config; `contents` are digests of the files that it names."""
    return _hash(_template(config, (), contents).format())


def values_of(config: ExperimentConfig, contents: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of every key of any config, as `Shape.values` does."""
    values = _config_values(config)
    return {**values, **digests(values, contents)}


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _line(key: str, item: dataclasses.Field, value: Any, contents: Mapping[str, str]) -> str:
    """Return what the canonical text says of a leaf: nothing of one that came late, while it is at its default."""
    default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    if item.metadata["late"] and value == default:
        return ""
    return f"\n{key}={_text(by_content(key, value, contents))}"
