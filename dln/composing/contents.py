"""Files that a config names, and digests of what they hold: a run's identity has the digest in place of the path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dln.base.arrays import content
from dln.base.files import from_home
from dln.composing.variants import with_values
from dln.config import ExperimentConfig
from dln.errors import ConfigError

LANES = ("", "_a", "_b")

FILE_KEYS = (
    "data.path",
    "resume",
    "data.params.path",
    "data.inputs_params.path",
    *(f"model{lane}.{key}" for lane in LANES for key in ("weights", "init_params.path")),
)
"""Keys whose value, if it is the path of a file, stands for what the file holds; a parameter called `path` makes
teachers, inputs and initialisations of one's own take part in it."""

WRITTEN_KEYS = ("tracker.params.directory",)
"""Keys that say where something is written."""


def named_files(config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    """Yield the files that a config reads: the key, and the path as it stands there."""
    return ((key, path) for key, path in _paths(config, FILE_KEYS) if from_home(path).is_file())


def from_here(config: ExperimentConfig) -> ExperimentConfig:
    """Return a config whose paths lead to the same places from any working directory.

    >>> from dln.config import DataConfig, SingleConfig
    >>> from_here(SingleConfig(data=DataConfig(path="/./dev"))).data.path
    '/dev'
    """
    found = [(key, path) for key, path in _paths(config, FILE_KEYS) if from_home(path).exists()]
    places = [*found, *_paths(config, WRITTEN_KEYS)]
    return with_values(config, {key: os.path.abspath(from_home(path)) for key, path in places})


def _paths(config: ExperimentConfig, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the words that stand at some keys, with the key."""
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if isinstance(value, str):
            yield key, value


def by_content(key: str, value: Any, contents: Mapping[str, str]) -> Any:
    """Return the value of a leaf of the schema with a digest in place of the path of each file.

    >>> by_content("data.path", "own.npz", {"own.npz": "3f"})
    {'content': '3f'}
    >>> by_content("data.params", {"matrix": "file", "path": "own.npz"}, {"own.npz": "3f"})
    {'matrix': 'file', 'path': {'content': '3f'}}
    """
    if key in FILE_KEYS and isinstance(value, str) and value in contents:
        return {"content": contents[value]}
    if f"{key}.path" in FILE_KEYS and isinstance(value, Mapping) and "path" in value:
        return {**value, "path": by_content(f"{key}.path", value["path"], contents)}
    return value


def digests(values: Mapping[str, Any], contents: Mapping[str, str]) -> dict[str, str]:
    """Return what is stored beside the values of a run's keys: `KEY.digest` for each that names a file.

    >>> digests({"data.path": "own.npz", "training.lr": 0.1}, {"own.npz": "3f"})
    {'data.path.digest': '3f'}
    """
    named = ((key, values.get(key)) for key in (FILE_KEYS if contents else ()))
    return {f"{key}.digest": contents[path] for key, path in named if isinstance(path, str) and path in contents}


def check_unchanged(contents: Mapping[str, str]) -> None:
    """Raise ConfigError where a file has changed."""
    for path, before in contents.items():
        if content(path) != before:
            raise ConfigError(
                f"{path!r} has changed since this sweep began; runs of another content belong to another sweep: "
                "restore the file, or choose another directory"
            )


def check_same(contents: Mapping[str, str], noted: Mapping[str, str] | None, directory: Path) -> None:
    """Refuse files that have changed since a sweep was begun: one table would mix the results of both versions.

    Args:
        contents: Digests of files, by path.
        noted: Their digests in the sweep's description, by `located`; None if it has none.
        directory: The sweep's, for messages.

    Raises:
        ConfigError: A file has changed, or the sweep is of a version that noted no digests.
    """
    if contents and noted is None:
        raise ConfigError(
            f"the sweep in {directory} is of an earlier version, which did not note what files hold; it stays "
            f"readable, but runs on {', '.join(contents)} need another directory"
        )
    for path, digest in located(contents).items():
        if noted is not None and noted.get(path, digest) != digest:
            raise ConfigError(
                f"{path} has changed since the sweep in {directory} was begun; restore it, or choose another directory"
            )


def located(contents: Mapping[str, str]) -> dict[str, str]:
    """Return the digests by paths that do not depend on the working directory.

    >>> list(located({"/a/../b.npz": "3f"}))
    ['/b.npz']
    """
    return {os.path.realpath(from_home(path)): digest for path, digest in contents.items()}
