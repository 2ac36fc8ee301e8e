"""experiment_examples.py, executed as a notebook by a real kernel, which then goes on with what else notebooks do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

SCRIPT = Path(__file__).resolve().parents[1] / "experiment_examples.py"
FIGURES = re.findall(r'"(figures/\w+\.png)"', SCRIPT.read_text(encoding="utf-8"))
CELLS = [cell for cell in re.split(r"^# %%", SCRIPT.read_text(encoding="utf-8"), flags=re.M)[1:] if "[mark" not in cell]

AFTERWARDS = {
    "loop": 'for lr in (0.001, 0.01):\n    plot(run(f"training.lr={lr}", max_steps=2))',
    "changed": "figure = plot(run(max_steps=2))\nfigure.axes[0].set_title('changed')\nfigure",
    "later": "figure",
    "progress": "history = run('engine=autograd', max_steps=300, progress=True)",
    "many": "runs = sweep('training.model_seed', range(3), max_steps=2, progress=True)",
    "interrupt": """
import os, signal
@dln.register_callback("interrupts")
def interrupts():
    return dln.timeline.acting_at([7], lambda step, trainer: os.kill(os.getpid(), signal.SIGINT))
cut = run(max_steps=20, callbacks=[{"name": "interrupts"}])
print(cut["step"].tolist(), cut.events)
""",
    "interrupt at once": 'run(max_steps=20, callbacks=[{"name": "interrupts"}])\nprint("goes on")',
}


@dataclass
class Executed:
    """What a notebook's cells have shown, and where it has run."""

    examples: list[list[Any]]
    afterwards: dict[str, list[Any]]
    cwd: Path


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    cwd = tmp_path_factory.mktemp("examples")
    cells = [new_code_cell(source) for source in (*CELLS, *AFTERWARDS.values())]
    cells[-1].metadata.tags = ["raises-exception"]
    client = NotebookClient(new_notebook(cells=cells), timeout=300, resources={"metadata": {"path": str(cwd)}})
    client.execute(env={"PYTHONPATH": str(SCRIPT.parent), "PYTHONWARNINGS": "default"})
    outputs = [cell.outputs for cell in cells]
    return Executed(outputs[: len(CELLS)], dict(zip(AFTERWARDS, outputs[len(CELLS) :], strict=True)), cwd)


def images(outputs: list[Any]) -> list[str]:
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def text(outputs: list[Any], stream: str = "stdout") -> str:
    return "".join(output.text for output in outputs if output.get("name") == stream)


def test_every_example_with_a_figure_shows_it(executed):
    shown = [len(images(outputs)) for outputs in executed.examples]
    assert shown == [cell.count("plot(") for cell in CELLS]
    assert sum(shown) == len(FIGURES) > 10


def test_runs_without_warnings_and_says_what_was_found(executed):
    said = [text(outputs) for outputs in executed.examples]
    assert [text(outputs, "stderr") for outputs in executed.examples] == [""] * len(CELLS)
    assert "singular values, [records, modes]: (301, 5)" in "".join(said)
    assert "continues where the first ended: True" in "".join(said)
    assert re.search(r"lr 0\.1: .* diverged at \d+", "".join(said))


def test_leaves_its_figures_and_nothing_else(executed):
    assert len(FIGURES) == len(set(FIGURES))
    assert sorted(str(p.relative_to(executed.cwd)) for p in executed.cwd.rglob("*.*")) == sorted(FIGURES)


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_not_blank(executed, figure: str):
    pixels = imread(executed.cwd / figure)[..., :3]
    assert (pixels.std(axis=2) > 0.1).mean() > 0.0005, "no coloured curves"
    assert (pixels.min(axis=2) == 1).mean() > 0.5, "no white paper"


def test_a_figure_is_shown_once_when_its_cell_has_ended_and_again_when_asked_for(executed):
    first, second = images(executed.afterwards["loop"])
    assert first != second
    assert [len(images(executed.afterwards[name])) for name in ("changed", "later")] == [1, 1]


def test_progress_is_a_text_that_ends_with_the_run(executed):
    (run,), (many,) = (executed.afterwards[name] for name in ("progress", "many"))
    assert re.fullmatch(r"300 of 300, train_loss \d\.\d{3}e[+-]\d\d, 0\.0 s left", run.data["text/plain"])
    assert re.fullmatch(r"3 of 3, .* runs/s", many.data["text/plain"])


def test_an_interrupted_run_gives_back_its_records_and_a_second_interrupt_ends_the_cell(executed):
    assert text(executed.afterwards["interrupt"]) == "[0, 1, 2, 3, 4, 5, 6] {'interrupted_at': 7}\n"
    assert "interrupted at step 7 of 20" in text(executed.afterwards["interrupt"], "stderr")
    (error,) = executed.afterwards["interrupt at once"]
    assert error.ename == "KeyboardInterrupt"
