"""Hydra's door to our sweeps: thin, since Hydra imports it at every start. `dln.cli.multirun` does the work."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

BASIC = "BasicLauncher"
"""Hydra's own launcher, of which our sweeps are independent."""


@dataclass
class DlnSweeperConf:
    """What `hydra.sweeper.KEY` may set."""

    _target_: str = "hydra_plugins.dln_sweeper.DlnSweeper"
    params: dict[str, Any] | None = None
    """Overrides of a sweep that a YAML file describes, e.g. {training.lr: "0.1,0.2"}."""
    zip: list[Any] = field(default_factory=list)
    """Keys that move together: [model.gamma,max_steps], or several such lists."""
    grids: list[Any] = field(default_factory=list)
    """Several grids one after the other, each a list of overrides: [[training.lr=1,2],[model.gamma=1,1.5]]."""
    dry_run: bool = False
    """Say what would run, and stop."""
    rerun: list[str] = field(default_factory=list)
    """Compute matching runs anew, e.g. [model.gamma=0.75]."""
    members: int | None = None
    """Runs trained together, and of one job of a launcher, at most; null: what suits."""
    patience: float = 60.0
    """Seconds without a sign of life after which a submitit job counts as dead; what it leaves is launched again."""


class DlnSweeper(Sweeper):
    """Trains runs that share shapes together, and computes only what is missing."""

    config: DictConfig | None

    def __init__(self, **settings: Any) -> None:
        """Take what `DlnSweeperConf` holds."""
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra knows."""
        self.config = config
        self.loader = hydra_context.config_loader
        self.launcher = None
        if config.hydra.launcher._target_.rpartition(".")[2] != BASIC:
            self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep that these overrides describe."""
        from dln.cli.multirun import sweep_from_hydra

        assert self.config is not None  # Hydra calls `setup` first
        launch = None if self.launcher is None else self.launch
        return sweep_from_hydra(self.config, self.loader, arguments, launch, **self.settings)

    def launch(self, jobs: list[list[str]]) -> None:
        """Run jobs on the launcher, and raise what the first that failed has raised."""
        assert self.launcher is not None
        for job in self.launcher.launch(jobs, initial_job_idx=0):
            _ = job.return_value


ConfigStore.instance().store(group="hydra/sweeper", name="dln", node=DlnSweeperConf, provider="dln")
