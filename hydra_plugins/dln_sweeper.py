"""Hydra's door to our sweeps: thin, since Hydra imports it at every start. `dln.multirun` does the work."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class DlnSweeperConf:
    """What `hydra.sweeper.KEY` may set."""

    _target_: str = "hydra_plugins.dln_sweeper.DlnSweeper"
    params: dict[str, Any] | None = None
    """Overrides of a sweep that a YAML file describes, e.g. {training.lr: "0.1,0.2"}."""
    zip: list[Any] = field(default_factory=list)
    """Keys that move together: [model.gamma,max_steps], or several such groups."""
    dry_run: bool = False
    """Say what would run, and stop."""
    rerun: list[str] = field(default_factory=list)
    """Compute matching runs anew, e.g. [model.gamma=0.75]."""


class DlnSweeper(Sweeper):
    """Groups runs that share shapes into ensembles, and computes only what is missing."""

    config: DictConfig | None

    def __init__(self, **settings: Any) -> None:
        """Take what `DlnSweeperConf` holds."""
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra knows."""
        self.config = config
        self.loader = hydra_context.config_loader

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep that these overrides describe."""
        from dln.multirun import sweep_from_hydra

        assert self.config is not None  # Hydra calls `setup` first
        return sweep_from_hydra(self.config, self.loader, arguments, **self.settings)


ConfigStore.instance().store(group="hydra/sweeper", name="dln", node=DlnSweeperConf, provider="dln")
