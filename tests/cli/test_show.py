"""`dln show` of runs and of folders: what was stored is what is told, whatever state it is in."""

import json
import os
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from dln import register_callback, run_experiment
from dln.__main__ import main
from dln.base import sealed
from dln.cli.sheet import number
from dln.cli.show import given
from dln.errors import ExtensionError, StorageError
from dln.results.listing import StoredRun, StoredSweep, listed, look
from dln.results.run import COMMANDS, HISTORY, SUMMARY, is_whole, load_run
from dln.results.sweep import RESULTS, SWEEP

SMALL = ["max_steps=6", "evaluate_every=2"]


@pytest.fixture(scope="module")
def home(door, tmp_path_factory):
    """Where somebody has trained one model, compared two and made a sweep, in that order, without saying where to."""
    home = tmp_path_factory.mktemp("home")
    single = ["-cn=diagonal_teacher", *SMALL, "metrics=[singular_values]", "training.lr=0.001"]
    comparison = [*SMALL, "training_b.batch_size=10", "checkpoint_every=3"]
    for argv, script in (
        (single, "run.py"),
        (comparison, "run_comparative.py"),
        (["-m", *SMALL, "training.model_seed=0..2"], "run.py"),
    ):
        done = door.run(home, *argv, door=script)
        assert done.status == 0, done.err
    return home


def shown(capsys, *argv):
    """The words of each line that `dln show` prints."""
    return [line.split() for line in printed(capsys, *argv)]


def told_of(capsys, *argv):
    """What `dln show` tells of a run, by its labels."""
    return {line.split("  ")[0]: " ".join(line.split("  ")[1:]).strip() for line in printed(capsys, *argv)}


def printed(capsys, *argv):
    main(["show", *map(str, argv)])
    return capsys.readouterr().out.splitlines()


