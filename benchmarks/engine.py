"""The compiled engine against the loop a user would write in PyTorch: ratios measured in one run, on one machine.

    python benchmarks/engine.py [--yardstick PATH] [--rounds N] [--growth]

Each row trains an ensemble as a study does (batch order drawn, losses recorded, the same steps a record) and, in turn,
the yardstick with two processes; the ratio is that of the medians. Writes benchmarks/ratios.png.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dln import factory
from dln.base.parallel import thread_count
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig
from dln.metrics import model_metric

HERE = Path(__file__).resolve().parent
YARDSTICK = HERE.parent.parent / "shared" / "yardstick" / "torch_loop.py"
FIVE = ["weight_norm", "gradient_norm", "end_to_end_norm", "top_layer_share", "trace"]
ROWS = [  # width, batch (None: full batch of 500), steps, steps a record in the study, at least, aim
    (100, 1, 2080, 104, 30, 50),
    (100, 10, 1040, 104, 10, 30),
    (100, None, 1040, 104, 35, 110),
    (50, 1, 3200, 32, 90, 170),
    (10, 1, 10000, 20, 500, 2500),
    (10, None, 10000, 20, 180, 1000),
]


@model_metric("top_layer_share", batched=True)
def top_layer_share(weight_squares):
    """Share of the last layer in the squared norm of the weights: what a user might add."""
    return weight_squares[..., -1] / weight_squares.sum(-1)


@model_metric("trace", batched=True)
def trace(end_to_end):
    """Trace of the end-to-end map."""
    return end_to_end.diagonal(dim1=-2, dim2=-1).sum(-1)


def configs(width: int, batch: int | None, steps: int, every: int, members: int = 128, **change) -> list[SingleConfig]:
    """Return the runs of an ensemble of the study: in = out = 5, 3 hidden layers, N = 500, float32, plain SGD."""
    settings = {
        "model": {"hidden_dim": width, "gamma": 1.0, "num_hidden": change.pop("num_hidden", 3)},
        "data": {"params": {"matrix": "power_law", "scale": 5.0}, "train_samples": 500, "test_samples": 500},
        "max_steps": steps,
        "evaluate_every": every,
        **change,
    }
    runs = [{"lr": 1e-4, "batch_size": batch, "batch_seed": m, "model_seed": m} for m in range(members)]
    return [resolve({**settings, "training": run}, SingleConfig) for run in runs]


def microseconds(runs: list[SingleConfig]) -> float:
    """Train an ensemble and return elapsed microseconds a step of a run, set-up, batch order and records included."""
    start = time.perf_counter()
    factory.build_ensemble(runs).run()
    return (time.perf_counter() - start) / (len(runs) * runs[0].max_steps) * 1e6


def yardstick(path: Path, width: int, batch: int | None) -> float:
    """Return microseconds a step of the plain PyTorch loop, two processes."""
    command = [sys.executable, str(path), str(width), str(batch or 0), "1000", "2"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_gflops() -> float:
    """Return what a large sgemm reaches here."""
    a = np.ones((2048, 2048), np.float32)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    return best


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Return the medians of several measurements taken in turn, A B C A B C ...; the first round does not count."""
    results = [[measure() for measure in measures] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*results, strict=True)]


def ratios(path: Path, rounds: int) -> list[tuple]:
    """Measure every row: (label, torch us, us, ratio, ratio with five metrics, share of peak, at least, aim)."""
    peak, table = peak_gflops(), []
    for width, batch, steps, every, least, aim in ROWS:
        bare = configs(width, batch, steps, every)
        measured = configs(width, batch, steps, every, metrics=FIVE)
        torch_us, us, with_metrics = in_turn(
            rounds,
            partial(yardstick, path, width, batch),
            partial(microseconds, bare),
            partial(microseconds, measured),
        )
        weights = 10 * width + 2 * width**2
        flops = 6 * weights * min(batch or 5, 5)
        label = f"width {width}, {'full batch' if batch is None else f'B={batch}'}"
        share = flops / us / 1e3 / peak
        table.append((label, torch_us, us, torch_us / us, torch_us / with_metrics, share, least, aim))
        print(row(table[-1]), flush=True)
    return table


