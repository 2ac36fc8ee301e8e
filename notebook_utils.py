"""Experiments in a notebook, a line each: run, compare, sweep, plot.

Positional arguments are overrides as on the command line; keywords set keys of the config's top level:

>>> run("training.lr=0.01", max_steps=20, evaluate_every=10)["step"]
array([ 0, 10, 20])
"""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dln import Dataset, History, run_experiment, run_experiments
from dln.base.notebook import show_at_end
from dln.base.values import plain
from dln.plotting import plot_comparison, plot_run, plot_sweep, save_figure


class Sweep(dict[Any, History]):
    """The histories of a sweep by the value of `key`."""

    def __init__(self, key: str, histories: Mapping[Any, History]) -> None:
        """Remember which key was swept."""
        super().__init__(histories)
        self.key = key


def run(
    *overrides: str,
    config_name: str = "default",
    dataset: Dataset | None = None,
    progress: bool = False,
    **settings: Any,
) -> History:
    """Train one model: `run("training.lr=0.01", metrics=["weight_norm"], max_steps=500)`."""
    config = _all(overrides, settings)
    return run_experiment(config, config_name=config_name, comparative=False, dataset=dataset, progress=progress)


def compare(
    *overrides: str,
    config_name: str = "default",
    dataset: Dataset | None = None,
    progress: bool = False,
    **settings: Any,
) -> History:
    """Train two models in lockstep: `compare("training_b.batch_size=10")`."""
    config = _all(overrides, settings)
    return run_experiment(config, config_name=config_name, comparative=True, dataset=dataset, progress=progress)


def sweep(
    key: str,
    values: Iterable[Hashable],
    *overrides: str,
    config_name: str = "default",
    dataset: Dataset | None = None,
    progress: bool = False,
    **settings: Any,
) -> Sweep:
    """Run once for each value of a key: `sweep("training.lr", [0.001, 0.01], "max_steps=500")`.

    Runs that can be are trained together. They are comparative if a key is one that only comparative configs have, such
    as `shared.training.lr`.
    """
    rest, values = _all(overrides, settings), list(dict.fromkeys(values))
    configs = [[*rest, f"{key}={_spell(value)}"] for value in values]
    histories = run_experiments(configs, config_name=config_name, dataset=dataset, progress=progress)
    return Sweep(key, dict(zip(values, histories, strict=True)))


def plot(result: History | Mapping[Any, History], *, save: str | Path | None = None, **options: Any) -> Figure:
    """Draw what `run`, `compare` or `sweep` returned; a notebook shows the figure when the cell has ended.

    Args:
        result: A history, or histories by the value that was swept.
        save: Also save the figure here, as .png, .pdf or .svg.
        options: Those of the function in `dln.plotting`: title, metrics; metric, key.
    """
    if isinstance(result, Mapping):
        figure = plot_sweep(result, **{"key": getattr(result, "key", ""), **options})
    else:
        is_comparison = "train_loss_a" in result or "train_loss_b" in result
        figure = (plot_comparison if is_comparison else plot_run)(result, **options)
    if save is not None:
        save_figure(figure, save)
    show_at_end(figure)
    return figure


def _all(overrides: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    return [*overrides, *(f"{key}={_spell(value)}" for key, value in settings.items())]


def _spell(value: Any) -> str:
    """Write a Python value as an override does.

    >>> _spell([{"name": "switch_batch_size", "params": {"step": 100, "batch_size": None}}])
    '[{name: "switch_batch_size", params: {step: 100, batch_size: null}}]'
    """
    value = plain(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_spell, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace('"', r"\"") + '"'
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
