"""From what was composed, or a dictionary, to one resolved, checked config; every fault becomes a short ConfigError.

The schema lies beneath every composed config, a user's own file without a defaults list included: a key that a YAML
leaves out has its default, a key that no run knows is an error wherever it stands.
"""

import dataclasses
import functools
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from dln.base.values import check_plain
from dln.composing.burden import check_burden
from dln.composing.checks import check, check_leaf
from dln.composing.entries import BY_A_WORD, kind_of, listed, named
from dln.composing.grid import written_out
from dln.composing.hydra_errors import dangling, translated
from dln.composing.hydra_internals import parsed
from dln.composing.keys import keys, whole_keys
from dln.composing.spelling import set_to
from dln.config import (
    CONFIGS,
    CallbackConfig,
    ComparativeConfig,
    ExperimentConfig,
    Schema,
    SingleConfig,
    TrackerConfig,
    fields,
    folder,
    is_free_dict,
    leaf_of,
)
from dln.errors import ConfigError, suggestion

Composed = DictConfig
"""A config with its `${...}` in place."""


@functools.cache
def schema_node(schema: Schema) -> DictConfig:
    """Return the schema as a config, to be read only: every key typed and at its default.

    In a comparative config each lane's model and training refer to `shared`, key by key, and so do its callbacks.
    """
    node = OmegaConf.structured(schema)
    if schema is ComparativeConfig:
        for section in ("model", "training"):
            for key in node.shared[section]:
                for lane in ("a", "b"):
                    node[f"{section}_{lane}"][key] = f"${{shared.{section}.{key}}}"
        for lane in ("a", "b"):
            node[f"callbacks_{lane}"] = "${shared.callbacks}"
    return node


@functools.cache
def _pickled_schema(schema: Schema) -> bytes:
    """Return `schema_node`, pickled: its copies are read five times as fast as `copy.deepcopy` makes them."""
    return pickle.dumps(schema_node(schema))


