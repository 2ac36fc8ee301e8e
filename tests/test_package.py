"""The package as it is built and published, installed where nothing else is: no clone, no test requirements."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dln.web.page import SCRIPTS, STYLES
from tests.pages import PAGES, blocks

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Returns f(directory, program, ...): runs what the built package installs, somewhere, and returns what it says."""
    place = tmp_path_factory.mktemp("package")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COV_"))}

    def run(directory, *command):
        done = subprocess.run(
            [*map(str, command)], cwd=directory, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    run(place, sys.executable, "-m", "build", "--outdir", place / "dist", ROOT)
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").replace("-e .", "")
    (place / "pins.txt").write_text(pins, encoding="utf-8")
    run(place, sys.executable, "-m", "venv", place / "venv")
    programs = place / "venv" / "bin"
    (wheel,) = (place / "dist").glob("*.whl")
    run(place, programs / "pip", "install", "--quiet", "-c", place / "pins.txt", wheel)
    return lambda directory, program, *arguments: run(directory, programs / program, *arguments)


@pytest.mark.package
def test_the_example_of_programmatic_usage_works(installed, tmp_path):
    (example,) = blocks(PAGES["docs/python.md"], "python")
    where = installed(tmp_path, "python", "-c", f"{example}\nprint(dln.__file__)").strip()
    assert ROOT not in Path(where).parents
    package = Path(where).parent
    assert (package / "py.typed").exists()
    for name in (*SCRIPTS, *STYLES, "uplot/LICENSE"):
        assert (package / "web" / name).read_bytes() == (ROOT / "dln/web" / name).read_bytes()
    (about,) = package.parent.glob("dln-*.dist-info")
    assert "Leon Sorokin" in (about / "licenses/dln/web/uplot/LICENSE").read_text(encoding="utf-8")


@pytest.mark.package
def test_its_command_does_what_the_doors_of_a_clone_do(installed, tmp_path):
    def here(*command):
        return installed(tmp_path, *command)

    assert here("dln", "--version") == here("dln", "run", "--version") == "dln 0.1.0\n"
    assert "3 steps in" in here("dln", "run", "-cn=diagonal_teacher", "max_steps=3")
    assert "loss_b" in here("dln", "compare", "max_steps=3", "comparative_metrics=[param_distance]")
    told = here("dln", "run", "-m", "max_steps=3", "training.model_seed=0..3", "hydra.sweep.dir=swept")
    assert "4 runs in" in told
    assert "dln show swept" in told
    assert "test_loss" in here("dln", "show", "swept")
    assert "report of 4 runs in report.html" in here("dln", "report", "swept", "-o", "report.html")
    assert "dln run -m KEY=VALUE" in here("dln", "run", "--help")
    assert "weight_norm" in here("dln", "describe", "weight_norm")
    assert "golden_path" in here("dln", "study")
    assert "runs of" in here("dln", "study", "singular_values", "seeds=2", "steps=3", "--dry-run")
    for name in ("rich", "numpy", "torch", "hydra"):
        (tmp_path / f"{name}.py").write_text("raise ImportError", encoding="utf-8")
    assert "weight_norm" in here("python", "-m", "dln", "describe", "weight_norm")  # those are no libraries
    assert "test_loss" in here("python", "-m", "dln", "show", "swept")
