"""Train one model. `python run.py --help` explains the configuration."""

import hydra
from omegaconf import DictConfig

from dln.cli.door import open_door, run_from_hydra
from dln.config import SingleConfig


@hydra.main(version_base="1.3", config_path="configs/single", config_name="default")
def main(config: DictConfig) -> None:
    """Run the experiment that Hydra composed."""
    run_from_hydra(config, SingleConfig)


if __name__ == "__main__":
    open_door(main, SingleConfig)
