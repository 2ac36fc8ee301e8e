"""Experiments in a notebook, a line each: run, compare, sweep, average, plot.

Positional arguments are overrides as on the command line; keywords set keys of the config's top level:

>>> run("training.lr=0.01", max_steps=20, evaluate_every=10)["step"]
array([ 0, 10, 20])
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from dln import Dataset, History, aggregate, run_experiment, run_experiments, run_sweep
from dln.base.notebook import show_at_end
from dln.base.values import plain
from dln.cli.plot import asked_of, figure_of
from dln.composing.spelling import set_to, spelled, swept_overrides
from dln.errors import ConfigError
from dln.plotting import plot_history, plot_sweep, save_figure
from dln.studies.table_figures import frame_figure

if TYPE_CHECKING:
    import polars

Config = str | Sequence[str] | Mapping[str, Any]
"""An override, a list of them, or keys and their values."""


class Sweep(dict[Any, History]):
    """The histories of a sweep by the value of `key`."""

    def __init__(self, key: str, histories: Mapping[Any, History]) -> None:
        """Remember which key was swept."""
        super().__init__(histories)
        self.key = key


def run(
    *overrides: Config,
    config_name: str = "default",
    dataset: Dataset | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> History:
    """Train one model: `run("training.lr=0.01", metrics=["weight_norm"], max_steps=500)`."""
    options = {"config_name": config_name, "dataset": dataset, "directory": directory, "progress": progress}
    return run_experiment(_all(overrides, settings), comparative=False, **options)


def compare(
    *overrides: Config,
    config_name: str = "default",
    dataset: Dataset | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> History:
    """Train two models in lockstep: `compare("training_b.batch_size=10")`."""
    options = {"config_name": config_name, "dataset": dataset, "directory": directory, "progress": progress}
    return run_experiment(_all(overrides, settings), comparative=True, **options)


def sweep(
    key: str,
    values: Iterable[Any],
    *overrides: Config,
    config_name: str = "default",
    dataset: Dataset | None = None,
    progress: bool = False,
    **settings: Any,
) -> Sweep:
    """Run once for each value of a key: `sweep("training.lr", [0.001, 0.01], "max_steps=500")`.

    Runs that can be are trained together. They are comparative if a key is one that only comparative configs have, such
    as `shared.training.lr`. A value that is a list is a tuple among the keys of what is returned, a mapping is the text
    of it.
    """
    rest = _all(overrides, settings)
    swept = {_hashable(value): value for value in map(plain, _listed(values, "sweep"))}
    configs = [[*rest, *_all((), {key: value})] for value in swept.values()]
    histories = run_experiments(configs, config_name=config_name, dataset=dataset, progress=progress)
    return Sweep(key, dict(zip(swept, histories, strict=True)))


def average(
    key: str,
    values: Iterable[Any],
    *overrides: Config,
    of: str | Sequence[str] | None = None,
    baseline: Any = None,
    config_name: str = "default",
    directory: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> polars.DataFrame:
    """Run a stored sweep and average: `average("training.batch_seed", range(100), "training.batch_size=1,10")`.

    Overrides given as words may sweep over other keys, each combination of which is a row at every step.

    Args:
        key: What is averaged over.
        values: Its values, one a run.
        overrides: As of `run`, and sweeps as on the command line.
        of: Which curves; None: all of numbers.
        baseline: What the others are compared with, e.g. {"training.batch_size": None}.
        config_name: The YAML file that overrides apply to.
        directory: Where runs are stored, and may be already; None: in a new one.
        progress: Show how many runs are done.
        settings: Keys of the config's top level.

    Returns:
        The table of `dln.aggregate`.
    """
    lines = [*_all(overrides, settings), *swept_overrides({key: list(_listed(values, "average"))})]
    report = run_sweep(lines, directory=directory, config_name=config_name, progress=progress)
    return aggregate(report.directory, key, of=of, baseline=baseline)


def plot(
    result: History | Mapping[Any, History] | Sequence[History] | polars.DataFrame | str | Path,
    *,
    save: str | Path | None = None,
    **options: Any,
) -> Figure:
    """Draw what `run`, `compare`, `sweep` or `average` returned; a notebook shows the figure when the cell has ended.

    Args:
        result: A history, or several: by the value that was swept, or a list; a table of `average`, or of
            `dln.load_sweep`; or the directory of a run, a sweep or a study, of which is drawn what `dln plot` does.
        save: Also save the figure here, as .png, .pdf or .svg.
        options: Those of the function in `dln.plotting`: title, metrics; metric, key. Of a table or a directory those
            of `dln plot`: figure, metric, by, over, rows, columns, where, baseline, x, middle, band, log, style.
    """
    figure = _figure(result, options)
    if save is not None:
        save_figure(figure, save)
    show_at_end(figure)
    return figure


def _figure(result: Any, options: Mapping[str, Any]) -> Figure:
    """Return the figure of anything that `plot` takes."""
    if isinstance(result, str | Path):
        return figure_of(result, **options)
    if isinstance(result, History):
        return plot_history(result, **options)
    if isinstance(result, Sequence | Mapping):
        runs = result if isinstance(result, Mapping) else dict(enumerate(result))
        return plot_sweep(runs, **{"key": getattr(runs, "key", ""), **options})
    return frame_figure(result, asked_of(**options))


def _all(given: Iterable[Config], settings: Mapping[str, Any]) -> list[str]:
    """Return overrides, given in any form, as strings.

    >>> _all(["max_steps=5", {"training": {"lr": 0.1}}], {"metrics": ["weight_norm"]})
    ['max_steps=5', 'training={lr: 0.1}', 'metrics=["weight_norm"]']
    """
    overrides: list[str] = []
    for one in (*given, settings):
        if isinstance(one, Mapping):
            overrides += [set_to(str(key), value) for key, value in one.items()]
        else:
            overrides += [one] if isinstance(one, str) else one
    return overrides


def _listed(values: Any, taker: str) -> Iterable[Any]:
    """Return several values; raise ConfigError for what is one."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ConfigError(f"{taker} takes a list of values: [{values!r}]")
    return values


def _hashable(value: Any) -> Hashable:
    """Return what stands for a value among the keys of a dictionary."""
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return spelled(value) if isinstance(value, Mapping) else value