def damage(path):
    """Change one byte in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_without_an_argument_all_runs_here_are_listed_the_newest_last(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    head, names, *rows = shown(capsys)
    assert head == ["3", "in", "outputs", "and", "multirun"]
    assert names == ["when", "directory", "what", "runs", "train_loss", "state", "command"]
    assert [row[3] for row in rows] == ["run", "comparison", "sweep"]
    assert [row[4] for row in rows] == ["1", "1", "3"]
    run, comparison = (load_run(row[2]).final for row in rows[:2])
    assert rows[0][5:] == [number(run["train_loss"]), "complete", "-cn=diagonal_teacher", *yaml_of(rows[0][2])]
    losses = f"{number(comparison['train_loss_a'])}, {number(comparison['train_loss_b'])}"
    assert rows[1][5:] == [*losses.split(), "complete", *yaml_of(rows[1][2])]
    assert rows[2][5:8] == ["-", "complete", "python"]
    assert rows[2][-4:] == ["-m", *SMALL, "training.model_seed=0..2"]
    assert [row[:2] for row in rows] == sorted(row[:2] for row in rows)
    assert shown(capsys, ".")[1:] == [names, *rows]  # any folder above them
    columns = shown(capsys, "outputs", "test_loss")
    assert columns[1][3:5] == ["runs", "test_loss"]
    assert columns[2][5] == number(run["test_loss"])


def yaml_of(directory):
    return yaml.safe_load((Path(directory) / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_runs_sheet_tells_what_is_stored(kind, home, capsys):
    (run,) = [stored for stored in listed(home / "outputs") if stored.what == kind]
    assert isinstance(run, StoredRun)
    told = told_of(capsys, run.directory)
    summary = json.loads((run.directory / SUMMARY).read_text(encoding="utf-8"))
    final = load_run(run.directory).final
    assert told[kind] == str(run.directory)
    assert told["how"] == f"all 6 steps in {summary['seconds']:.1f} s on the {summary['engine']} engine"
    for name, value in final.items():
        assert told[name] == number(value)
    for name in ("numpy", "torch", "python"):
        assert f"{name} {summary['provenance'][name]}" in told["versions"]
    assert summary["provenance"]["processor"] in told["machine"]
    for name in os.listdir(run.directory):
        assert name in told["files"]
    assert "max_steps=6 evaluate_every=2" in told["config"]
    if kind == "run":
        assert shlex.split(told["command"])[2:] == ["-cn=diagonal_teacher", *yaml_of(run.directory)]
        assert "lr=0.001 " in told["training"]
        assert "metrics=[singular_values]" in told["config"]
    else:
        assert "in_dim=5" in told["model_a, model_b"]
        assert "batch_size" not in told["training_a"]
        assert "batch_size=10" in told["training_b"]
    assert set(told_of(capsys, run.directory, "step")) == set(told) - set(final) | {"step"}


def test_a_run_of_a_sweep_has_a_sheet_too(home, capsys):
    (sweep,) = (home / "multirun").glob("*/*")
    told = told_of(capsys, sweep / "1")
    assert "training.model_seed=1" in told["overrides"]
    head, *_, last = shown(capsys, sweep)
    assert "mean" in head
    assert last[:3] == ["made", "by:", "python"]
    assert last[-1] == "training.model_seed=0..2"


AT_ONCE = [{"name": "stop_at_loss", "params": {"target": 1e9}}]


@pytest.mark.parametrize(
    ("config", "how", "state"),
    [
        ({"training": {"lr": 10.0}}, "diverged at step {diverged_at} of 40", "complete, diverged at {diverged_at}"),
        ({"callbacks": AT_ONCE}, "stopped at step 0 of 40", "complete, stopped at 0"),
        ({"callbacks_b": AT_ONCE}, "b stopped at step 0 of 40", "complete, b stopped at 0"),
    ],
)
def test_where_and_why_a_run_ended(config, how, state, tmp_path, capsys):
    history = run_experiment({"max_steps": 40, **config}, directory=tmp_path / "r" / "own")
    told = told_of(capsys, tmp_path / "r" / "own")
    assert told["how"].startswith(how.format(**history.events))
    assert told["how"].endswith(("stopped it", "not finite any more"))
    (end,) = history.ends
    _, names, row = shown(capsys, tmp_path / "r", end)
    assert state.format(**history.events) in " ".join(row)
    assert row[names.index(end) + 1] == str(history.ends[end])  # a date is two words


@register_callback("show_raises")
def show_raises(error: str):
    def callback(step, trainer):
        if step == 3:
            raise KeyboardInterrupt if error == "interrupted" else RuntimeError(error)

    return callback


@pytest.mark.parametrize(("status", "why"), [("interrupted", "Ctrl-C"), ("failed", "a callback")])
def test_a_run_that_was_cut_short(status, why, tmp_path, capsys):
    callbacks = [{"name": "show_raises", "params": {"error": status}}]
    with pytest.raises((KeyboardInterrupt, ExtensionError)):
        run_experiment({"max_steps": 9, "callbacks": callbacks}, directory=tmp_path / "r")
    told = told_of(capsys, tmp_path / "r")
    assert told["how"].startswith(f"{status} at step 3 of 9 in ")
    assert told["step"] == "2"  # the last record: that of step 3 would have come after the callback
    assert why in told["how"]
    assert f"unfinished, {status} at 3" in " ".join(shown(capsys, tmp_path)[2])


def test_what_is_unfinished_or_damaged_is_named_and_not_in_the_way(home, tmp_path, capsys):
    """All kinds at once, beside whole ones."""
    (run,) = [stored.directory for stored in listed(home / "outputs") if stored.what == "run"]
    (sweep,) = (home / "multirun").glob("*/*")
    for name in ("whole", "going", "cut", "record", "summary", "short", "gone"):
        shutil.copytree(run, tmp_path / "deep" / "er" / name)
    for name in ("swept", "table", "about", "begun"):
        shutil.copytree(sweep, tmp_path / name)
    deep = tmp_path / "deep" / "er"
    for name in ("going", "cut"):
        (deep / name / SUMMARY).unlink()
    lines = (run / HISTORY).read_bytes().splitlines(keepends=True)
    (deep / "cut" / HISTORY).write_bytes(b"".join(lines)[:-9])
    damage(deep / "record" / HISTORY)
    damage(deep / "summary" / SUMMARY)
    (deep / "short" / HISTORY).write_bytes(lines[0])
    (deep / "gone" / HISTORY).unlink()
    (tmp_path / "table" / RESULTS).write_bytes((sweep / RESULTS).read_bytes()[:-9])
    damage(tmp_path / "about" / SWEEP)
    (tmp_path / "begun" / RESULTS).unlink()
    found = {stored.directory.name: stored for stored in listed(tmp_path)}
    assert {name: stored.state for name, stored in found.items()} == {
        "whole": "complete",
        "swept": "complete",
        **dict.fromkeys(["going", "cut", "begun"], "unfinished"),
        **dict.fromkeys(["record", "summary", "short", "gone", "table", "about"], "damaged"),
    }
    assert {name for name in os.listdir(deep) if is_whole(deep / name)} == {"whole"}
    (tmp_path / "swept" / COMMANDS).unlink()
    assert given(StoredSweep(tmp_path / "swept")) == "over training.model_seed"
    assert found["cut"].values == load_run(deep / "cut").final
    assert found["record"].values == load_run(deep / "record").final
    out = shown(capsys, tmp_path)
    named = {line[1].rstrip(":").rpartition("/")[2] for line in out if line[0] == "damaged:"}
    assert named == {"record", "summary", "short", "gone", "table", "about"}
    assert len(out) == 2 + len(found) + len(named)
    for name in os.listdir(deep):
        told = told_of(capsys, deep / name)
        assert ("damaged" in told) == (name in named)
    assert "killed" in told_of(capsys, deep / "going")["how"]


def test_nothing_is_read_twice(home, monkeypatch):
    opened, opening = Counter(), sealed._opened
    monkeypatch.setattr(sealed, "_opened", lambda path: opened.update([path]) or opening(path))
    for stored in listed(home):
        _ = stored.state, stored.faults, stored.runs, given(stored), stored.values, stored.what, stored.when
    assert len(opened) > 7
    assert set(opened.values()) == {1}


def test_a_folder_named_like_a_part_of_a_sweep_is_a_folder(home, tmp_path):
    shutil.copytree(home / "outputs", tmp_path / "parts")
    assert look(tmp_path) is None
    assert [stored.what for stored in listed(tmp_path)] == ["run", "comparison"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "no folder outputs, nor multirun"),
        (["nowhere"], "no folder nowhere"),
        (["."], "no run and no sweep in ."),
        (["{home}", "tst_loss"], "did you mean 'test_loss'"),
        (["{run}", "tst_loss"], "did you mean 'test_loss'"),
        (["{run}", "--by", "training.lr"], "--by groups the runs of a sweep"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(argv, named, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = listed(home / "outputs")[0].directory
    with pytest.raises(SystemExit, match="2"):
        main(["show", *(part.format(home=home, run=run) for part in argv)])
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1


def test_a_folder_that_is_not_there_is_an_error_from_python_too(tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        listed(tmp_path / "nowhere")
