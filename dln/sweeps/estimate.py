"""Estimates of the time and memory that runs take: a few are trained for some steps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from dln.blueprint import recorded_steps
from dln.engines import MEMBERS, go_together, train_together
from dln.footprint import ensemble_bytes, members_that_fit
from dln.sweeps.plan import Plan

TRIED, TRIED_STEPS = 32, 200
"""How many runs, and steps of each, are trained for an estimate."""


@dataclass(frozen=True)
class Estimate:
    """What some runs take, about."""

    engine: str
    seconds: float
    bytes: float
    memory: float
    """Bytes that the runs need that are trained at the same time."""


def estimate(plan: Plan, cells: np.ndarray) -> Estimate:
    """Train a few of some runs that can be trained together for a few steps, and scale up."""
    together = [plan.config(int(cell)) for cell in cells[:MEMBERS]]
    together = together[: members_that_fit(together)]
    configs = together[:TRIED]
    full, max_steps = configs[0], min(configs[0].max_steps, TRIED_STEPS)
    at_once = go_together(full)
    records = len(recorded_steps(full))
    every = max(1, max_steps // (records - 1))  # as many records as in the whole run, at most
    change = {"max_steps": max_steps, "evaluate_every": every, "evaluate_at": None}
    short = [dataclasses.replace(config, **change) for config in configs]
    if at_once:
        train_together([dataclasses.replace(short[0], max_steps=1)])  # kernels are loaded
    results = train_together(short if at_once else short[:1])
    steps = results.seconds / len(results) / max_steps
    numbers = sum(curve[0].size for curve in results.curves.values()) / len(results.curves["step"])
    stored = 0.65 * numbers * records * np.dtype(full.dtype).itemsize
    memory = ensemble_bytes(together if at_once else together[:1])
    return Estimate(results.engine, steps * full.max_steps * len(cells), stored * len(cells), memory)