def row(values: tuple) -> str:
    """Return one line of the table in README.md."""
    label, torch_us, us, ratio, measured, share, least, aim = values
    cells = [label, f"{torch_us:.0f}", f"{us:.3g}", f"**{ratio:.0f}x**", f"{measured:.0f}x", f"{share:.0%}"]
    return "| " + " | ".join([*cells, f"{least}x", f"{aim}x"]) + " |"


def alone() -> None:
    """Print what single runs and comparisons cost that record every step, against the autograd engine in turn."""
    pair = {"model_metrics": ["weight_norm"], "comparative_metrics": ["param_distance", "param_cosine_sim"]}
    cases = {
        "a run": (SingleConfig, {}),
        "a run, two metrics": (SingleConfig, {"metrics": ["weight_norm", "gradient_norm"]}),
        "a comparison, three metrics": (ComparativeConfig, {**pair, "training_b": {"batch_size": 10}}),
    }
    for name, (schema, change) in cases.items():

        def seconds(engine: str, schema=schema, change=change) -> float:
            config = resolve({**change, "engine": engine}, schema)
            start = time.perf_counter()
            factory.build(config).run()
            return time.perf_counter() - start

        slow, fast = in_turn(2, partial(seconds, "autograd"), partial(seconds, "compiled"))
        print(f"| {name}, default config | {slow:.2f} s | {fast:.2f} s | {slow / fast:.1f}x |", flush=True)


def growth() -> None:
    """Print how the time of a step of a run grows with members, width, depth, batch and steps."""
    base = {"width": 50, "batch": 1, "steps": 2000, "every": 32}
    series = {
        "members": [{"members": r} for r in (1, 4, 16, 64, 256)],
        "width": [{"width": w, "steps": 200000 // w} for w in (5, 10, 20, 50, 100, 200)],
        "num_hidden": [{"num_hidden": d} for d in (1, 2, 3, 6)],
        "batch": [{"batch": b} for b in (1, 2, 5, 10, 50, None)],
        "steps": [{"steps": s} for s in (500, 2000, 8000)],
    }
    for name, changes in series.items():
        cells = []
        for change in changes:
            (us,) = in_turn(2, partial(microseconds, configs(**{**base, **change})))
            cells.append(f"{change[name] or 'full'}: {us:.3g}")
        print(f"| {name} | {', '.join(cells)} |", flush=True)


def plot(table: list[tuple], path: Path) -> None:
    """Draw the ratios beside what was asked for."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    ax = figure.subplots()
    places = range(len(table))
    ax.barh(places, [r[3] for r in table], height=0.5, color="#0072B2", label="with losses recorded")
    ax.plot([r[4] for r in table], places, "o", color="#E69F00", label="and five metrics")
    ax.plot([r[6] for r in table], places, "|", color="black", markersize=14, label="at least")
    ax.plot([r[7] for r in table], places, "|", color="#D55E00", markersize=14, label="aim")
    ax.set_yticks(places, [r[0] for r in table])
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xlabel("times faster than a plain PyTorch loop, two processes")
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yardstick", type=Path, default=YARDSTICK, help="the plain PyTorch loop to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="counted measurements of each cell")
    parser.add_argument(
        "--growth", action="store_true", help="also single runs, and how the time grows with the problem"
    )
    options = parser.parse_args()
    print(f"{thread_count()} threads; {peak_gflops():.0f} GFLOP/s sgemm")
    print("| in = out = 5, 3 hidden | torch us | dln us | ratio | with 5 metrics | of sgemm peak | at least | aim |")
    print("|---|---|---|---|---|---|---|---|")
    plot(ratios(options.yardstick, options.rounds), HERE / "ratios.png")
    if options.growth:
        alone()
        growth()


if __name__ == "__main__":
    main()
