"""What all figures share: which colour a thing has, sizes of letters and lines, and how figures are made and saved.

The same thing has the same colour in every figure. Colours are told apart by colour-blind readers too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure

from dln.base.files import from_home
from dln.base.notebook import is_shown
from dln.errors import ConfigError, StorageError, suggestion

# Okabe and Ito's palette, which colour-blind readers can tell apart.
PALETTE = BLUE, ORANGE, GREEN, PURPLE, SKY = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
VERMILLION = "#D55E00"
GREY = "#555555"
DARK = "#222222"

TRAIN = BLUE
"""The loss on the training set, and whatever else is of the only run of a figure."""
TEST = ORANGE
"""The loss on the test set."""
BATCH = "#8FC1E3"
"""The loss on the step's batch where it is not the training set: noisy, light, and beneath the others."""
LANES = {"_a": BLUE, "_b": VERMILLION}
"""The models of a comparison."""
LIGHT_LANES = {"_a": "#B3D4EA", "_b": "#F5CDB2"}
"""Their losses on noisy batches."""
THEORY = DARK
"""What theories say: dark, each in dashes of its own."""
TEACHER = PURPLE
"""What is to be learned."""
LIMIT = "#882255"
"""2 / lr, beyond which gradient descent is unstable."""
PAIR = GREEN
"""What is of two models together."""
POPULATION = GREEN
"""The loss over the population."""
EVENT = GREY
"""Where something happened."""

DASHES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
"""Lines of theories."""
LINES = ("-", "--", ":", "-.")
"""Lines of things that colours do not tell apart."""

RAMP = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))  # without the yellows that are lost on white
"""Numbers on a scale."""
SIGNED = colormaps["RdBu_r"]
"""Numbers of either sign: white is 0."""
LANE_RAMPS = {
    lane: LinearSegmentedColormap.from_list(lane, [LANES[lane], light]) for lane, light in LIGHT_LANES.items()
}

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.xmargin": 0.01,
    "axes.formatter.use_mathtext": True,
    "axes.formatter.useoffset": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
}
PAPER: dict[Any, Any] = STYLE | {
    "font.size": 7,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "figure.titlesize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "figure.constrained_layout.w_pad": 0.04,
    "savefig.dpi": 600,
}
STYLES = {"default": STYLE, "paper": PAPER}
"""What `style` may name: `paper` is for a journal's columns, in which figures are as wide as `COLUMN` or `PAGE`."""
COLUMN, PAGE = 3.3, 6.9
"""Widths of one and of two columns of a journal, in inches."""

FORMATS = (".png", ".pdf", ".svg")


class NotebookFigure(Figure):
    """A figure that notebooks show although pyplot does not know it, in its own style whoever has it drawn."""

    def __init__(self, *args: Any, style: str = "default", **about: Any) -> None:
        """Make an empty figure; `style` is one of `STYLES`, all else is matplotlib's.

        Raises:
            ConfigError: There is no such style.
        """
        self.style = style_named(style)
        with rc_context(self.style):
            super().__init__(*args, **about)

    def add_subplot(self, *args: Any, **about: Any) -> Any:
        """Add axes in this figure's style."""
        with rc_context(self.style):
            return super().add_subplot(*args, **about)

    def draw(self, renderer: RendererBase) -> None:
        """Draw it; ticks are made only now, and must be made in this style."""
        with rc_context(self.style), np.errstate(over="ignore"):  # ticks near the largest number that there is
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        is_shown(self)
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi="figure")
        return buffer.getvalue()


def style_named(style: str) -> dict[Any, Any]:
    """Return the settings of one of `STYLES`.

    Raises:
        ConfigError: There is no such style.
    """
    if style not in STYLES:
        raise ConfigError(f"there is no style {style!r}; {suggestion(style, list(STYLES))}")
    return STYLES[style]


def width_of(columns: int, style: str, column: float = 3.3) -> float:
    """Return how wide a figure of panels side by side is, in inches: on paper as one or two columns of a journal.

    Args:
        columns: How many panels are side by side.
        style: One of `STYLES`.
        column: Width of a panel elsewhere.
    """
    return (COLUMN if columns == 1 else PAGE) if style == "paper" else column * columns + 0.3


@contextmanager
def drawing(axes: Axes | None) -> Iterator[Axes]:
    """Give axes to draw in: those of the caller, in the style of their figure, or those of a new figure.

    What belongs to a figure that is not ours is drawn in matplotlib's settings of the moment, which are its owner's.
    """
    if axes is None:
        axes = NotebookFigure(figsize=(3.6, 2.6), layout="constrained").subplots()
    figure = axes.get_figure(root=True)
    with rc_context(figure.style if isinstance(figure, NotebookFigure) else {}):
        yield axes


def titled(figure: Figure, title: str | None) -> Figure:
    """Put a title above a figure, if there is one, and return the figure."""
    if title is not None:
        figure.suptitle(title)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a figure as png (200 dpi; 600 in style `paper`), pdf or svg, by the suffix of `path`; folders are made.

    Returns:
        The path.

    Raises:
        StorageError: The suffix is another one, or the file cannot be written.
    """
    path = from_home(path)
    if path.suffix not in FORMATS:
        raise StorageError(f"cannot save a figure as {path.name!r}; the suffix must be .png, .pdf or .svg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context(figure.style if isinstance(figure, NotebookFigure) else STYLE):
            figure.savefig(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return path
