"""Sweepers of others, which look for good configs by what runs return: Optuna, Nevergrad, Ax, and ones not known here.

Their grammar is theirs. What is known of their settings is whether they look for large or small numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dln.composing.compose import as_overrides, task_overrides
from dln.errors import ConfigError

OURS = "hydra_plugins.dln_sweeper.DlnSweeper"
BASIC = "BasicSweeper"
"""Hydra's own."""


def is_foreign(sweeper: DictConfig) -> bool:
    """Whether a sweeper is neither ours nor Hydra's own."""
    return sweeper._target_ != OURS and sweeper._target_.rpartition(".")[2] != BASIC


def some_job(config: DictConfig) -> list[str]:
    """Return the overrides of a run that a sweeper may make: of each axis that can be read its first value, or middle.

    Args:
        config: What Hydra composed for the sweep.
    """
    params = config.hydra.sweeper.get("params") or {}
    texts = as_overrides({key: value for key, value in params.items() if isinstance(value, str | int | float)})
    return [*_some_values(texts), *_some_values(task_overrides(config))]


def _some_values(overrides: Sequence[str]) -> Iterator[str]:
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:  # the sweeper's own grammar, or what it will refuse itself
            continue
        if not override.is_sweep_override():
            yield text
        elif (value := _some_value(override)) is not None:
            yield f"{override.get_key_element()}={value}"


def _some_value(override: Override) -> str | None:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        start, end = sweep.start, sweep.end
        whole = isinstance(start, int) and isinstance(end, int)
        return None if start is None or end is None else str((start + end) // 2 if whole else (start + end) / 2)
    if not isinstance(sweep, ChoiceSweep | RangeSweep):
        return None
    values = override.sweep_iterator(transformer=Transformer.encode)
    return next(map(str, values), None)


def check_sweeper(config: DictConfig, objectives: int) -> None:
    """Raise ConfigError where a sweeper cannot optimise what runs return.

    Args:
        config: What Hydra composed for the sweep.
        objectives: How many numbers a run returns.
    """
    name = config.hydra.runtime.choices.get("hydra/sweeper") or config.hydra.sweeper._target_
    if not objectives:
        raise ConfigError(
            f"hydra/sweeper={name} looks for good runs: set objective to what is good, e.g. objective=test_loss"
        )
    direction = config.hydra.sweeper.get("direction")
    directions = len(direction) if OmegaConf.is_list(direction) else 1
    if direction is not None and directions != objectives:
        raise ConfigError(
            f"objective has {objectives} numbers, but hydra.sweeper.direction {directions}; give each a direction, "
            "[minimize,maximize]"
        )


def maximized(sweeper: DictConfig, objectives: int) -> list[bool]:
    """Return of each number that a run returns whether a sweeper looks for large ones; small ones, if it does not say.

    >>> maximized(OmegaConf.create({"direction": ["minimize", "maximize"]}), 2)
    [False, True]
    >>> maximized(OmegaConf.create({"optim": {"maximize": True}}), 1), maximized(OmegaConf.create({}), 1)
    ([True], [False])
    """
    direction = sweeper.get("direction")
    if direction is not None:
        words = direction if OmegaConf.is_list(direction) else [direction] * objectives
        return [str(word).rpartition(".")[2] == "maximize" for word in words]  # words, or members of an Enum
    of_nevergrad = OmegaConf.select(sweeper, "optim.maximize")
    of_ax = OmegaConf.select(sweeper, "ax_config.experiment.minimize")
    return [of_nevergrad is True or of_ax is False] * objectives
