"""A directory of someone else: reading what is in it runs nothing of it."""

import contextlib
import pickle
import re

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


def test_extensions_of_a_run_are_not_imported_by_who_reads_it(sprung, tmp_path, monkeypatch, capsys):
    dln.run_sweep(
        {"max_steps": 2, "metrics": ["mode_strengths"], "training.lr": [0.1, 0.2]}, directory=tmp_path / "sweep"
    )
    run = tmp_path / "sweep" / "0"
    config = run / ".hydra" / "config.yaml"
    config.write_text(
        re.sub(r"^extensions: .*$", "extensions: [trap_of_a_run]", config.read_text(), flags=re.MULTILINE)
    )
    assert "trap_of_a_run" in config.read_text()
    (tmp_path / "trap_of_a_run.py").write_text(f"open({str(sprung)!r}, 'w').close()", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert dln.load_run(run).final["step"] == 2
    for argv in (["show", str(run)], ["plot", str(run)], ["report", str(run)]):
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
