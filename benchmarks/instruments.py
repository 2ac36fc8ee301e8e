"""What metrics cost: all cheap ones, all moderate ones and a spectrum, against the training between two records.

An ensemble with 250 records, and the same metrics of one member by the autograd engine. See benchmarks/README.md.
"""

import time

from dln import factory
from dln.compose import resolve
from dln.config import SingleConfig

RUNS = {50: 32, 10: 256}
"""Members by width."""


def configs(width: int, metrics: object, members: int, records: int, engine: str = "compiled") -> list[dict]:
    """Return the configs of an ensemble: 20 steps a record, batches of one sample."""
    run = {"max_steps": 20 * records, "evaluate_every": 20, "engine": engine, "metrics": metrics}
    model = {"hidden_dim": width}
    return [{**run, "model": model, "training": {"batch_size": 1, "batch_seed": seed}} for seed in range(members)]


def seconds(width: int, metrics: object, members: int, records: int, engine: str = "compiled") -> float:
    """Return what a run takes, a member and a record."""
    resolved = [resolve(config, SingleConfig) for config in configs(width, metrics, members, records, engine)]
    make = factory.build_ensemble if engine == "compiled" else lambda some: factory.build_trainer(some[0])
    make([resolve(configs(width, metrics, 1, 1, engine)[0], SingleConfig)]).run()  # kernels are loaded
    run = make(resolved)
    started = time.perf_counter()
    run.run()
    return (time.perf_counter() - started) / members / (records + 1)


def main() -> None:
    """Print a table."""
    print("| width | metrics | us a record | of the training | against autograd, one by one |")
    print("|---|---|---|---|---|")
    for width, members in RUNS.items():
        plain = seconds(width, [], members, 250)
        slow_plain = seconds(width, [], 1, 25, "autograd")
        for metrics in ("cheap", "moderate", ["sharpness"]):
            records = 250 if metrics == "cheap" else 25
            ours = seconds(width, metrics, members, records) - plain
            slow = seconds(width, metrics, 1, 25, "autograd") - slow_plain
            name = metrics if isinstance(metrics, str) else metrics[0]
            print(f"| {width} | {name} | {1e6 * ours:.0f} | {ours / plain:.2f} | {slow / ours:.0f}x |", flush=True)


if __name__ == "__main__":
    main()
