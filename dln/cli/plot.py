"""`dln plot`: what one would look at first of a run, a comparison or a sweep, drawn without code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.base.files import from_home
from dln.errors import ConfigError, StorageError, suggestion
from dln.plotting import plot_history, save_figure
from dln.predictions import theories_of, told_by
from dln.results.finals import is_seed
from dln.results.frames import load_sweep, stored_columns
from dln.results.listing import StoredRun, StoredSweep, look
from dln.results.run import load_run
from dln.studies.aggregate import aggregate
from dln.studies.figures import draw
from dln.studies.found import RATE, Found

if TYPE_CHECKING:
    import polars
    from matplotlib.figure import Figure

FIRST = ("test_loss", "train_loss", "test_loss_b", "train_loss_b")
"""Which curve of a sweep is drawn if none is named: the first that there is, and what theories say of it."""


def plot(directory: str, out: str | None = None, **options: Any) -> Path:
    """Draw what lies in a directory, save the figure, and return its path.

    Args:
        directory: Of a run or a sweep.
        out: A .png, .pdf or .svg; None: `figure.png` in the directory.
        **options: Those of `figure_of`.

    Raises:
        StorageError: There is nothing to draw, or the figure cannot be written.
        ConfigError: There is no such curve or key.
    """
    figure = figure_of(directory, **options)
    return save_figure(figure, from_home(directory) / "figure.png" if out is None else out)


def figure_of(
    directory: str | Path,
    metric: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    over: Sequence[str] | None = None,
    x: str = "step",
    kind: str = "curves",
) -> Figure:
    """Return the figure of a run, or of a sweep.

    A run is drawn whole. Of a sweep curves are drawn, means over seeds with 95 % intervals, a colour for each value of
    the first key of `by`, a panel for each of the second and third; or as a map, the values that runs end with, over
    two keys.

    Args:
        directory: Of a run or a sweep.
        metric: Which curves; None: all of a run, and of a sweep the loss and what theories say of it.
        by: Of a sweep: the keys that tell curves apart; None: those that vary, other than `over`.
        over: What is averaged over; None: all seeds that vary.
        x: "step", or "time", which is lr x step.
        kind: "curves" or "map".

    Raises:
        StorageError: There is nothing to draw.
        ConfigError: There is no such curve or key.
    """
    stored = look(from_home(directory))
    if isinstance(stored, StoredRun):
        if by or over or kind != "curves":
            raise ConfigError(f"--by, --over and --map are of sweeps, and {directory} is one run")
        return _of_run(stored.directory, metric)
    if isinstance(stored, StoredSweep):
        return _of_sweep(stored, metric, by, over, x, kind)
    raise StorageError(f"there is no run or sweep in {directory} itself; dln show {directory} lists what it holds")


def _of_run(directory: Path, metric: Sequence[str] | None) -> Figure:
    history = load_run(directory)
    known = [name for name in history.names if name != "step"]
    for name in metric or ():
        if not any(name == one or one.startswith((f"{name}.", f"{name}_")) for one in known):
            raise ConfigError(f"there is no column {name!r}; {suggestion(name, known)}")
    return plot_history(history, metric)


def _of_sweep(
    stored: StoredSweep,
    metric: Sequence[str] | None,
    by: Sequence[str] | None,
    over: Sequence[str] | None,
    x: str,
    kind: str,
) -> Figure:
    kept = stored.sums_over
    averaged = list(over) if over is not None else kept or [key for key in stored.keys if is_seed(key)]
    curves = list(metric) if metric else _first(stored)
    keys = [key for key in stored.keys if key not in averaged] if by is None else list(by)
    found = Found(
        stored.directory.name, "", _table(stored.directory, averaged, keys, curves), lr=stored.fixed.get(RATE)
    )
    return figure_of_table(found, curves, keys, x, kind)


def figure_of_table(
    found: Found,
    curves: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    x: str = "step",
    kind: str = "curves",
) -> Figure:
    """Return the figure of a table as `dln.aggregate` returns it; see `figure_of`.

    Args:
        found: The table.
        curves: Which curves; None: the loss and what theories say of it.
        keys: Colours by the first, panels by two more; None: those that vary.
        x: "step" or "time".
        kind: "curves" or "map".
    """
    curves = _loss_among(found.curves) if curves is None else list(curves)
    keys = found.varying if keys is None else list(keys)
    if kind == "map":
        if len(keys) < 2:
            raise ConfigError(
                f"a map needs two keys that vary, and there is {', '.join(keys) or 'none'}: name them (by)"
            )
        return draw(found, "map", {"of": curves[0], "x": keys[0], "y": keys[1]}, *keys[2:4])
    theories = theories_of(curves)
    names = [_named(*told_by(name, theories), curves[0]) for name in curves]
    params: dict[str, Any] = {"of": curves, "x": x, "per": keys[0] if keys else None, "names": names}
    columns, rows, *_ = [*keys[1:], None, None]
    return draw(found, "curves", params, rows, columns)


def _named(of: str, theory: str, first: str) -> str:
    """Return what a curve is called in the legend.

    >>> [_named(of, theory, "test_loss") for of, theory in (("test_loss", ""), ("test_loss", "flow"), ("gap", "flow"))]
    ['test loss', 'flow', 'gap, flow']
    """
    told = of.replace("_", " ")
    return told if not theory else theory if of == first else f"{told}, {theory}"


def _first(stored: StoredSweep) -> list[str]:
    if stored.sums_over:
        return _loss_among(Found("", "", aggregate(stored.directory, stored.sums_over)).curves)
    return _loss_among(stored_columns(stored.directory)["curves"])


def _loss_among(known: Sequence[str]) -> list[str]:
    """Return the curve to draw, and what theories say of it."""
    theories = theories_of(known)
    first = next(name for name in (*FIRST, *known) if name in known)
    return [first, *(name for name in known if told_by(name, theories)[0] == first and name != first)]


def _table(directory: Path, over: Sequence[str], keys: Sequence[str], curves: Sequence[str]) -> polars.DataFrame:
    """Return what `aggregate` does; where nothing is averaged over, every run for itself."""
    import polars as pl

    if over:
        return aggregate(directory, over, keys, curves)
    frame = load_sweep(directory, columns=["step", *curves])
    lost = pl.col("diverged_at").is_not_null() if "diverged_at" in frame.columns else pl.lit(value=False)
    rows = frame.select(*keys, "step", *curves, lost.cast(pl.Int64).alias("diverged")).explode(["step", *curves])
    alone = [pl.lit(None, pl.Float64).alias(f"{name} {end}") for name in curves for end in ("low", "high")]
    return rows.rename({name: f"{name} mean" for name in curves}).with_columns(alone)
