"""Train two models in lockstep and compare them. `python run_comparative.py --help` explains the configuration."""

from omegaconf import DictConfig

from dln.cli.door import open_door, run_from_hydra
from dln.composing.hydra_internals import hydra_main
from dln.config import ComparativeConfig


@hydra_main(config_path="configs/comparative", config_name="default")
def main(config: DictConfig) -> float | tuple[float, ...] | None:
    """Run the experiment that Hydra composed, and return its objective."""
    return run_from_hydra(config, ComparativeConfig)


if __name__ == "__main__":
    open_door(main, ComparativeConfig)
