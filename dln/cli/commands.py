"""`dln run` and `dln compare`: the doors of the package, for those who have no clone with a `run.py` in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from omegaconf import DictConfig

from dln.cli.door import open_door, run_from_hydra
from dln.composing.hydra_internals import hydra_main
from dln.config import CONFIGS, ComparativeConfig, SingleConfig, folder


@hydra_main(config_path=str(CONFIGS / folder(SingleConfig)), config_name="default")
def run(config: DictConfig) -> float | tuple[float, ...] | None:
    """Run the experiment that Hydra composed, and return its objective."""
    return run_from_hydra(config, SingleConfig)


@hydra_main(config_path=str(CONFIGS / folder(ComparativeConfig)), config_name="default")
def compare(config: DictConfig) -> float | tuple[float, ...] | None:
    """Run the comparison that Hydra composed, and return its objective."""
    return run_from_hydra(config, ComparativeConfig)


def open_command(command: str, argv: Sequence[str]) -> NoReturn:
    """Do what `run.py` (`run`) or `run_comparative.py` (`compare`) does with these arguments, and leave the process."""
    sys.argv = [f"dln {command}", *argv]
    if command == "run":
        open_door(run, SingleConfig)
    open_door(compare, ComparativeConfig)
