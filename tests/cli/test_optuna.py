"""Studies by Optuna, for real: what it says was best is looked for among the runs that it made."""

import itertools
import json
import math
import re
import shlex
import sqlite3

import pytest
import yaml

import dln
from tests.pages import PAGES

pytest.importorskip(
    "hydra_plugins.hydra_optuna_sweeper",
    reason="Optuna's sweeper is not installed: pip install -r requirements-optuna.txt",
)
pytestmark = pytest.mark.hydra

PAGE = PAGES["docs/optimise.md"]
COMMANDS = re.findall(r"^python (\S+) (.*hydra/sweeper=optuna.*)$", PAGE, re.MULTILINE)
SHORT = ["max_steps=100", "evaluate_every=10", "hydra.sweep.dir=here", "hydra.sweeper.sampler.seed=1"]


def studied(door, directory, *argv, script="run.py"):
    """What a study says was best, and what its runs came to: rates and final records, by their directories."""
    result = door.run(directory, *argv, *SHORT, door=script)
    assert result.status == 0, result.err
    assert "Failed" not in result.out + result.err
    best = yaml.safe_load((directory / "here" / "optimization_results.yaml").read_text(encoding="utf-8"))
    assert best["name"] == "optuna"
    return best, [run_of(directory / "here" / str(i)) for i in range(len([*directory.glob("here/*/summary.json")]))]


def run_of(directory):
    lines = (directory / "history.jsonl").read_text(encoding="utf-8").splitlines()
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((directory / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    return config, [*map(json.loads, lines)], "diverged" in json.dumps(summary["events"])


def test_twenty_trials_find_a_better_rate_than_the_first(door, tmp_path):
    """From rates at which nothing happens to those at which runs diverge, which are told as the worst there is."""
    script, line = COMMANDS[0]
    best, runs = studied(door, tmp_path, *shlex.split(line), script=script)
    losses = [math.inf if diverged else records[-1]["test_loss"] for _, records, diverged in runs]
    assert len(runs) == 20
    assert best["best_value"] == min(losses) < losses[0]
    config, *_ = runs[losses.index(min(losses))]
    assert config["training"]["lr"] == best["best_params"]["training.lr"]
    assert math.inf in losses


def test_a_comparison_is_driven_apart(door, tmp_path):
    script, line = COMMANDS[1]
    best, runs = studied(door, tmp_path, *shlex.split(line), "hydra.sweeper.n_trials=6", script=script)
    distances = [max(record["param_distance"] for record in records) for _, records, _ in runs]
    assert len(runs) == 6
    assert best["best_value"] == max(distances) > min(distances)


def test_two_objectives_have_a_front(door, tmp_path):
    """The runs that no other one beats in both, found by hand, are the solutions."""
    script, line = COMMANDS[2]
    best, runs = studied(door, tmp_path, *shlex.split(line), "hydra.sweeper.n_trials=12", script=script)
    points = [(records[-1]["test_loss"], records[-1]["weight_norm"]) for _, records, _ in runs]
    beaten = {q for p, q in itertools.permutations(points, 2) if p != q and p[0] <= q[0] and p[1] <= q[1]}
    assert len(points) == 12
    assert {tuple(solution["values"]) for solution in best["solutions"]} == {*points} - beaten
    assert len({*points} - beaten) > 1


def test_a_stored_study_goes_on(door, tmp_path):
    kept = ["hydra.sweeper.storage=sqlite:///lr.db", "hydra.sweeper.study_name=lr", "hydra.sweeper.n_trials=3"]
    study = ["-m", "hydra/sweeper=optuna", "objective=test_loss", "training.lr=interval(0.001,0.02)", *kept]
    first, _ = studied(door, tmp_path, *study)
    again = door.run(tmp_path, *study, *SHORT)
    assert "here holds a sweep already" in again.err
    (tmp_path / "here").rename(tmp_path / "before")
    second, _ = studied(door, tmp_path, *study)
    assert second["best_value"] <= first["best_value"]
    with sqlite3.connect(tmp_path / "lr.db") as base:
        assert base.execute("select count(*) from trials").fetchone() == (6,)
    base.close()


@pytest.mark.filterwarnings("ignore:Deprecated API features")  # between Optuna 2 and its SQLAlchemy
def test_trials_that_are_trained_together_from_python():
    """The page's example, with fewer steps."""
    (example,) = re.findall(r"```python\n(import optuna\n.*?)```", PAGE, re.DOTALL)
    names = {"dln": dln}
    exec(example.replace('{"training"', '{"max_steps": 20, "training"'), names)
    losses = [trial.value for trial in names["study"].trials]
    assert len(losses) == 4 * 32
    assert names["study"].best_value == min(losses) < losses[0]


def test_two_trials_at_a_time(door, tmp_path):
    """With joblib's launcher; what a worker returns is what its run came to."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    argv = ["-m", "hydra/sweeper=optuna", "hydra/launcher=joblib", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=4"]
    best, runs = studied(door, tmp_path, *argv, "objective={test_loss: 50}", "training.lr=interval(0.001,0.02)")
    losses = [{record["step"]: record["test_loss"] for record in records}[50] for _, records, _ in runs]
    assert len(runs) == 4
    assert best["best_value"] == min(losses)
