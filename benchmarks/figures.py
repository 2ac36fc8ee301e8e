"""What figures of sweeps take of time and of disk, on made-up sweeps of many runs.

    python benchmarks/figures.py [--runs 10000] [--records 251]

Each row is `dln plot` as a user gives it, in a process of its own, Python and matplotlib started and the files read;
"drawing" is the part of it that makes the figure and saves it, "processor" what all of it takes of processors, which
hardly depends on what else a machine does. `seeds`: five learning rates, all else seeds. `rates`:
each run has a rate of its own, so that colours are of a ramp. `map`: 100 x 100 cells of one run each.

Last figures, 2026-11-27, two idle cores with AVX-512:

    | figure | command, s | drawing, s | processor, s | kB |
    |---|---|---|---|---|
    | single runs, png | 2.3 | 1.3 | 2.5 | 150 |
    | single runs, pdf for a paper | 2.6 | 1.6 | 2.9 | 113 |
    | means with bands, png | 2.0 | 1.0 | 2.2 | 74 |
    | a rate each, png | 3.0 | 1.9 | 3.2 | 135 |
    | a rate each, pdf | 3.1 | 2.0 | 3.3 | 80 |
    | map, pdf | 2.0 | 1.0 | 2.3 | 31 |
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dln.results.sweep import RESULTS
from dln.results.tables import make_table, write

CASES = {
    "single runs, png": ("seeds", ["--figure", "runs"], "png"),
    "single runs, pdf for a paper": ("seeds", ["--figure", "runs", "--style", "paper"], "pdf"),
    "means with bands, png": ("seeds", [], "png"),
    "a rate each, png": ("rates", [], "png"),
    "a rate each, pdf": ("rates", [], "pdf"),
    "map, pdf": ("map", ["--map"], "pdf"),
}

DRAW = """
import sys, time
import dln.cli.plot as cli
import dln.__main__
begun = time.perf_counter()
dln.__main__.main(["plot", *sys.argv[1:]])
print(time.perf_counter() - begun)
"""


def make_sweep(place: Path, kind: str, count: int, records: int) -> None:
    """Write a made-up sweep into a directory: losses that fall, at a pace of their own, with noise."""
    rng = np.random.default_rng(0)
    steps = np.arange(records, dtype=np.int32) * 20
    run = np.arange(count)
    rates, widths = np.logspace(-4, -2, 5)[run % 5], np.full(count, 10)
    if kind == "rates":
        rates = np.logspace(-4, -2, count)
    elif kind == "map":
        side = round(count**0.5)
        run = np.arange(side * side)
        rates, widths = np.logspace(-4, -2, side)[run % side], 1 + run // side
    pace = rates * np.exp(0.2 * rng.standard_normal(len(run)))
    noise = 0.05 * rng.standard_normal((len(run), records)).cumsum(1)
    loss = (30 * np.exp(noise - pace[:, None] * steps)).astype(np.float32)
    config = {"training.lr": rates.tolist(), "model.hidden_dim": widths.tolist()}
    config["training.batch_seed"] = (run // 5 if kind == "seeds" else np.zeros(len(run), int)).tolist()
    curves = {"step": np.tile(steps, (len(run), 1)), "train_loss": loss, "test_loss": loss}
    events = {"diverged_at": [None] * len(run)}
    table = make_table([f"{i:024x}" for i in run], config, events, curves)
    place.mkdir(parents=True)
    write([table], place / RESULTS)


def measured(sweep: Path, words: Sequence[str], suffix: str) -> tuple[float, float, float, float]:
    """Return the seconds of the command, of its drawing, and of processors, and how many kB the figure has."""
    out = sweep / f"figure.{suffix}"
    begun, used = time.perf_counter(), processor_seconds()
    command = [sys.executable, "-c", DRAW, str(sweep), *words, "-o", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    whole = time.perf_counter() - begun
    return whole, float(done.stdout.split()[-1]), processor_seconds() - used, out.stat().st_size / 1000


def processor_seconds() -> float:
    """Return what processes of ours that have ended took of processors."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=251)
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args()
    print("| figure | command, s | drawing, s | processor, s | kB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for kind in {kind: None for kind, _, _ in CASES.values()}:
            make_sweep(Path(place) / kind, kind, options.runs, options.records)
        for name, (kind, words, suffix) in CASES.items():
            rounds = range(options.rounds)
            whole, drawing, used, size = min(measured(Path(place) / kind, words, suffix) for _ in rounds)
            print(f"| {name} | {whole:.1f} | {drawing:.1f} | {used:.1f} | {size:.0f} |", flush=True)


if __name__ == "__main__":
    main()
