"""From YAML files, overrides and dictionaries to one resolved, checked config; every fault becomes a short ConfigError.

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

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import Container, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from dln.base.values import check_plain
from dln.composing.burden import check_burden
from dln.composing.checks import check
from dln.composing.grid import written_out
from dln.composing.hydra_errors import dangling, translated
from dln.composing.yaml_file import check_yaml
from dln.config import (
    CONFIGS,
    CallbackConfig,
    ComparativeConfig,
    EventConfig,
    ExperimentConfig,
    Kind,
    MetricConfig,
    Schema,
    SingleConfig,
    fields,
    folder,
    is_free_dict,
    keys,
    named,
    whole_keys,
)
from dln.errors import ConfigError

Composed = DictConfig
"""A config with its `${...}` in place."""


@functools.cache
def schema_node(schema: Schema) -> DictConfig:
    """Return the schema as a config, to be read only: every key typed and at its default.

    In a comparative config each lane's model and training refer to `shared`, key by key.
    """
    node = OmegaConf.structured(schema)
    if schema is ComparativeConfig:
        for section in ("model", "training"):
            for key in node.shared[section]:
                for lane in ("a", "b"):
                    node[f"{section}_{lane}"][key] = f"${{shared.{section}.{key}}}"
    return node


@functools.cache
def _pickled_schema(schema: Schema) -> bytes:
    """Return `schema_node`, pickled: its copies are read five times as fast as `copy.deepcopy` makes them."""
    return pickle.dumps(schema_node(schema))


_packaged: dict[tuple[str, str], bytes] = {}
"""Configs that lie in packages, Hydra's own above all, by source and path: pickled, for each caller a copy."""


class CheckedRepository(ConfigRepository):
    """Hydra's access to YAML files: a user's file is looked at before Hydra reads it, a package's is read once."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return what a file holds.

        Raises:
            ConfigError: The file cannot be read as a mapping; says where.
        """
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() != "pkg":
            if source is not None and source.scheme() == "file":
                check_yaml(Path(source.path) / source._normalize_file_name(config_path))
            return super().load_config(config_path)
        key = source.path, config_path
        if key not in _packaged:
            _packaged[key] = pickle.dumps(super().load_config(config_path))
        return pickle.loads(_packaged[key])


_MODES = ([], ["hydra.mode=RUN"], ["hydra.mode=MULTIRUN"])
"""What Hydra adds to the overrides once it knows the mode."""


