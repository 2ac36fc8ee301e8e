"""What figures of sweeps take of time and of disk, on made-up sweeps of many runs.

    python benchmarks/figures.py [--runs 10000] [--records 251]

Each row is `dln plot` as a user gives it, in a process of its own, Python and matplotlib started and the files read;
"drawing" is the part of it that makes the figure and saves it. `seeds`: five learning rates, all else seeds. `rates`:
each run has a rate of its own, so that colours are of a ramp. `map`: 100 x 100 cells of one run each.
"""

from __future__ import annotations

import argparse
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


def measured(sweep: Path, words: Sequence[str], suffix: str) -> tuple[float, float, float]:
    """Return how many seconds the command and its drawing took, and how many kB the figure has."""
    out = sweep / f"figure.{suffix}"
    begun = time.perf_counter()
    command = [sys.executable, "-c", DRAW, str(sweep), *words, "-o", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    whole = time.perf_counter() - begun
    return whole, float(done.stdout.split()[-1]), out.stat().st_size / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=251)
    options = parser.parse_args()
    print("| figure | command, s | drawing, s | kB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for kind in {kind: None for kind, _, _ in CASES.values()}:
            make_sweep(Path(place) / kind, kind, options.runs, options.records)
        for name, (kind, words, suffix) in CASES.items():
            whole, drawing, size = min(measured(Path(place) / kind, words, suffix) for _ in range(3))
            print(f"| {name} | {whole:.1f} | {drawing:.1f} | {size:.0f} |")


if __name__ == "__main__":
    main()
