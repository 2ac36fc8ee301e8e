"""experiment_examples.py runs from the shell and leaves its figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

SCRIPT = Path(__file__).resolve().parents[1] / "experiment_examples.py"
FIGURES = re.findall(r'"(figures/\w+\.png)"', SCRIPT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, Path]:
    cwd = tmp_path_factory.mktemp("examples")
    command = [sys.executable, "-W", "default", str(SCRIPT)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300), cwd


def test_runs_without_errors_or_warnings(finished):
    process, _ = finished
    assert (process.returncode, process.stderr) == (0, "")


def test_says_what_was_found(finished):
    process, _ = finished
    assert "singular values, [records, modes]: (301, 5)" in process.stdout
    assert "continues where the first ended: True" in process.stdout
    assert re.search(r"lr 0\.1: .* diverged at \d+", process.stdout)


def test_leaves_its_figures_and_nothing_else(finished):
    _, cwd = finished
    assert len(FIGURES) == len(set(FIGURES)) > 10
    assert sorted(str(p.relative_to(cwd)) for p in cwd.rglob("*.*")) == sorted(FIGURES)


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_not_blank(finished, figure: str):
    _, cwd = finished
    pixels = imread(cwd / figure)[..., :3]
    assert (pixels.std(axis=2) > 0.1).mean() > 0.0005, "no coloured curves"
    assert (pixels.min(axis=2) == 1).mean() > 0.5, "no white paper"
