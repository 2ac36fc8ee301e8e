"""What a study of 3.6 million runs takes: measured on a slice of every cell, and extrapolated, with the arithmetic.

    python benchmarks/large_study.py [--members 256] [--seconds 0.5] [--repeats 3] [--online]

The study: in = out = 5, 3 hidden layers of width 100, 50 or 10; gamma 1.5, 1.0, 0.75 with 26,000, 8,000, 5,000 steps;
batch sizes 50, 10, 5, 2, 1 of 500 samples, and the full batch, whose runs are bound to go the same way and cost nothing
here; eight combinations of noise and initial seed; 10,000 batch seeds; 250 records of a run. With `--online` its runs
see fresh samples instead. CPU seconds of all threads are counted, the least of a few, so that other work on the machine
counts little; what it takes of caches and of cores that share one is in them. A step's cost does not depend on gamma.
With T(s) what an ensemble of m runs takes for s steps,

    step  = (T(s2) - T(s1)) / (m (s2 - s1))          records among them as often as in the study
    begin = T(s1) / m - s1 step
    run   = begin + steps step + stored              stored: what 250 records take to be summed up and written

Then come whole machines: cores, and what jobs cost that a launcher starts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from dln import factory, run_sweep
from dln.composing.loader import load_config
from dln.composing.variants import with_values
from dln.config import SingleConfig
from dln.engines import MEMBERS

STEPS = {1.5: 26_000, 1.0: 8_000, 0.75: 5_000}
WIDTHS, SIZES = (100, 50, 10), (50, 10, 5, 2, 1)
SEEDS, RECORDS, LIKE_IT = 10_000, 250, 8
"""Batch seeds; records of a run; noises times initial seeds, which cost the same."""
COMMON = ["data.train_samples=500", "data.params.matrix=power_law", "data.noise_std=0.5", "training.lr=0.0001"]
RUNS = LIKE_IT * len(STEPS) * len(WIDTHS) * len(SIZES) * SEEDS
CORES = (2, 192)
AGGREGATES, IDENTITY = "aggregates.parquet", 12
"""The file of a sweep that keeps sums, and the bytes there of a run."""
POLL = 10.0
"""Seconds between a launcher's looks at its jobs: what submitit and Ray take to notice an end, assumed."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one run."""

    begin: float
    step: float


def trained(words: list[str], members: int, steps: int) -> float:
    """Return the CPU seconds that an ensemble takes for some steps, from its configs to its records."""
    config = load_config([*COMMON, *words, f"max_steps={steps}"], SingleConfig)
    configs = [with_values(config, {"training.batch_seed": seed}) for seed in range(members)]
    start = time.process_time()
    factory.build_ensemble(configs).run()
    return time.process_time() - start


def cost(width: int, size: int, options: argparse.Namespace) -> Cost:
    """Measure what runs of one kind take, with a record every 52 steps, the mean of the study's."""
    words = [f"model.hidden_dim={width}", f"training.batch_size={size}", f"data.online={str(options.online).lower()}"]
    words += [f"evaluate_every={round(sum(STEPS.values()) / len(STEPS) / RECORDS)}"]
    short, long = 52, 208
    begun = min(trained(words, options.members, short) for _ in range(options.repeats))
    while trained(words, options.members, long) < begun + options.seconds:
        long *= 2
    took = min(trained(words, options.members, long) for _ in range(options.repeats))
    step = (took - begun) / (long - short) / options.members
    return Cost(max(0.0, begun / options.members - short * step), step)


def stored(ensembles: int = 4, repeats: int = 2) -> tuple[float, float]:
    """Return the CPU seconds that a run's records take beyond its training, planning included, and a condition's bytes.

    Sums are kept over the seeds, whose identities take 12 bytes a run beside.
    """
    words = ["model.hidden_dim=10", "training.batch_size=1"]
    runs, times, size = ensembles * MEMBERS, [], 0
    for _ in range(repeats):
        alone = sum(trained(words, MEMBERS, RECORDS) for _ in range(ensembles))
        with tempfile.TemporaryDirectory() as place:
            start = time.process_time()
            more = [f"max_steps={RECORDS}", f"training.batch_seed=range({runs})", "aggregate.over=training.batch_seed"]
            run_sweep([*COMMON, *words, *more], directory=Path(place) / "sweep")
            times.append((time.process_time() - start - alone) / runs)
            size = (Path(place) / "sweep" / AGGREGATES).stat().st_size
    return max(0.0, min(times)), size - IDENTITY * runs


def started() -> float:
    """Return the seconds that a job's process takes before it computes: Python, torch, Hydra, kernels from the disk."""
    code = "from dln.composing.loader import load_config; import dln; dln.run_experiment(['max_steps=1'])"
    times = []
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=256, help="runs of an ensemble that is measured")
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU seconds of a measurement, at least")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of which the least counts")
    parser.add_argument("--online", action="store_true", help="fresh samples for every batch")
    options = parser.parse_args()
    total, training, steps = 0.0, 0.0, sum(STEPS.values())
    each, size = stored()
    print(
        f"{RUNS:,} runs, {RUNS * steps // len(STEPS):,} steps; stored: {1e3 * each:.2f} ms and {size:.0f} bytes a run\n"
    )
    print("| width | batch | us a step of a run | ms to begin | core hours |")
    print("|---|---|---|---|---|")
    for width in WIDTHS:
        for batch in SIZES:
            found = cost(width, batch, options)
            own = (len(STEPS) * (found.begin + each) + steps * found.step) * LIKE_IT * SEEDS / 3600
            total, training = total + own, training + found.step
            print(f"| {width} | {batch} | {1e6 * found.step:.3f} | {1e3 * found.begin:.2f} | {own:.2f} |", flush=True)
    kinds = len(WIDTHS) * len(SIZES)
    print(f"\ncore hours of a row: {LIKE_IT * SEEDS:,} x ({len(STEPS)} x (begin + stored) + {steps:,} steps) / 3600")
    beyond = total - training * steps * LIKE_IT * SEEDS / 3600
    print(f"{total:.1f} core hours in all, {beyond:.1f} of them to begin and to store")
    print(f"{1e6 * training / kinds / 2:.2f} us a step of a run on two cores, on average\n")
    jobs, begin = RUNS // MEMBERS, started()
    print(f"a job takes {begin:.1f} s to start; {RUNS:,} / {MEMBERS} runs = {jobs:,} jobs at most\n")
    print("| cores | hours of computing | with jobs of one core, each started and noticed | |")
    print("|---|---|---|---|")
    for cores in CORES:
        bare = total / cores
        launched = bare + jobs * (begin + POLL) / cores / 3600
        print(f"| {cores} | {bare:.2f} | {launched:.2f} | {'under' if launched < 24 else 'OVER'} a day |")


if __name__ == "__main__":
    main()