class SchemaLoader(ConfigLoaderImpl):
    """Hydra's config loader, with the schema laid beneath what the YAML files say, before overrides apply."""

    schema: Schema

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        """Take where Hydra finds YAML files."""
        super().__init__(config_search_path)
        self.repository = CheckedRepository(config_search_path)
        self._asked_for_mode: tuple[str | None, list[str], DictConfig] | None = None

    def _load_configuration_impl(self, config_name: str | None, overrides: list[str], *args: Any, **kw: Any) -> Any:
        """Compose a config; the one that Hydra composes to learn its mode is that of the run, if nothing differs."""
        config = self._composed_for_mode(config_name, overrides, *args, **kw)
        if config is None:
            config = self._compose(config_name, overrides, *args, **kw)
        if kw.get("validate_sweep_overrides") is False:
            self._asked_for_mode = config_name, list(overrides), config
        return config

    def _composed_for_mode(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig | None:
        """Return the config from which Hydra has learned the mode, if it is the one that it asks for now, else None.

        Hydra adds the mode to the overrides. The config was composed as for a sweep, which leaves out config groups
        that nobody has chosen, and allows values to sweep over; for a run they raise.
        """
        asked, self._asked_for_mode = self._asked_for_mode, None
        if asked is None:
            return None
        name, before, config = asked
        mode = overrides[len(before) :]
        if [name, *before] != [config_name, *overrides[: len(before)]] or mode not in _MODES:
            return None
        if validate_sweep_overrides:
            parsed = OverridesParser.create(config_loader=self).parse_overrides(overrides)
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        if run_mode == RunMode.RUN and OmegaConf.missing_keys(config.hydra.runtime.choices):
            return None
        for line in mode:
            config.hydra.mode = line.partition("=")[2]
            config.hydra.overrides.hydra.append(line)
        return config

    def _compose(self, config_name: str | None, overrides: list[str], *args: Any, **kw: Any) -> Any:
        for override in overrides:
            if override.lstrip("+~").startswith("="):
                raise ConfigError(f"cannot read the override {override!r}: it names no key")
        self._overrides = overrides
        try:
            return super()._load_configuration_impl(config_name, overrides, *args, **kw)
        except (ConfigError, HydraException, OmegaConfBaseException):
            raise
        except ValueError as error:  # of a defaults list, or of a `# @package` line
            raise ConfigError(f"cannot compose {config_name!r}: {error}") from error

    def _compose_config_from_defaults_list(self, defaults: Any, repo: Any) -> DictConfig:
        composed = super()._compose_config_from_defaults_list(defaults, repo)
        hydra = composed.pop("hydra")
        config = merge_schema(self.schema, composed)
        with open_dict(config):
            config.hydra = hydra
        self._open_free_dicts(config)
        for override in self._overrides:
            _refuse_writing_through(config, override.lstrip("+~").partition("=")[0])
        return config

    def _open_free_dicts(self, config: DictConfig) -> None:
        """Let overrides add keys to dicts such as `data.params`; Hydra would close them, but what they hold is free."""
        for key, item in fields(self.schema):
            if is_free_dict(item):
                node = _node(config, key)
                if isinstance(node, DictConfig) and not node._is_interpolation():
                    OmegaConf.set_struct(node, False)


class SingleLoader(SchemaLoader):
    """Loads what `run.py` runs."""

    schema = SingleConfig


class ComparativeLoader(SchemaLoader):
    """Loads what `run_comparative.py` runs."""

    schema = ComparativeConfig


def loader_class(schema: Schema) -> type[SchemaLoader]:
    """Return the loader of a schema; named classes, so that launchers can send them to other processes."""
    return ComparativeLoader if schema is ComparativeConfig else SingleLoader


def load_config(overrides: Sequence[str], schema: Schema, config_name: str = "default") -> ExperimentConfig:
    """Return the config that a door would run with these overrides.

    Args:
        overrides: As on the command line, e.g. `["training.lr=0.01", "metrics=[weight_norm]"]`.
        schema: SingleConfig or ComparativeConfig.
        config_name: A file in `configs/single` or `configs/comparative`.

    Raises:
        ConfigError: An override or a file cannot be read, or the config cannot be run.
    """
    directory = CONFIGS / folder(schema)
    if not directory.is_dir():
        raise ConfigError(
            f"no configs at {directory}: the installation is not complete; pass a dictionary instead, or install again"
        )
    with translated(schema):
        loader = loader_class(schema)(create_config_search_path(str(directory)))
        lines = [*map(written_out, overrides)]
        config = loader.load_configuration(config_name, lines, RunMode.RUN, from_shell=False)
    return resolve(config, schema)


def composed(loader: Any, config_name: str | None, overrides: Sequence[str]) -> Composed:
    """Return what Hydra's loader makes of a config and overrides, without Hydra's own section."""
    config = loader.load_configuration(config_name, list(overrides), RunMode.RUN)
    with open_dict(config):
        config.pop("hydra")
    return config


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
        try:
            OmegaConf.resolve(merged)
        except InterpolationResolutionError as error:
            _name_dangling(merged, schema)
            raise error
        resolved = cast(ExperimentConfig, OmegaConf.to_object(merged))
    for key, _ in fields(schema):
        kind = _kind(key)
        if kind is not None:
            setattr(resolved, key, _listed(kind, getattr(resolved, key), key))
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


def _kind(key: str) -> Kind | None:
    """Return what the entries are of a list of names that stands at `key`, if it is one."""
    if key.startswith("callbacks"):
        return CallbackConfig
    return EventConfig if key == "events" else MetricConfig if key.endswith("metrics") else None


def _listed(kind: Kind, value: Any, key: str) -> list[Any]:
    """Return a list of metrics, events or callbacks as a list of `kind`; a word is short for a list of it."""
    if isinstance(value, str) and kind is MetricConfig:
        value = [value]
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list such as [NAME, NAME], not {value!r}")
    return [named(kind, entry, f"{key}[{i}]") for i, entry in enumerate(value)]


def merge_schema(schema: Schema, config: DictConfig) -> DictConfig:
    """Return `config`, which is used up, on top of the schema's defaults, typed."""
    leaves = dict(fields(schema))
    for key in keys(schema):
        given, item = _node(config, key), leaves.get(key)
        shape = DictConfig if item is None else _container(item)
        if shape is None or given is None or isinstance(given, shape) or given._is_none():
            continue
        word = item is not None and (given._is_interpolation() or key.endswith("metrics"))
        if not word or isinstance(given, Container):
            belongs = "a mapping" if shape is DictConfig else "a list"
            raise ConfigError(f"{key} must be {belongs}, not {given._value()!r}")
    for key in whole_keys():
        _make_whole(config, key)
    # `unsafe`: it may take `config` apart, where `merge` would copy both.
    return cast(DictConfig, OmegaConf.unsafe_merge(pickle.loads(_pickled_schema(schema)), config))


def _make_whole(config: DictConfig, key: str) -> None:
    """Let a key hold 100000 where a YAML file or a dictionary says 1e5; what is not whole is left to the schema."""
    section, _, leaf = key.rpartition(".")
    node = _node(config, section) if section else config
    value = None if _node(config, key) is None else _node(config, key)._value()
    if isinstance(value, float) and value.is_integer():
        node[leaf] = int(value)


def _container(item: dataclasses.Field) -> type[DictConfig] | type[ListConfig] | None:
    """Return what a leaf of the schema holds, if it is one of the two."""
    if is_free_dict(item):
        return DictConfig
    holds_list = item.default_factory is not dataclasses.MISSING and isinstance(item.default_factory(), list)
    return ListConfig if holds_list else None


def apply_override(config: DictConfig, override: str, schema: Schema) -> None:
    """Change an unresolved config as Hydra would by an override that sets a value."""
    with translated(schema):
        parsed = OverridesParser.create().parse_override(override)
        key = parsed.key_or_group
        _refuse_writing_through(config, key)
        force = parsed.is_add() or parsed.is_force_add()
        OmegaConf.update(config, key, parsed.value(), merge=True, force_add=force)


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


def as_overrides(params: Mapping[str, Any] | None) -> list[str]:
    """Return the overrides that a YAML file lists under `hydra.sweeper.params`."""
    return [f"{key}={value}" for key, value in (params or {}).items()]


def is_only_comparative(config_name: str) -> bool:
    """Whether there is a comparative config of this name, and no single one."""
    single, comparative = (CONFIGS / folder(s) / f"{config_name}.yaml" for s in (SingleConfig, ComparativeConfig))
    return comparative.exists() and not single.exists()


def _node(config: DictConfig, key: str) -> Any:
    """Return the node at a dotted key without following interpolations, or None."""
    node: Any = config
    for part in key.split("."):
        inside = isinstance(node, DictConfig) and not node._is_interpolation()
        node = node._get_node(part, validate_access=False) if inside else None
    return node


def _refuse_writing_through(config: DictConfig, key: str) -> None:
    """Refuse an override of a key inside a section that only refers to another: it would change that other one."""
    parts = key.split(".")
    for i in range(1, len(parts)):
        section = ".".join(parts[:i])
        node = _node(config, section)
        if node is not None and node._is_interpolation():
            value = node._value()
            raise ConfigError(
                f"{key}: {section} only refers to {value}; give it whole ({section}={{{parts[i]}: ...}}), "
                f"or change {value[2:-1]} for both models"
            )
