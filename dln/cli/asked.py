"""A sweep as it was asked for, on the command line or from Python: its plan, its directories' names, its reruns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from dln.cli.naming import run_names
from dln.composing.compose import as_overrides, hydra_overrides
from dln.composing.grid import values_by_key
from dln.errors import ConfigError, suggestion
from dln.sweeps.driver import OWN_DIRECTORY_UP_TO
from dln.sweeps.jobs import Recipe
from dln.sweeps.plan import Plan
from dln.sweeps.summing import check_keeping


@dataclass(frozen=True)
class Asked:
    """What a sweep is to do."""

    recipe: Recipe
    plan: Plan
    names: list[str] | None
    """Paths of the runs' directories in the sweep's; None: they are called by their numbers, or have none."""
    again: list[int]
    """Cells to compute anew."""


def asked_for(
    config: DictConfig,
    loader: Any,
    arguments: Sequence[str],
    *,
    params: Mapping[str, Any] | None,
    zip: Sequence[Any],
    grids: Sequence[Sequence[str]],
    rerun: Sequence[str],
    members: int | None,
) -> Asked:
    """Return what a composed config asks for; everything is checked.

    Args:
        config: The config that Hydra composed for the sweep.
        loader: Its config loader.
        arguments: Overrides from the command line.
        params: Overrides that the YAML lists.
        zip: Lists of keys that move together.
        grids: Overrides of several grids, one after the other.
        rerun: Which runs to compute anew.
        members: Runs trained together at most.

    Raises:
        ConfigError: A setting of the sweeper is out of bounds, or the grid cannot be run.
    """
    if members is not None and members < 1:
        raise ConfigError(f"hydra.sweeper.members must be at least 1, or null for what suits, got {members}")
    groups = [list(zip)] if zip and all(isinstance(key, str) for key in zip) else [list(group) for group in zip]
    shared = [*as_overrides(params), *arguments]
    settings = hydra_overrides(config)
    recipe = Recipe(shared, [list(grid) for grid in grids], groups, config.hydra.job.config_name, settings)
    plan = recipe.plan(loader)
    check_keeping(plan)
    again = matching(plan, rerun)
    named = (len(plan) <= OWN_DIRECTORY_UP_TO and plan.keeping is None) or plan.saves_weights
    return Asked(recipe, plan, run_names(config, recipe, plan, loader) if named else None, again)


def unnamed() -> str:
    """Say why runs have no directories whose names were asked for."""
    return f"hydra.sweep.subdir is not used: more than {OWN_DIRECTORY_UP_TO} runs are rows of one table only"


def matching(plan: Plan, conditions: Sequence[str]) -> list[int]:
    """Return the cells whose config fits all conditions, `key=value` or `key=0..9` each; none if there are none.

    Raises:
        ConfigError: There is no such key, one is named twice, or no run has the values.
    """
    if not conditions:
        return []
    try:
        wanted = values_by_key(conditions)
    except ConfigError as error:
        raise ConfigError(f"hydra.sweeper.rerun: {error}") from error
    known = plan.values(0)
    for key in wanted:
        if key not in known:
            raise ConfigError(f"hydra.sweeper.rerun: unknown key {key!r}; {suggestion(key, known)}")
    rows = ((cell, plan.values(cell)) for cell in range(len(plan)))
    cells = [cell for cell, values in rows if all(values.get(key) in some for key, some in wanted.items())]
    if not cells:
        raise ConfigError(f"hydra.sweeper.rerun: no run of this sweep has {', '.join(conditions)}")
    return cells
