"""A directory of someone else: reading what is in it runs nothing of it."""

import contextlib
import pickle

import numpy as np
import pytest

import dln
from dln.__main__ import main
from dln.errors import ConfigError


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def sprung(tmp_path):
    path = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(path))).close()
    assert path.exists()  # the trap works
    path.unlink()
    return path


def test_yaml_that_would_call_a_function_does_not(sprung, tmp_path, capsys):
    run, sweep = tmp_path / "folder" / "run", tmp_path / "folder" / "sweep"
    dln.run_experiment(["max_steps=2"], directory=run)
    dln.run_sweep({"max_steps": 2, "training.lr": [0.1, 0.2]}, directory=sweep)
    for directory in (run, sweep / "0"):
        for name in ("config.yaml", "overrides.yaml"):
            path = directory / ".hydra" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"max_steps: !!python/object/apply:builtins.open [{sprung}, w]\n", encoding="utf-8")
    assert dln.load_run(run).final["step"] == 2
    assert dln.load_sweep(sweep).height == 2
    commands = [["show", str(run)], ["show", str(sweep)], ["show", str(run.parent)], ["plot", str(run)]]
    commands += [["report", str(run)], ["report", str(sweep)], ["aggregate", str(sweep), "--over", "training.lr"]]
    for argv in commands:
        with contextlib.suppress(SystemExit):  # a config that cannot be read may be an error; it is not a program
            main(argv)
    capsys.readouterr()
    assert not sprung.exists()


@pytest.mark.parametrize("key", ["model.weights", "data.path", "resume"])
def test_arrays_that_are_pickles_are_refused(key, sprung, tmp_path):
    path = tmp_path / "arrays.npz"
    trap = np.array([Trap(sprung)], dtype=object)
    np.savez(path, **dict.fromkeys(["W1", "W2", "W3", "W4", "train_inputs", "train_targets"], trap))
    with pytest.raises(ConfigError, match=r"arrays\.npz"):
        dln.run_experiment([f"{key}={path}", "max_steps=2"])
    assert not sprung.exists()
