"""Whole sweeps, from the shell to the table, against Hydra's own multirun with the autograd engine on a sample.

    python benchmarks/sweep.py [--runs 1000 10000] [--sample 6]

Width 10, 5,000 steps, batch size 1, 250 records of three numbers. Prints the ratios, what a run costs beyond its
training, and what its results take on disk and to load.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dln
from dln import factory
from dln.composing.loader import load_config
from dln.composing.variants import with_values
from dln.config import SingleConfig
from dln.engines import MEMBERS

RUN = Path(__file__).resolve().parents[1] / "run.py"
STUDY = ["model.hidden_dim=10", "training.batch_size=1", "max_steps=5000", "evaluate_every=20", "metrics=[weight_norm]"]
STUDY += ["data.params.matrix=power_law", "training.lr=0.0001"]


def command(runs: int, *more: str) -> float:
    """Run a sweep over seeds in a directory of its own and return the seconds it took, start-up included."""
    start = time.perf_counter()
    seeds = f"training.batch_seed=range(0,{runs})"
    subprocess.run([sys.executable, str(RUN), "-m", *STUDY, seeds, *more], check=True, capture_output=True)
    return time.perf_counter() - start


def training(runs: int) -> float:
    """Return the seconds that the kernels alone take for as many runs."""
    configs = [load_config([*STUDY, "training.batch_seed=0"], SingleConfig)]
    configs = [with_values(configs[0], {"training.batch_seed": seed}) for seed in range(min(runs, MEMBERS))]
    factory.build_ensemble(configs[:16]).run()
    ensemble = factory.build_ensemble(configs)
    start = time.perf_counter()
    ensemble.run()
    return (time.perf_counter() - start) / len(configs) * runs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10000], help="sizes of the sweep")
    parser.add_argument("--sample", type=int, default=6, help="runs of Hydra's own multirun that are measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        slow = ["hydra/sweeper=basic", "engine=autograd"]
        one, many = (command(n, *slow, f"hydra.sweep.dir={place}/stock{n}") for n in (1, 1 + options.sample))
        stock = (many - one) / options.sample
        print(f"Hydra's multirun, autograd: {stock:.2f} s a run, measured on {options.sample}; one alone {one:.1f} s\n")
        print("| runs | seconds | ratio | not training, ms a run | MB | of raw float32 | a curve loads in | again |")
        print("|---|---|---|---|---|---|---|---|")
        for runs in options.runs:
            directory = f"{place}/ours{runs}"
            seconds = command(runs, f"hydra.sweep.dir={directory}")
            again = command(runs, f"hydra.sweep.dir={directory}")
            beyond = (seconds - training(runs)) / runs * 1e3
            size = (Path(directory) / "results.parquet").stat().st_size / 1e6
            dln.load_sweep(directory, ["test_loss"])
            start = time.perf_counter()
            dln.load_sweep(directory, ["train_loss"])
            loaded = time.perf_counter() - start
            share = size / (runs * 251 * 3 * 4 / 1e6)
            ratio = (one - stock + runs * stock) / seconds
            cells = [runs, f"{seconds:.1f}", f"**{ratio:.0f}x**", f"{beyond:.2f}", f"{size:.1f}", f"{share:.0%}"]
            print("| " + " | ".join(map(str, [*cells, f"{loaded:.3f} s", f"{again:.1f} s"])) + " |", flush=True)


if __name__ == "__main__":
    main()
