"""dln: a laboratory for the training dynamics of deep linear networks.

Names are imported when they are first used, so `import dln` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dln.base.registry import Bounds
    from dln.callbacks import register_callback
    from dln.cli.python_door import run_sweep
    from dln.cli.study import run_study
    from dln.comparative import ComparativeTrainer
    from dln.config import ComparativeConfig, MetricConfig, SingleConfig
    from dln.data import Dataset, linear_teacher
    from dln.ensemble.engine import train_ensemble
    from dln.experiment import run_experiment, run_experiments
    from dln.history import History
    from dln.ingredients.initialisations import register_init
    from dln.ingredients.inputs import register_inputs
    from dln.ingredients.teachers import register_matrix
    from dln.measure.events import Column, event
    from dln.measure.loss_gap import loss_gap
    from dln.measure.objective import objective
    from dln.metrics import comparative_metric, model_metric
    from dln.model import DeepLinearNetwork
    from dln.observers import Observer
    from dln.results.frames import load_sweep, merge_sweeps, scan_sweep, to_xarray
    from dln.results.run import load_run
    from dln.studies.aggregate import aggregate
    from dln.studies.mean_map import mean_map
    from dln.trackers.tracker import register_tracker
    from dln.train import Trainer

__version__ = "0.1.0"

_HOME = {
    "Bounds": "base.registry",
    "Column": "measure.events",
    "ComparativeConfig": "config",
    "ComparativeTrainer": "comparative",
    "Dataset": "data",
    "DeepLinearNetwork": "model",
    "History": "history",
    "MetricConfig": "config",
    "Observer": "observers",
    "SingleConfig": "config",
    "Trainer": "train",
    "aggregate": "studies.aggregate",
    "mean_map": "studies.mean_map",
    "comparative_metric": "metrics",
    "linear_teacher": "data",
    "load_run": "results.run",
    "load_sweep": "results.frames",
    "merge_sweeps": "results.frames",
    "scan_sweep": "results.frames",
    "to_xarray": "results.frames",
    "event": "measure.events",
    "loss_gap": "measure.loss_gap",
    "model_metric": "metrics",
    "objective": "measure.objective",
    "register_callback": "callbacks",
    "register_inputs": "ingredients.inputs",
    "register_matrix": "ingredients.teachers",
    "register_init": "ingredients.initialisations",
    "register_tracker": "trackers.tracker",
    "run_experiment": "experiment",
    "run_experiments": "experiment",
    "run_study": "cli.study",
    "run_sweep": "cli.python_door",
    "train_ensemble": "ensemble.engine",
}

__all__ = [
    "Bounds",
    "Column",
    "ComparativeConfig",
    "ComparativeTrainer",
    "Dataset",
    "DeepLinearNetwork",
    "History",
    "MetricConfig",
    "Observer",
    "SingleConfig",
    "Trainer",
    "aggregate",
    "comparative_metric",
    "event",
    "linear_teacher",
    "load_run",
    "load_sweep",
    "loss_gap",
    "mean_map",
    "merge_sweeps",
    "model_metric",
    "objective",
    "register_callback",
    "register_init",
    "register_inputs",
    "register_matrix",
    "register_tracker",
    "run_experiment",
    "run_experiments",
    "run_study",
    "run_sweep",
    "scan_sweep",
    "to_xarray",
    "train_ensemble",
]


def __getattr__(name: str) -> Any:
    if name == "theory":  # a room of its own, that is opened as a whole
        return import_module("dln.theory")
    if name not in _HOME:
        raise AttributeError(f"module 'dln' has no attribute {name!r}")
    return getattr(import_module(f"dln.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
