"""The page on sweeps: its commands and examples, one after the other in one directory, as a reader would."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import dln
from dln.composing.compose import resolve
from dln.config import SingleConfig

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "sweeps.md").read_text(encoding="utf-8")
STEPS = 12
"""Steps of every run here, for speed."""


def blocks(language):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


@pytest.fixture(scope="module")
def followed(door, tmp_path_factory):
    """The directory in which all commands of the page have been given."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    directory = tmp_path_factory.mktemp("reader")
    lines = [line for block in blocks("bash") for line in block.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 12
    for line in lines:
        _, *argv = shlex.split(line)
        if argv[:2] == ["-m", "dln"]:
            done = subprocess.run([sys.executable, *argv], cwd=directory, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            continue
        result = door.run(directory, *argv[1:], f"max_steps={STEPS}", door=argv[0])
        assert result.status == 0, f"{line}\n{result.err}"
        assert " runs" in result.out
    return directory


@pytest.mark.long
def test_all_commands_and_then_the_python_examples(followed, monkeypatch):
    monkeypatch.chdir(followed)
    results, sweeps = blocks("python")
    names = {}
    exec(results, names)
    assert len(names["frame"]) == 3 * 120
    assert names["final"].is_finite().all()
    assert set(names["data"].sizes.values()) == {3, 120, STEPS + 1}
    assert len(dln.load_sweep("both")) == 3 * 120  # those of `first` are among those of `study`
    run_sweep = dln.run_sweep

    def shortened(overrides, **options):
        short = {**overrides, "max_steps": STEPS} if isinstance(overrides, dict) else [*overrides, f"max_steps={STEPS}"]
        return run_sweep(short, **options)

    monkeypatch.setattr(dln, "run_sweep", shortened)
    exec(sweeps, names)
    assert (names["report"].found, names["report"].done) == (200, 0)
    assert len(dln.load_sweep("zipped")) == 2 * 2


@pytest.mark.long
def test_what_a_changed_value_is_answered(door, followed):
    (command, *_) = [line for block in blocks("bash") for line in block.splitlines() if line.endswith("=study")]
    _, script, *argv = shlex.split(command)
    result = door.run(followed, *argv, f"max_steps={STEPS}", "model.gamma=1.5", door=script)
    (answer,) = [block for block in blocks("") if "fixed values" in block]
    assert (result.status, result.err) == (2, answer)


def test_yaml_examples_are_configs():
    for block in blocks("yaml"):
        example = yaml.safe_load(block)
        sweeper = example.pop("hydra")["sweeper"]
        example.pop("defaults", None)
        resolve(example, SingleConfig)
        assert set(sweeper) <= {"params", "members"}