def laid_over(base: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested config on top of another.

    >>> laid_over({"model": {"in_dim": 3, "out_dim": 2}}, {"model": {"in_dim": 4}})
    {'model': {'in_dim': 4, 'out_dim': 2}}
    """
    return cast(dict, OmegaConf.to_container(OmegaConf.merge(dict(base), dict(config))))


def typed_value(schema: Schema, override: str, key: str) -> Any:
    """Return what the schema makes of a value: that of a key, once an override has set it."""
    node = pickle.loads(_pickled_schema(schema))
    apply_override(node, override, schema)
    return OmegaConf.select(node, key)


def save_yaml(value: Mapping[str, Any] | Sequence[Any], path: Path) -> None:
    """Write a mapping or a list as YAML."""
    OmegaConf.save(OmegaConf.create(cast(Any, value)), path)


def resolve(config: Mapping[str, Any] | DictConfig, schema: Schema) -> Any:
    """Merge `config` into the schema, resolve every interpolation, check the values, and return plain dataclasses.

    Raises:
        ConfigError: A key is unknown, or a value is of the wrong type or one that no run can have.
    """
    with translated(schema):
        node = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
        # A plain copy: what a `+` override added to a typed node would pass unseen.
        plain = {k: v for k, v in cast(dict, OmegaConf.to_container(node)).items() if k != "hydra"}
        for key, value in plain.items():
            check_plain(str(key), value)
        merged = merge_schema(schema, OmegaConf.create(plain))
    return resolve_typed(merged, schema)


def resolve_typed(merged: Composed, schema: Schema) -> Any:
    """Return what `resolve` does of a config that is merged into the schema already; it is used up."""
    with translated(schema):
        try:
            OmegaConf.resolve(merged)
        except InterpolationResolutionError as error:
            _name_dangling(merged, schema)
            raise error
        resolved = cast(ExperimentConfig, OmegaConf.to_object(merged))
    for key, item in fields(schema):
        kind = kind_of(key)
        if kind is not None and not (item.default is None and getattr(resolved, key) is None):
            setattr(resolved, key, listed(kind, getattr(resolved, key), key))
    if isinstance(resolved, SingleConfig):
        resolved.reference = _reference(resolved.reference)
    if resolved.tracker is not None:
        resolved.tracker = named(TrackerConfig, resolved.tracker, "tracker")
    check(resolved)
    check_burden(resolved)
    return resolved


def _name_dangling(config: DictConfig, schema: Schema) -> None:
    """Raise ConfigError for the first key of a config whose `${...}` leads nowhere."""
    for key, _ in fields(schema):
        try:
            leaf = OmegaConf.select(config, key)
            if isinstance(leaf, Container):
                OmegaConf.to_container(leaf, resolve=True)
        except InterpolationResolutionError as error:
            raise ConfigError(f"{key}: {dangling(error, schema)}") from error


def _reference(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what a reference has other values of, by dotted keys, typed as those of the run."""
    found: dict[str, Any] = {}
    items = {key: item for key, item in fields(SingleConfig) if _may_differ(key)}
    for name, value in given.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and leaf_of(key) is None:
            found |= _reference(value, f"{key}.")
        elif key == "callbacks":
            found[key] = listed(CallbackConfig, value, "reference.callbacks")
        elif key in items:
            try:
                typed = typed_value(SingleConfig, written_out(set_to(key, value)), key)
            except ConfigError as error:
                raise ConfigError(f"reference.{error}") from error
            found[key] = OmegaConf.to_container(typed) if isinstance(typed, Container) else typed
            check_leaf(f"reference.{key}", found[key], items[key])
        else:
            shared = next((reason for start, reason in _SHARED.items() if key.startswith(start)), None)
            raise ConfigError(f"a reference has no {key!r} of its own; {shared or suggestion(key, items)}")
    return found


_SHARED = {
    "engine": "one engine trains both, step by step; run it alone on the other, and take that run as the baseline of "
    "dln aggregate, or as the reference of dln.loss_gap",
    "evaluate_": "it is recorded where its run is; one recorded more densely, run alone, is the reference of "
    "dln.loss_gap(..., reference=history)",
    "max_steps": "it goes as far as its run",
    "data": "both see the same data",
}
"""Why a run and its reference have the same of what is called so, and what to do."""


def _may_differ(key: str) -> bool:
    """Whether a reference may have another value of a key: both see the same data, and files are named by the run."""
    shared = ("model.in_dim", "model.out_dim", "model.weights", "model.init_params")
    return key.startswith(("model.", "training.", "callbacks")) and key not in shared


def merge_schema(schema: Schema, config: DictConfig) -> DictConfig:
    """Return `config`, which is used up, on top of the schema's defaults, typed."""
    leaves = dict(fields(schema))
    for key in keys(schema):
        given, item = node_at(config, key), leaves.get(key)
        fit_number(given, key, item)
        shape = DictConfig if item is None else _container(item)
        if shape is None or given is None or isinstance(given, shape) or given._is_none():
            continue
        word = item is not None and (given._is_interpolation() or kind_of(key) in BY_A_WORD)
        if not word or isinstance(given, Container):
            belongs = "a mapping" if shape is DictConfig else "a list"
            raise ConfigError(f"{key} must be {belongs}, not {given._value()!r}")
    # `unsafe`: it may take `config` apart, where `merge` would copy both.
    return cast(DictConfig, OmegaConf.unsafe_merge(pickle.loads(_pickled_schema(schema)), config))


def fit_number(node: Any, key: str, item: dataclasses.Field | None) -> None:
    """Let a node hold 100000 where 1e5 is said of a whole number, and 2.0 where 2 is of a factor for all layers."""
    if node is None:
        return
    value = node._value()
    if key in whole_keys() and isinstance(value, float) and value.is_integer():
        node._set_value(int(value))
    if item is not None and item.metadata["layered"] and type(value) is int:
        node._set_value(float(value))


def _container(item: dataclasses.Field) -> type[DictConfig] | type[ListConfig] | None:
    """Return what a leaf of the schema holds, if it is one of the two."""
    if is_free_dict(item):
        return DictConfig
    holds_list = item.default_factory is not dataclasses.MISSING and isinstance(item.default_factory(), list)
    return ListConfig if holds_list else None


def apply_override(config: DictConfig, override: str, schema: Schema) -> None:
    """Change an unresolved config as Hydra would by an override that sets a value."""
    with translated(schema):
        given = parsed(override)
        refuse_writing_through(config, given.key_or_group)
        force = given.is_add() or given.is_force_add()
        OmegaConf.update(config, given.key_or_group, given.value(), merge=True, force_add=force)


def affected_leaves(config: DictConfig, key: str) -> tuple[str, ...] | None:
    """Return which keys of an unresolved config take the value of `key`, itself first.

    Those are the keys whose interpolation is `${key}`, or leads there. None if something is computed from it.

    >>> config = OmegaConf.create({"a": 1, "b": "${a}", "c": {"d": "${b}"}, "e": "x${c.d}"})
    >>> affected_leaves(config, "e"), affected_leaves(config, "a")
    (('e',), None)
    >>> del config["e"]
    >>> affected_leaves(config, "a")
    ('a', 'b', 'c.d')
    """
    written = list(_interpolations(config))
    found = [key]
    for one in found:
        for path, text in written:
            pure = re.fullmatch(r"\$\{([^${}:]+)\}", text)
            for target in re.findall(r"\$\{([^${}:]+)\}", text):
                inside = f"{one}.".startswith(f"{target}.")
                if (pure is None and inside) or target.startswith((".", f"{one}.")):
                    return None
                if inside and path + one[len(target) :] not in found:
                    found.append(path + one[len(target) :])
    return tuple(found)


def _interpolations(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the text of everything in a config that holds a `${...}`."""
    if node._is_interpolation():
        yield path, node._value()
    elif isinstance(node, Container) and not node._is_none() and not node._is_missing():
        for name in node if isinstance(node, DictConfig) else range(len(cast(ListConfig, node))):
            yield from _interpolations(node._get_node(name), f"{path}.{name}" if path else str(name))


def hydra_overrides(config: DictConfig) -> list[str]:
    """Return the overrides of Hydra's own section as they were given, any `${...}` in place."""
    return cast(list[str], OmegaConf.to_container(config.hydra.overrides.hydra))


def task_overrides(config: DictConfig) -> list[str]:
    """Return the other overrides as they were given, any `${...}` in place."""
    return cast(list[str], OmegaConf.to_container(config.hydra.overrides.task))


def as_overrides(params: Mapping[str, Any] | None) -> list[str]:
    """Return the overrides that a YAML file lists under `hydra.sweeper.params`."""
    return [f"{key}={value}" for key, value in (params or {}).items()]


def is_only_comparative(config_name: str) -> bool:
    """Whether there is a comparative config of this name, and no single one."""
    single, comparative = (CONFIGS / folder(s) / f"{config_name}.yaml" for s in (SingleConfig, ComparativeConfig))
    return comparative.exists() and not single.exists()


def node_at(config: DictConfig, key: str) -> Any:
    """Return the node at a dotted key without following interpolations, or None."""
    node: Any = config
    for part in key.split("."):
        inside = isinstance(node, DictConfig) and not node._is_interpolation()
        node = node._get_node(part, validate_access=False) if inside else None
    return node


def refuse_writing_through(config: DictConfig, key: str) -> None:
    """Refuse an override of a key inside a section that only refers to another: it would change that other one."""
    parts = key.split(".")
    for i in range(1, len(parts)):
        section = ".".join(parts[:i])
        node = node_at(config, section)
        if node is not None and node._is_interpolation():
            value, whole = node._value(), "[...]" if parts[i].isdigit() else f"{{{parts[i]}: ...}}"
            raise ConfigError(
                f"{key}: {section} only refers to {value}; give it whole ({section}={whole}), "
                f"or change {value[2:-1]} for both models"
            )


def refuse_unread(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse overrides of what is shared that no model of an unresolved config takes: they would change nothing."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        head, _, rest = key.partition(".")
        if head == "shared" and leaf_of(key) is not None and affected_leaves(config, key) == (key,):
            section, dot, name = rest.partition(".")
            own = " and ".join(f"{section}_{lane}{dot}{name}" for lane in "ab")
            raise ConfigError(f"{key} would change nothing: {own} have values of their own; change those")
