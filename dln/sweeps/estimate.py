"""About what runs take, before they are run: a few are tried for some steps."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from dln import factory
from dln.base.registry import import_extensions
from dln.experiment import MEMBERS, run_resolved
from dln.footprint import ensemble_bytes, members_that_fit
from dln.sweeps.plan import Plan

TRIED, TRIED_STEPS = 32, 200
"""Runs and steps that are tried to estimate what all take."""


@dataclass(frozen=True)
class Estimate:
    """About what some runs take."""

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
    import_extensions(full.extensions)
    compiled = factory.autograd_reason(full) is None
    records = len(factory.recorded_steps(full))
    every = max(1, max_steps // (records - 1))  # as many records as in the whole run, at most
    change = {"max_steps": max_steps, "evaluate_every": every, "evaluate_at": None}
    short = [dataclasses.replace(config, **change) for config in configs]
    if compiled:
        factory.build_ensemble([dataclasses.replace(short[0], max_steps=1)]).run()  # kernels are loaded
    started = time.perf_counter()
    if compiled:
        curves = factory.build_ensemble(short).run().curves()
        numbers = sum(curve[0].size for curve in curves.values()) / len(curves["step"])
    else:
        short = short[:1]
        history = run_resolved(short[0])
        numbers = sum(column.size for column in history.columns.values()) / len(history)
    steps = (time.perf_counter() - started) / len(short) / max_steps
    stored = 0.65 * numbers * records * np.dtype(full.dtype).itemsize
    engine, memory = ("compiled", ensemble_bytes(together)) if compiled else ("autograd", ensemble_bytes(together[:1]))
    return Estimate(engine, steps * full.max_steps * len(cells), stored * len(cells), memory)
