"""dln: a laboratory for the training dynamics of deep linear networks.

Names are imported when they are first used, so `import dln` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dln.callbacks import register_callback
    from dln.comparative import ComparativeTrainer
    from dln.config import ComparativeConfig, MetricConfig, SingleConfig
    from dln.data import Dataset, linear_teacher
    from dln.ensemble.engine import train_ensemble
    from dln.events import event
    from dln.experiment import run_experiment, run_experiments
    from dln.frames import load_sweep, merge_sweeps, scan_sweep, to_xarray
    from dln.gap import loss_gap
    from dln.history import History
    from dln.initial import register_init
    from dln.inputs import register_inputs
    from dln.metrics import comparative_metric, model_metric
    from dln.model import DeepLinearNetwork
    from dln.store import load_run
    from dln.teachers import register_matrix
    from dln.train import Trainer

__version__ = "0.1.0"

_HOME = {
    "ComparativeConfig": "config",
    "ComparativeTrainer": "comparative",
    "Dataset": "data",
    "DeepLinearNetwork": "model",
    "History": "history",
    "MetricConfig": "config",
    "SingleConfig": "config",
    "Trainer": "train",
    "comparative_metric": "metrics",
    "linear_teacher": "data",
    "load_run": "store",
    "load_sweep": "frames",
    "merge_sweeps": "frames",
    "scan_sweep": "frames",
    "to_xarray": "frames",
    "event": "events",
    "loss_gap": "gap",
    "model_metric": "metrics",
    "register_callback": "callbacks",
    "register_inputs": "inputs",
    "register_matrix": "teachers",
    "register_init": "initial",
    "run_experiment": "experiment",
    "run_experiments": "experiment",
    "train_ensemble": "ensemble.engine",
}

__all__ = [
    "ComparativeConfig",
    "ComparativeTrainer",
    "Dataset",
    "DeepLinearNetwork",
    "History",
    "MetricConfig",
    "SingleConfig",
    "Trainer",
    "comparative_metric",
    "event",
    "linear_teacher",
    "load_run",
    "load_sweep",
    "loss_gap",
    "merge_sweeps",
    "model_metric",
    "register_callback",
    "register_init",
    "register_inputs",
    "register_matrix",
    "run_experiment",
    "run_experiments",
    "scan_sweep",
    "to_xarray",
    "train_ensemble",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dln' has no attribute {name!r}")
    return getattr(import_module(f"dln.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
