"""The pages on sweeps, studies and theory: their commands and examples, one by one, as a reader would give them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import dln
from dln.__main__ import main
from dln.composing.compose import resolve
from dln.config import SingleConfig
from tests.test_readme import early, shortened

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "sweeps.md").read_text(encoding="utf-8")
STUDIES = (DOCS / "studies.md").read_text(encoding="utf-8")
THEORY = (DOCS / "theory.md").read_text(encoding="utf-8")
STEPS = 12
"""Steps of every run here, for speed."""


def blocks(language, page=PAGE):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
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


@pytest.mark.long
def test_the_page_on_studies(door, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = STUDIES.partition("## A study is a file")[0]
    for line in [line for block in blocks("bash", before) for line in block.replace("\\\n", " ").splitlines()]:
        _, script, *argv = shlex.split(line)
        if script == "-m":
            main(argv[1:])
        else:
            few = [*map(early, argv), f"max_steps={STEPS}", "evaluate_every=4"]
            assert door.run(tmp_path, *few, door=script).status == 0
    out = capsys.readouterr().out
    (promised,) = [block for block in blocks("", before) if "leaves the baseline" in block]
    for line in promised.splitlines():  # of another length: the beginning is the same
        assert line.partition(" leaves")[0] in out
    assert {path.name for path in tmp_path.glob("path.*")} == {"path.csv", "path.parquet"}
    names = {}
    for block in blocks("python", before):
        exec(block, names)
    assert len(names["table"]) == 3 * (STEPS // 4 + 1)
    assert names["table"].filter(step=0)["test_loss ratio"].to_list() == [None, 1, 1]
    against = names["against"].filter(step=0)  # what sweeps store is rounded
    np.testing.assert_allclose(against["test_loss ratio bootstrap low"], np.ones(3), rtol=1e-7)
    assert against["test_loss side"].to_list() == [0, 0, 0]


@pytest.mark.long
def test_the_commands_of_whole_studies(tmp_path, monkeypatch, capsys):
    """Those of the page and of the README, with few steps, and the file that the page shows."""
    monkeypatch.chdir(tmp_path)
    page = STUDIES.split("## A study is a file")[1]
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    lines = [line for text in (page, readme) for block in blocks("bash", text) for line in block.splitlines()]
    commands = [shlex.split(line)[3:] for line in lines if line.startswith("python -m dln study")]
    assert len(commands) == 6
    short = {"golden_path": ["model.gamma=1.0", "max_steps=5"], "singular_values": ["steps=5"]}
    for argv in commands:
        small = [] if any("hidden_dim" in word for word in argv) else ["model.hidden_dim=4"]
        few = [] if any("seeds" in word for word in argv) else ["seeds=3"]
        main([*argv, *short[argv[1]], *few, *small] if len(argv) > 1 else argv)
    out = capsys.readouterr().out
    assert out.count("test_loss leaves its baseline in ") == 3
    assert (tmp_path / "golden/figures/ratio_offline.pdf").exists()
    (example,) = blocks("yaml", page)
    (tmp_path / "noise.yaml").write_text(example, encoding="utf-8")
    main(["study", "noise.yaml", "seeds=3", "steps=5", "hydra.sweep.dir=noise"])
    assert "test_loss leaves its baseline in " in capsys.readouterr().out
    (block,) = blocks("python", page)
    names = {}
    short_block = block.replace('"seeds": 5', '"seeds": 3, "model.gamma": 1.0, "max_steps": 5')
    assert short_block != block
    exec(short_block, names)
    assert names["report"].tables["offline"].height > 0


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(blocks("python", THEORY))))
def test_every_example_on_theory_runs_by_itself(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python", THEORY)[number], f"theory.md, example {number}", "exec"), {"__name__": "example"})


@pytest.mark.long
@pytest.mark.parametrize(
    "command", [line for block in blocks("bash", THEORY) for line in block.replace("\\\n", "").splitlines()]
)
def test_every_command_on_theory_works(command, door, tmp_path):
    result = door.run(tmp_path, *shortened(command.removeprefix("python ")), door="run.py")
    assert result.status == 0, result.stderr
