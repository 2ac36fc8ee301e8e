"""How Hydra finds and reads configs here: YAML files are checked, and the schema lies beneath what they say."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dln.composing.compose import Composed, merge_schema, node_at, refuse_unread, refuse_writing_through, resolve
from dln.composing.grid import written_out
from dln.composing.hydra_errors import translated
from dln.composing.hydra_internals import ConfigLoaderImpl, ConfigRepository, create_config_search_path
from dln.composing.yaml_file import check_yaml
from dln.config import CONFIGS, ComparativeConfig, ExperimentConfig, Schema, SingleConfig, fields, folder, is_free_dict
from dln.errors import ConfigError

_read: dict[tuple[str, str], tuple[bytes, bytes]] = {}
"""Configs in YAML, by source and path: a file's bytes, and what Hydra made of them, pickled, for each caller a copy."""

_merged: dict[Any, bytes] = {}
"""Configs before overrides, pickled, by the schema and all that they were merged from, to the letter."""
MERGED = 32
"""How many of them are kept."""


@contextlib.contextmanager
def _told_of(config_name: str | None) -> Iterator[None]:
    """Name the config in what Hydra raises as a ValueError: of a defaults list, or of a `# @package` line."""
    try:
        yield
    except (ConfigError, HydraException, OmegaConfBaseException):
        raise
    except ValueError as error:
        raise ConfigError(f"cannot compose {config_name!r}: {error}") from error


class CheckedRepository(ConfigRepository):
    """Hydra's access to YAML files: a user's file is looked at before Hydra reads it, and each is read once."""

    def __deepcopy__(self, memo: Any) -> CheckedRepository:
        """Return what Hydra can lead to other sources, as it does for every config: a copy of the list of them."""
        other = copy.copy(self)
        other.sources = [*self.sources]
        return other

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return what a file holds.

        Raises:
            ConfigError: The file cannot be read as a mapping, and says where; or its defaults list or `# @package` line
                cannot be read.
        """
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() not in ("pkg", "file"):
            with _told_of(config_path):
                return super().load_config(config_path)
        path, content = Path(source.path) / source._normalize_file_name(config_path), b""
        users = source.scheme() == "file"  # what lies in a package stays as it is
        if users:
            with contextlib.suppress(OSError):  # the check says so
                content = path.read_bytes()
        key = source.path, config_path
        if key not in _read or _read[key][0] != content:
            if users:
                check_yaml(path)
            with _told_of(config_path):
                _read[key] = content, pickle.dumps(super().load_config(config_path))
        return pickle.loads(_read[key][1])


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
        **_: Any,
    ) -> DictConfig | None:
        """Return the config from which Hydra has learned the mode, if it is the one that it asks for now, else None.

        Hydra 1.3 composes a config to learn the mode, which it then adds to the overrides. The config was composed as
        for a sweep, which leaves out config groups that nobody has chosen, and allows values to sweep over; for a run
        they raise.
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
            config.hydra.mode = RunMode[line.partition("=")[2]]
            config.hydra.overrides.hydra.append(line)
        return config

    def _compose(self, config_name: str | None, overrides: list[str], *args: Any, **kw: Any) -> Any:
        for override in overrides:
            if override.lstrip("+~").startswith("="):
                raise ConfigError(f"cannot read the override {override!r}: it names no key")
        self._overrides = overrides
        with _told_of(config_name):
            config = super()._load_configuration_impl(config_name, overrides, *args, **kw)
        refuse_unread(config, overrides)
        return config

    def _compose_config_from_defaults_list(self, defaults: Any, repo: Any) -> DictConfig:
        config = self._without_overrides(defaults, repo)
        given: list[str] = []
        for override in self._overrides:
            key = override.lstrip("+~").partition("=")[0]
            if not any(key.startswith(f"{whole}.") for whole in given):
                refuse_writing_through(config, key)
            given.append(key)
        return config

    def _without_overrides(self, defaults: Any, repo: Any) -> DictConfig:
        """Return what YAML files say, on top of the schema: merged once for all configs that are made of the same."""
        paths = [default.config_path for default in defaults if default.config_path is not None]
        read, store = [*map(repo.load_config, paths)], repo.get_schema_source()
        if any(not one.is_schema_source and store.is_config(path) for one, path in zip(read, paths, strict=True)):
            return self._merge(defaults, repo)  # Hydra adds what a user has put into its own store under that name
        try:
            key = self.schema, repr(defaults), pickle.dumps(read)
        except pickle.PicklingError:  # Hydra has imported a launcher anew: what it had stored has no name any more
            return self._merge(defaults, repo)
        if key not in _merged:
            if len(_merged) == MERGED:
                _merged.clear()
            _merged[key] = pickle.dumps(self._merge(defaults, repo))
        return pickle.loads(_merged[key])

    def _merge(self, defaults: Any, repo: Any) -> DictConfig:
        composed = super()._compose_config_from_defaults_list(defaults, repo)
        hydra = composed.pop("hydra")
        config = merge_schema(self.schema, composed)
        with open_dict(config):
            config.hydra = hydra
        self._open_free_dicts(config)
        return config

    def _open_free_dicts(self, config: DictConfig) -> None:
        """Let overrides add keys to dicts such as `data.params`; Hydra would close them, but what they hold is free."""
        for key, item in fields(self.schema):
            if is_free_dict(item):
                node = node_at(config, key)
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
    return resolve(named_config(overrides, schema, config_name), schema)


def named_config(overrides: Sequence[str], schema: Schema, config_name: str = "default") -> Composed:
    """Return what a named config and overrides come to before they are resolved.

    Raises:
        ConfigError: As `load_config`.
    """
    directory = CONFIGS / folder(schema)
    if not directory.is_dir():
        raise ConfigError(
            f"no configs at {directory}: the installation is not complete; pass a dictionary instead, or install again"
        )
    with translated(schema):
        loader = loader_class(schema)(create_config_search_path(str(directory)))
        return composed(loader, config_name, [*map(written_out, overrides)], from_shell=False)


def composed(loader: Any, config_name: str | None, overrides: Sequence[str], from_shell: bool = True) -> Composed:
    """Return what Hydra's loader makes of a config and overrides, without Hydra's own section."""
    config = loader.load_configuration(config_name, list(overrides), RunMode.RUN, from_shell=from_shell)
    with open_dict(config):
        config.pop("hydra")
    return config
