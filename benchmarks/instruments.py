"""What metrics cost: all cheap ones, all moderate ones and the sharpness, against the training between two records.

    python benchmarks/instruments.py [--rounds N]

Ensembles with records as often as in the study of `performance.md`, batches of one sample; and the same metrics of one
member by the autograd engine. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import time

from dln import factory
from dln.composing.compose import resolve
from dln.config import SingleConfig

RUNS = {50: (32, 32), 10: (256, 20)}
"""Members and steps between two records, by width."""

RECORDS = {"cheap": 250, "moderate": 25, "sharpness": 25}
"""Records that are measured."""


def configs(width: int, metrics: object, members: int, records: int, engine: str) -> list[SingleConfig]:
    """Return the configs of an ensemble."""
    every = RUNS[width][1]
    run = {"max_steps": every * records, "evaluate_every": every, "engine": engine, "metrics": metrics}
    seeds = range(members)
    raw = [{**run, "model": {"hidden_dim": width}, "training": {"batch_size": 1, "batch_seed": s}} for s in seeds]
    return [resolve(config, SingleConfig) for config in raw]


def seconds(width: int, metrics: object, members: int, records: int, engine: str = "compiled") -> float:
    """Return what a run takes, a member and a record."""

    def build(*size: int):
        resolved = configs(width, metrics, *size, engine)
        return factory.build_ensemble(resolved) if engine == "compiled" else factory.build_trainer(resolved[0])

    build(1, 1).run()  # kernels are loaded
    run = build(members, records)
    started = time.perf_counter()
    run.run()
    return (time.perf_counter() - started) / members / (records + 1)


def measured(width: int, metrics: object, records: int, rounds: int) -> tuple[float, float, float]:
    """Return the training between two records, what metrics add to it, and what they add on the autograd engine."""
    members, few = RUNS[width][0], min(records, 25)
    cases = [([], members, records, "compiled"), (metrics, members, records, "compiled")]
    cases += [([], 1, few, "autograd"), (metrics, 1, few, "autograd")]
    # The least of several: whatever else the machine does only adds.
    plain, ours, slow_plain, slow = (min(column) for column in zip(*_rounds(width, cases, rounds), strict=True))
    return plain, ours - plain, slow - slow_plain


def _rounds(width: int, cases: list, rounds: int) -> list[list[float]]:
    return [[seconds(width, *case) for case in cases] for _ in range(rounds)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements, of which the least counts")
    rounds = parser.parse_args().rounds
    print("| width | metrics | us a record | of the training between two | against autograd, one by one |")
    print("|---|---|---|---|---|")
    for width in RUNS:
        for name, records in RECORDS.items():
            metrics = name if name in ("cheap", "moderate") else [name]
            plain, ours, slow = measured(width, metrics, records, rounds)
            print(f"| {width} | {name} | {1e6 * ours:.0f} | {ours / plain:.2f} | {slow / ours:.0f}x |", flush=True)


if __name__ == "__main__":
    main()
