"""Runs made up for figures of tables, and what one looks for in these."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

RATE, SIZE, WIDTH, SEED = "training.lr", "training.batch_size", "model.hidden_dim", "training.batch_seed"
STEPS = np.array([0, 10, 20, 30])


def made_up(axes: dict[str, list[Any]], seeds: int = 5, lost: dict[tuple, int] | None = None, zero: bool = False):
    """Return a frame as `dln.load_sweep` does: losses that fall, some runs with `lost[values, seed]` records only."""
    rng = np.random.default_rng(0)
    rows = []
    for values in itertools.product(*axes.values()):
        for seed in range(seeds):
            records = (lost or {}).get((*values, seed), len(STEPS))
            loss = np.exp(-0.1 * STEPS * (1 + len(rows) % 7) + rng.normal(0, 0.2, len(STEPS)))
            loss[-1] = 0.0 if zero else loss[-1]
            ended = None if records == len(STEPS) else int(STEPS[records - 1]) + 5
            row = {**dict(zip(axes, values, strict=True)), SEED: seed, "diverged_at": ended}
            row |= {"step": STEPS[:records].tolist(), "test_loss": loss[:records].tolist()}
            rows.append(row | {"sharpness": (10 + rng.normal(0, 1, records)).tolist()})
    kinds = {"diverged_at": pl.Int64()}
    return pl.DataFrame(rows, schema_overrides=kinds, infer_schema_length=None)


def matrix(frame: pl.DataFrame, name: str = "test_loss", **values: Any) -> np.ndarray:
    """Return a curve of the runs that have some values, NaN where they have ended [R, T]."""
    for key, value in values.items():
        frame = frame.filter(frame[key].eq_missing(value))
    rows = np.full((len(frame), len(STEPS)), np.nan)
    for row, curve in zip(rows, frame[name].to_list(), strict=True):
        row[: len(curve)] = curve
    return rows


def named(axes: Axes) -> dict[str, Line2D]:
    """Return the lines that have a name."""
    return {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def entries(holder: Any) -> list[str]:
    """Return what the legend of axes, or of a figure, says."""
    legend = holder.get_legend() if isinstance(holder, Axes) else holder.legends[0]
    return [] if legend is None else [text.get_text().replace("\n", " ") for text in legend.get_texts()]


def crosses(axes: Axes) -> list[float]:
    """Return where crosses are on the upper edge."""
    return [x for line in axes.lines if line.get_marker() == "x" for x in np.atleast_1d(line.get_xdata()).tolist()]
