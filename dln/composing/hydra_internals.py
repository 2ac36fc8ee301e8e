"""What we use of Hydra and OmegaConf that they do not promise to keep, here and nowhere else, for Hydra 1.3 and 1.4.

`tests/composing/test_hydra_internals.py` has a test of each, which `.ci/run` runs with both.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any

import hydra
import hydra._internal.config_loader_impl as _loading
import hydra._internal.hydra as _application
import omegaconf.base as _values
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

try:
    from omegaconf._utils import get_yaml_loader
except ImportError:  # OmegaConf 2.4
    from omegaconf._yaml import get_yaml_loader  # type: ignore[import-not-found,no-redef]

__all__ = [
    "ConfigLoaderImpl",
    "ConfigRepository",
    "add_callback",
    "context_of",
    "create_config_search_path",
    "get_yaml_loader",
    "hydra_main",
    "job_subdir",
    "options",
    "parsed",
    "replace_config",
    "use_loader",
]

VERSION = tuple(map(int, hydra.__version__.split(".")[:2]))

_values.parse = functools.lru_cache(maxsize=1024)(_values.parse)  # type: ignore[attr-defined]
"""OmegaConf parses a reference such as ${shared.model.gamma} at every look, for most of a millisecond; here once. What
it makes of it is only read."""

_overrides_dirname: Any = getattr(_loading, "get_overrides_dirname", None)
"""None in Hydra 1.4, where `hydra.job.override_dirname` refers to the overrides itself."""


def hydra_main(config_path: str, config_name: str) -> Callable[[Callable[..., Any]], Callable[[], Any]]:
    """Return the decorator `hydra.main`, called so that no version of Hydra warns.

    Without `version_base` Hydra 1.3 warns that it behaves like 1.1; 1.4 warns of the argument itself.
    """
    base = {"version_base": "1.3"} if VERSION < (1, 4) else {}
    return hydra.main(config_path=config_path, config_name=config_name, **base)


def use_loader(loader: type[ConfigLoaderImpl]) -> None:
    """Let Hydra compose every config of this process with a loader of ours: there is no setting for it."""
    _application.ConfigLoaderImpl = loader  # type: ignore[attr-defined,misc]


def add_callback(callback: Callback) -> None:
    """Let Hydra call a callback of ours before those that a config names; 1.4 warns of classes that configs name."""

    def callbacks(config: DictConfig | None = None) -> Callbacks:
        found = Callbacks(config)
        found.callbacks.insert(0, callback)
        return found

    _application.Callbacks = callbacks  # type: ignore[attr-defined,assignment]


def replace_config(group: str, name: str, node: Any) -> None:
    """Store a config where Hydra has stored one already; 1.4 would warn of it, and 1.3 knows no `replace=True`."""
    store = ConfigStore.instance()
    store.repo.get(group, {}).pop(f"{name}.yaml", None)
    store.store(group=group, name=name, node=node, provider="dln")


def context_of(loader: Any) -> HydraContext:
    """Return what Hydra tells a launcher of itself: with which loader jobs compose their configs."""
    return HydraContext(config_loader=loader, callbacks=Callbacks())


def options() -> dict[str, argparse.Action]:
    """Return what Hydra's doors take beside overrides, by name: `-m`, `--config-name`, ..."""
    return {name: action for action in get_args_parser()._actions for name in action.option_strings}


@functools.lru_cache(maxsize=4096)
def parsed(override: str) -> Override:
    """Return an override as Hydra reads it, which takes it half a millisecond; to be read only."""
    return OverridesParser.create().parse_override(override)


def job_subdir(config: DictConfig, number: int, overrides: Sequence[str]) -> str:
    """Return where under `hydra.sweep.dir` Hydra puts a job of a sweep.

    Args:
        config: The job's config, with Hydra's own section, which is changed.
        number: The job's.
        overrides: What Hydra would have composed it from.
    """
    job, before = config.hydra.job, HydraConfig.instance().cfg
    with read_write(config.hydra), open_dict(config.hydra):
        job.num, job.id = number, str(number)
        config.hydra.overrides.task = list(overrides)
        if _overrides_dirname is not None:
            job.override_dirname = _overrides_dirname([*map(parsed, overrides)], **job.config.override_dirname)
    HydraConfig.instance().set_config(config)  # for ${hydra:...}
    try:
        return str(OmegaConf.select(config, "hydra.sweep.subdir"))
    finally:
        HydraConfig.instance().cfg = before
