"""What the directories of a sweep's runs are called: as Hydra would by `hydra.sweep.subdir`, before any run starts.

Hydra composes every job's config for that, at a tenth of a second each; here values are set in one that is composed
once for each combination of config groups.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dln.composing.compose import apply_override
from dln.composing.grid import Axis, Grid
from dln.composing.hydra_errors import translated
from dln.composing.hydra_internals import job_subdir
from dln.config import Schema
from dln.errors import ConfigError
from dln.results.directories import OF_THE_SWEEP
from dln.sweeps.jobs import Recipe
from dln.sweeps.plan import Plan

NUMBERED = "${hydra.job.num}"
"""What Hydra calls the directories of runs where nobody says otherwise."""

LONGEST = 255
"""Bytes of a directory's name on the file systems in use."""


def asks_for_names(config: DictConfig) -> bool:
    """Whether the runs' directories are to be called otherwise than by their numbers, as Hydra does by itself."""
    return config.hydra.sweep._get_node("subdir")._value() != NUMBERED


def run_names(config: DictConfig, recipe: Recipe, plan: Plan, loader: Any) -> list[str] | None:
    """Return the path of each cell's directory in the sweep's; None if they are called by their numbers.

    Args:
        config: What Hydra composed for the sweep.
        recipe: Of the plan.
        plan: The runs.
        loader: Hydra's config loader.

    Raises:
        ConfigError: Two runs would share a directory, or one could not be in the sweep's.
    """
    if not asks_for_names(config):
        return None

    def compose(overrides: Sequence[str]) -> DictConfig:
        own = loader.load_configuration(recipe.config_name, [*recipe.settings, *overrides], RunMode.RUN)
        OmegaConf.copy_cache(config, own)  # of ${now:...}
        return own

    with translated(loader.schema):
        names: list[str] = []
        for each in plan.grids:
            names += _names(each.grid, len(names), compose, loader.schema)
    names = [*map(checked_name, names)]
    _refuse_clashes(names, plan)
    return names


def _names(grid: Grid, first: int, compose: Callable[[Sequence[str]], DictConfig], schema: Schema) -> Iterator[str]:
    """Yield the name of each cell's directory; `first` is the number of the grid's first cell in the sweep."""
    composed: dict[tuple[str, ...], DictConfig] = {}
    for cell in range(len(grid)):
        chosen, set_here = [], []
        for axis, at in zip(grid.axes, grid.place(cell), strict=True):
            (chosen if _is_composed(axis) else set_here).extend(axis.overrides(at))
        key = tuple(chosen)
        if key not in composed:
            composed[key] = compose([*grid.fixed, *key])
        for override in set_here:  # every cell sets the same keys: nothing is left of the cell before
            apply_override(composed[key], override, schema)
        yield job_subdir(composed[key], first + cell, grid.overrides(cell))


def _is_composed(axis: Axis) -> bool:
    """Whether a config with one value of an axis is not made from that with another by setting keys."""
    return axis.is_group or any(isinstance(value, Mapping) for values in axis.values() for value in values)


def checked_name(name: str) -> str:
    """Return the path that a name comes to.

    Raises:
        ConfigError: It leads out of the sweep's directory, is too long, or is taken by the sweep itself.

    >>> checked_name("a/./lr=0.1")
    'a/lr=0.1'
    """
    path = os.path.normpath(os.path.expanduser(name))
    parts = Path(path).parts
    if os.path.isabs(path) or path == os.curdir or parts[0] == os.pardir:
        raise ConfigError(f"hydra.sweep.subdir: {name!r} is not inside of hydra.sweep.dir; name a directory in there")
    if parts[0] in OF_THE_SWEEP or parts[0].startswith("."):
        raise ConfigError(
            f"hydra.sweep.subdir: {parts[0]!r} is where the sweep itself stores something; choose another"
        )
    if max(len(os.fsencode(part)) for part in parts) > LONGEST:
        raise ConfigError(
            f"hydra.sweep.subdir: {name[:40]!r}... is longer than {LONGEST} bytes; leave out keys by "
            "hydra.job.config.override_dirname.exclude_keys=[KEY, ...], or take ${hydra.job.num}"
        )
    return path


def _refuse_clashes(names: Sequence[str], plan: Plan) -> None:
    """Raise ConfigError where the directories of two runs are the same, or one is inside of the other."""
    firsts: list[int] = np.unique(plan.identities, return_index=True)[1].tolist()  # of equal runs the first is computed
    paths = sorted((Path(names[cell]).parts, cell) for cell in firsts)
    for (outer, one), (inner, other) in itertools.pairwise(paths):
        if inner[: len(outer)] == outer:
            how = "the same directory" if inner == outer else "directories that lie inside of each other"
            told = sorted((plan.name(one), plan.name(other)))
            raise ConfigError(
                f"hydra.sweep.subdir gives two runs {how}, {names[one]!r}: {told[0]} and {told[1]}; add what tells "
                "them apart, or ${hydra.job.num}"
            )
