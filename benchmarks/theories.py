"""What a prediction costs beside the run that it is of.

    python benchmarks/theories.py [--every 10] [NAME ...]

Every theory predicts a default run (5-50-50-50-5, 2,500 steps; two or one layers, white inputs and so on where it asks
for that), recorded every `--every` steps. What it takes, derived losses and distances included, is what the run takes
with it on the compiled engine less what it takes without; beside it is the same run on the autograd engine, which a
theory should not outlast. Least of three; processor seconds of all threads, so that others at work count little.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import dln
from dln.theory import THEORIES
from tests.theory.test_registry import NEEDED

REPEATS = 3


def seconds(config: dict[str, Any]) -> float:
    """Return the least processor time of a run."""
    took = []
    for _ in range(REPEATS):
        start = time.process_time()
        dln.run_experiment(config)
        took.append(time.process_time() - start)
    return min(took)


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return configs laid over one another."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    return whole


def main() -> None:
    """Print a row for each theory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=THEORIES.names())
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args()
    dln.run_experiment({"max_steps": 1, "engine": "compiled"})
    print("| theory | cost | ms a run | of the autograd run | of the compiled run |\n|---|---|---|---|---|")
    for name in options.names:
        config = merged([{"evaluate_every": options.every}, *NEEDED.get(name, [])])
        if name == "two_cycle":
            config["training"] = {"lr": 0.27}  # 2 lr s / d_out = 1.08 for the teacher's s = 10
        slow, fast = seconds({**config, "engine": "autograd"}), seconds({**config, "engine": "compiled"})
        own = seconds({**config, "engine": "compiled", "theory": [name]}) - fast
        cost = THEORIES.get(name).marks["cost"]
        print(f"| `{name}` | {cost} | {1000 * own:.0f} | {own / slow:.2f} | {own / fast:.1f} |", flush=True)


if __name__ == "__main__":
    main()
