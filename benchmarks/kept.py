"""What a sweep takes of time and disk that keeps curves, and one that keeps sums over its seeds.

    python benchmarks/kept.py [--seeds 10000] [--steps 5000] [--width 10] [--conditions 360]

One condition at batch size 1, in = out = 5, 3 hidden layers, 250 records of two losses and a norm, is run both ways.
What summing up and storing takes is measured apart. A large study of 10,000 seeds in each of `--conditions` is told
from it. Seconds are those of the processor, so that others at work on the machine count little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dln
from dln.results.tables import sizes
from dln.sweeps import driver

RECORDS = 250
LARGE = 10_000
"""Seeds of a condition in the large study."""


class Clock:
    """Processor seconds spent in a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Take the function."""
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call it."""
        start = time.process_time()
        try:
            return self.function(*args, **options)
        finally:
            self.seconds += time.process_time() - start


def run(options: argparse.Namespace, **more: Any) -> tuple[float, float, int]:
    """Run the condition; return seconds in all, those of storing, and bytes."""
    clock = Clock(driver.store_outcome)
    driver.store_outcome = clock
    overrides = {
        "training.batch_seed": range(options.seeds),
        "training.batch_size": 1,
        "model.hidden_dim": options.width,
        "max_steps": options.steps,
        "evaluate_every": options.steps // RECORDS,
        "metrics": [["weight_norm"]],
        **more,
    }
    with tempfile.TemporaryDirectory() as place:
        start = time.process_time()
        dln.run_sweep(overrides, directory=Path(place) / "sweep", progress=True)
        seconds = time.process_time() - start
        files = list((Path(place) / "sweep").rglob("*.parquet"))
        size = sum(path.stat().st_size for path in files)
        for path in files:
            values, frame = sizes(path)
            print(f"{path.name}: {values} bytes of values, {frame} of what they are")
    driver.store_outcome = clock.function
    return seconds, clock.seconds, size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--conditions", type=int, default=360, help="of the large study")
    options = parser.parse_args()
    kept = {"aggregate.over": "training.batch_seed"}
    ways = {"curves": {}, "sums": kept, "sums, no quantiles": {**kept, "aggregate.keep": [["min", "max", "log"]]}}
    dln.run_sweep(
        {"training.batch_size": 1, "model.hidden_dim": options.width, "max_steps": 2, "metrics": [["weight_norm"]]},
        directory=tempfile.mkdtemp(),
    )
    rows = [
        "| kept | CPU seconds | of them summing up and storing | more than training | MB |",
        "|---|---|---|---|---|",
    ]
    for name, more in ways.items():
        seconds, stored, size = run(options, **more)
        rows.append(f"| {name} | {seconds:.1f} | {stored:.1f} | {stored / (seconds - stored):.1%} | {size / 1e6:.2f} |")
        identities = 12 * options.seeds if more else 0
        runs = options.conditions * LARGE
        scaled = options.conditions * (size - identities) + 12 * runs if more else size / options.seeds * runs
        print(f"{name}: {options.conditions} conditions of {LARGE:,} seeds: {scaled / 1e6:,.0f} MB")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
