"""The package as it is built and published, installed where nothing else is: no clone, no test requirements."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

NETS_AND_DATA = """
import numpy as np
rng = np.random.default_rng(0)
W1, W2, W3 = (0.1 * rng.standard_normal((4, 4)) for _ in range(3))
inputs, test_inputs = rng.standard_normal((20, 4)), rng.standard_normal((7, 4))
targets, test_targets = inputs @ np.diag([4.0, 3.0, 2.0, 1.0]), test_inputs
"""
"""What the README's example leaves to its reader."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Returns f(command, ...): runs what the built package installs, in a directory of its own, and returns stdout."""
    place = tmp_path_factory.mktemp("package")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COV_"))}

    def run(*command):
        done = subprocess.run(
            [*map(str, command)], cwd=elsewhere, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    run(sys.executable, "-m", "build", "--outdir", place / "dist", ROOT)
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").replace("-e .", "")
    (place / "pins.txt").write_text(pins, encoding="utf-8")
    run(sys.executable, "-m", "venv", place / "venv")
    programs = place / "venv" / "bin"
    (wheel,) = (place / "dist").glob("*.whl")
    run(programs / "pip", "install", "--quiet", "-c", place / "pins.txt", wheel)
    return lambda program, *arguments: run(programs / program, *arguments)


@pytest.mark.package
def test_the_example_of_the_readme_works(installed):
    (example,) = re.findall(r"```python\n(import dln\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    where = installed("python", "-c", f"{NETS_AND_DATA}\n{example}\nprint(dln.__file__)").strip()
    assert ROOT not in Path(where).parents
    assert (Path(where).parent / "py.typed").exists()


@pytest.mark.package
def test_its_command_does_what_the_doors_of_a_clone_do(installed):
    assert installed("dln", "--version") == installed("dln", "run", "--version") == "dln 0.1.0\n"
    assert "3 steps in" in installed("dln", "run", "-cn=diagonal_teacher", "max_steps=3")
    assert "loss_b" in installed("dln", "compare", "max_steps=3", "comparative_metrics=[param_distance]")
    told = installed("dln", "run", "-m", "max_steps=3", "training.model_seed=0..3", "hydra.sweep.dir=swept")
    assert "4 runs in" in told
    assert "dln show swept" in told
    assert "test_loss" in installed("dln", "show", "swept")
    assert "dln run -m KEY=VALUE" in installed("dln", "run", "--help")
    assert "weight_norm" in installed("dln", "describe", "weight_norm")
    for name in ("rich", "numpy", "torch", "hydra"):
        installed("python", "-c", f"open('{name}.py', 'w').write('raise ImportError')")
    assert "weight_norm" in installed("python", "-m", "dln", "describe", "weight_norm")  # those are no libraries
    assert "test_loss" in installed("python", "-m", "dln", "show", "swept")
