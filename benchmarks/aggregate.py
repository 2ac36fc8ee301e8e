"""What `dln.aggregate` takes of time and memory, on made-up sweeps of any size.

    python benchmarks/aggregate.py [--rows 10 100] [--seeds 1000] [--resamples 0]

A row is one record of one run. Each run has 250 records of three numbers, each condition `--seeds` runs, and every
tenth condition is the baseline of nine others. The sweep is aggregated from its file, in a process of its own whose
memory is measured: one column, its mean, median, intervals, ratio to the baseline and tests.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from dln.results.sweep import RESULTS
from dln.results.tables import make_table, write

RECORDS, CURVES = 250, ("train_loss", "test_loss", "weight_norm")

MEASURE = """
import json, resource, sys, time
import dln
sweep, resamples = sys.argv[1], int(sys.argv[2])
start = time.perf_counter()
gd = {"training.batch_size": None}
table = dln.aggregate(sweep, "training.batch_seed", of=["test_loss"], baseline=gd, resamples=resamples)
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, len(table)]))
"""


def parts(conditions: int, seeds: int) -> Iterator[pa.Table]:
    """Yield the rows of a sweep, a condition at a time."""
    rng = np.random.default_rng(0)
    steps = np.arange(RECORDS, dtype=np.int32) * 20
    for condition in range(conditions):
        size = (None, *range(1, 10))[condition % 10]
        noise = rng.normal(size=(seeds, RECORDS)).cumsum(1) * (0 if size is None else 0.01)
        loss = np.exp(noise - steps / 1000).astype(np.float32)
        curves = {"step": np.tile(steps, (seeds, 1)), **dict.fromkeys(CURVES, loss)}
        config = {"model.gamma": [0.5 + condition // 10] * seeds, "training.batch_size": [size] * seeds}
        config |= {"training.batch_seed": [*range(seeds)]} | {f"data.params.p{i}": [1.0] * seeds for i in range(40)}
        runs = [f"{condition:012x}{seed:012x}" for seed in range(seeds)]
        table = make_table(runs, config, {"diverged_at": [None] * seeds}, curves)
        yield table.set_column(
            table.schema.get_field_index("training.batch_size"),
            "training.batch_size",
            table["training.batch_size"].cast(pa.int64()),
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 100], help="sizes of the sweep, in millions")
    parser.add_argument("--seeds", type=int, default=1000, help="runs of a condition")
    parser.add_argument("--resamples", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args()
    print("| million rows | runs | conditions | file MB | seconds | peak GB |\n|---|---|---|---|---|---|")
    for millions in options.rows:
        conditions = max(10, round(millions * 1e6 / RECORDS / options.seeds))
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / RESULTS
            write(parts(conditions, options.seeds), path)
            command = [sys.executable, "-c", MEASURE, place, str(options.resamples)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, peak, rows = json.loads(done.stdout)
            size = path.stat().st_size / 1e6
        assert rows == conditions * RECORDS
        told = f"{conditions * options.seeds:,} | {conditions} | {size:.0f} | {seconds:.1f} | {peak / 1e9:.2f}"
        print(f"| {millions} | {told} |")


if __name__ == "__main__":
    main()
