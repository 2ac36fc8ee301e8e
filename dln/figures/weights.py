"""Weights as images: the end-to-end map beside the teacher, and the layers."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dln.base.files import from_home
from dln.errors import StorageError
from dln.figures.known import history_of
from dln.figures.style import SIGNED, NotebookFigure, drawing, style_named, titled, width_of
from dln.figures.target import teacher_of
from dln.results.run import CHECKPOINTS

LONG = 6
"""Ratio of the sides of a matrix from which on its cells are no squares."""
ACROSS = 4
"""Matrices side by side."""


def matrix(values: Any, axes: Axes | None = None, *, largest: float | None = None, name: str = "") -> Axes:
    """Draw a matrix as an image: red is positive, blue negative, white 0.

    Args:
        values: The matrix [out, in], an array or a tensor.
        axes: Where to draw; None: in a figure of its own.
        largest: The size of number that has the fullest colour; None: the largest that there is.
        name: Stands above.
    """
    array = _array(values)
    with drawing(axes) as drawn:
        known = np.abs(array[np.isfinite(array)])
        most = float(largest if largest is not None else known.max(initial=0.0)) or 1.0
        long = max(array.shape) > LONG * min(array.shape)
        shape: Any = {"aspect": "auto" if long else "equal", "interpolation": "none"}
        drawn.imshow(np.ma.masked_invalid(array), cmap=SIGNED, vmin=-most, vmax=most, **shape)
        drawn.set_title(name)
        for axis, label in ((drawn.xaxis, "in"), (drawn.yaxis, "out")):
            axis.set_major_locator(MaxNLocator(4, integer=True))
            axis.set_label_text(label)
        drawn.spines[:].set_visible(True)
    return drawn


def plot_weights(of: Any, teacher: Any = None, title: str | None = None, style: str = "default") -> Figure:
    """Draw the end-to-end map of a network, the teacher beside it, and the layers.

    The map and the teacher share one scale of colours, the layers another.

    Args:
        of: A model (what has `weights`), a list of matrices W_1, ..., W_L [out, in], a checkpoint (.npz), or a run's
            directory, whose last checkpoint is drawn beside its teacher.
        teacher: The map to be learned [out, in]; None: that of the run, if `of` is the directory of one.
        title: Stands above the figure.
        style: "default", or "paper", a journal's columns.

    Raises:
        StorageError: There is no run in the directory, or it has saved no weights.
        ConfigError: The file is no checkpoint, or there is no such style.
    """
    layers, known = _layers(of)
    teacher = known if teacher is None else _array(teacher)
    end = reduce(lambda product, layer: layer @ product, layers)
    maps = {"end-to-end map": end} | ({} if teacher is None else {"teacher": teacher})
    named = {f"layer {i}": layer for i, layer in enumerate(layers, start=1)} if len(layers) > 1 else {}
    rows = [maps, *(dict(list(named.items())[i : i + ACROSS]) for i in range(0, len(named), ACROSS))]
    columns = max(map(len, rows))
    with rc_context(style_named(style)):
        size = (width_of(columns, style, 2.4), 2.1 * len(rows))
        figure = NotebookFigure(figsize=size, layout="constrained", style=style)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for group, parts in ((maps, grid[:1]), (named, grid[1:])):
            if group:
                _draw_group(figure, group, parts)
        return titled(figure, title)


def _draw_group(figure: Figure, named: dict[str, np.ndarray], grid: np.ndarray) -> None:
    """Draw matrices on one scale, with one colour bar."""
    most = max((np.abs(m[np.isfinite(m)]).max(initial=0.0) for m in named.values()), default=0.0) or 1.0
    places = list(grid.flat)
    for axes, (name, values) in zip(places, named.items(), strict=False):
        matrix(values, axes, largest=most, name=name)
    for axes in places[len(named) :]:
        axes.remove()
    figure.colorbar(ScalarMappable(Normalize(-most, most), SIGNED), ax=places[: len(named)], aspect=15)


def _layers(of: Any) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Return the layers, and the teacher if it is known."""
    if not isinstance(of, str | Path):
        return [_array(layer) for layer in getattr(of, "weights", of)], None
    from dln.model import load_weights  # imports torch

    path = from_home(of)
    if not path.is_dir():
        return [_array(layer) for layer in load_weights(path)[0]], None
    saved = sorted((path / CHECKPOINTS).glob("*.npz"))
    history = history_of(path)
    if not saved:
        raise StorageError(f"the run in {path} has saved no weights; run it with checkpoint_every or checkpoint_at")
    return [_array(layer) for layer in load_weights(saved[-1])[0]], teacher_of(history)


def _array(values: Any) -> np.ndarray:
    values = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return np.atleast_2d(np.asarray(values, np.float64))
