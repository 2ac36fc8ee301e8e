"""The pages on sweeps, studies and theory, whose examples build on each other, as a reader would give them."""

import shlex
import subprocess
import sys

import numpy as np
import pytest

import dln
from dln.__main__ import main
from tests.pages import PAGES, STEPS, blocks, early, lines, shortened

SWEEPS, STUDIES, THEORY = (PAGES[f"docs/{name}.md"] for name in ("sweeps", "studies", "theory"))


@pytest.fixture(scope="module")
def followed(door, tmp_path_factory):
    """The directory in which all commands of the page have been given."""
    directory = tmp_path_factory.mktemp("reader")
    given = [line for block in blocks(SWEEPS, "bash") for line in lines(block)]
    assert len(given) > 12
    for line in given:
        _, *argv = shlex.split(f"python -m {line}" if line.startswith("dln ") else line)
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
    results, sweeps = blocks(SWEEPS, "python")
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
    (command, *_) = [line for block in blocks(SWEEPS, "bash") for line in lines(block) if line.endswith("=study")]
    _, script, *argv = shlex.split(command)
    result = door.run(followed, *argv, f"max_steps={STEPS}", "model.gamma=1.5", door=script)
    (answer,) = [block for block in blocks(SWEEPS, "") if "fixed values" in block]
    assert (result.status, result.err) == (2, answer)


@pytest.mark.long
def test_the_page_on_studies(door, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = STUDIES.partition("## A study is a file")[0]
    for line in [line for block in blocks(before, "bash") for line in lines(block)]:
        _, script, *argv = shlex.split(line)
        if script == "-m":
            main(argv[1:])
        else:
            few = [*map(early, argv), f"max_steps={STEPS}", "evaluate_every=4"]
            assert door.run(tmp_path, *few, door=script).status == 0
    out = capsys.readouterr().out
    (promised,) = [block for block in blocks(before, "") if "leaves the baseline" in block]
    for line in promised.splitlines():  # of another length: the beginning is the same
        assert line.partition(" leaves")[0] in out
    assert {path.name for path in tmp_path.glob("path.*")} == {"path.csv", "path.parquet"}
    names = {}
    for block in blocks(before, "python"):
        exec(block, names)
    assert len(names["table"]) == 3 * (STEPS // 4 + 1)
    assert names["table"].filter(step=0)["test_loss ratio"].to_list() == [None, 1, 1]
    against = names["against"].filter(step=0)  # what sweeps store is rounded
    np.testing.assert_allclose(against["test_loss ratio bootstrap low"], np.ones(3), rtol=1e-7)
    assert against["test_loss side"].to_list() == [0, 0, 0]


@pytest.mark.long
def test_the_commands_of_whole_studies(tmp_path, monkeypatch, capsys):
    """Those of the page, with few steps, and the file that the page shows."""
    monkeypatch.chdir(tmp_path)
    page = STUDIES.split("## A study is a file")[1]
    given = [line for block in blocks(page, "bash") for line in lines(block)]
    commands = [shlex.split(line)[3:] for line in given if line.startswith("python -m dln study")]
    assert len(commands) == 5
    short = {"golden_path": ["model.gamma=1.0", "max_steps=5"], "singular_values": ["steps=5"]}
    for argv in commands:
        small = [] if any("hidden_dim" in word for word in argv) else ["model.hidden_dim=4"]
        few = [] if any("seeds" in word for word in argv) else ["seeds=3"]
        main([*argv, *short[argv[1]], *few, *small] if len(argv) > 1 else argv)
    out = capsys.readouterr().out
    assert out.count("test_loss leaves its baseline in ") == 2
    assert (tmp_path / "golden/figures/ratio_offline.pdf").exists()
    (example,) = blocks(page, "yaml")
    (tmp_path / "noise.yaml").write_text(example, encoding="utf-8")
    main(["study", "noise.yaml", "seeds=3", "steps=5", "hydra.sweep.dir=noise"])
    assert "test_loss leaves its baseline in " in capsys.readouterr().out
    (block,) = blocks(page, "python")
    names = {}
    short_block = block.replace('"seeds": 5', '"seeds": 3, "model.gamma": 1.0, "max_steps": 5')
    assert short_block != block
    exec(short_block, names)
    assert names["report"].tables["offline"].height > 0


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(blocks(THEORY, "python"))))
def test_every_example_on_theory_runs_by_itself(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks(THEORY, "python")[number], f"theory.md, example {number}", "exec"), {"__name__": "example"})


@pytest.mark.long
@pytest.mark.parametrize("command", [line for block in blocks(THEORY, "bash") for line in lines(block)])
def test_every_command_on_theory_works(command, door, tmp_path):
    result = door.run(tmp_path, *shortened(command.removeprefix("python ")), door="run.py")
    assert result.status == 0, result.stderr
