"""Train one model. `python run.py --help` explains the configuration."""

from omegaconf import DictConfig

from dln.cli.door import open_door, run_from_hydra
from dln.composing.hydra_internals import hydra_main
from dln.config import SingleConfig


@hydra_main(config_path="configs/single", config_name="default")
def main(config: DictConfig) -> float | tuple[float, ...] | None:
    """Run the experiment that Hydra composed, and return its objective."""
    return run_from_hydra(config, SingleConfig)


if __name__ == "__main__":
    open_door(main, SingleConfig)
