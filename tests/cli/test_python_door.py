"""Sweeps from Python: what `-m` stores with the same words, byte for byte, and a report of it."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

import dln
from dln.composing.grid import value_of
from dln.composing.spelling import spelled, swept_overrides
from dln.errors import ConfigError, StorageError
from dln.metrics import model_metric

TINY = {"max_steps": 4, "evaluate_every": 2, "engine": "autograd", "model": {"hidden_dim": 3}}
PAIR = {"max_steps": 4, "shared.model.hidden_dim": 3, "comparative_metrics": ["param_distance"]}


def assert_same_files(one, other, *more):
    for name in ("results.parquet", "sweep.json", *more):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.long
def test_both_doors_store_the_same_bytes(tmp_path, door):
    typed = ["training.lr=0.001,0.002", "model.gamma=1,1.5", "training.batch_seed=0..2", "training.batch_size=2"]
    subdir = "${training.lr}_${training.batch_seed}"
    named = ["zip=[training.lr,model.gamma]", f"hydra.sweep.subdir={subdir}"]
    small = ["max_steps=4", "evaluate_every=2", "model.hidden_dim=3"]
    done = door.run(tmp_path, "-m", *typed, *small, *named, "hydra.sweep.dir=typed")
    assert (done.status, done.err) == (0, "")
    axes = {
        "training": {"lr": np.array([0.001, 0.002]), "batch_seed": range(3), "batch_size": 2},
        "model": {"gamma": (1, 1.5), "hidden_dim": 3},
    }
    called = dln.run_sweep(
        {**axes, "max_steps": 4, "evaluate_every": 2, "hydra.sweep.subdir": subdir},
        directory=tmp_path / "called",
        zip=["training.lr", "model.gamma"],
    )
    assert (called.runs, called.finished, called.directory) == (6, 6, str(tmp_path / "called"))
    assert_same_files(tmp_path / "typed", tmp_path / "called", *(f"0.002_{i}/history.jsonl" for i in range(3)))
    dln.run_sweep([*typed, *small, *named], directory=tmp_path / "words")
    assert_same_files(tmp_path / "typed", tmp_path / "words")


@pytest.mark.long
def test_the_command_that_is_noted_makes_the_same_sweep(tmp_path, door):
    report = dln.run_sweep(
        {"shared.training.batch_seed": np.arange(4), **PAIR},
        grids=[{"training_b.lr": [0.001, 0.1]}, ["training_b.lr=0.01", "shared.model.gamma=1.5"]],
        directory=tmp_path / "called_first",
    )
    assert (report.finished, report.lanes) == (12, 24)
    noted = (tmp_path / "called_first/commands.txt").read_text(encoding="utf-8").splitlines()[-1]
    words = shlex.split(noted.replace("called_first", "given_again"))
    assert words[:3] == ["dln", "compare", "-m"]
    assert door.run(tmp_path, *words[2:], door="run_comparative.py").status == 0
    assert_same_files(tmp_path / "called_first", tmp_path / "given_again", "11/history.jsonl")


def test_a_sweep_goes_on_and_grows(tmp_path):
    def swept(lrs, **options):
        return dln.run_sweep({"training.lr": lrs, **TINY}, directory=tmp_path / "s", **options)

    first = swept([0.001, 0.002])
    again = swept([0.001, 0.002])
    more = swept([0.001, 0.002, 0.003])
    anew = swept([0.001, 0.002, 0.003], rerun={"training.lr": [0.001, 0.003]})
    assert [(r.found, r.finished) for r in (first, again, more, anew)] == [(0, 2), (2, 0), (2, 1), (1, 2)]
    frame = anew.frame(["train_loss"])
    assert sorted(frame["training.lr"]) == [0.001, 0.002, 0.003]
    third = frame.row(frame["training.lr"].to_list().index(0.003), named=True)
    alone = dln.run_experiment({"training": {"lr": 0.003}, **TINY})
    np.testing.assert_array_equal(np.float32(third["train_loss"]), alone["train_loss"].astype(np.float32))
    with pytest.raises(ConfigError, match=r"other fixed values.*\n +max_steps: 4 -> 5"):
        dln.run_sweep({"training.lr": [0.001], **TINY, "max_steps": 5}, directory=tmp_path / "s")


def test_a_dry_run_tells_and_writes_nothing(tmp_path, capsys):
    report = dln.run_sweep({"training.batch_seed": range(100), **TINY}, directory=tmp_path / "s", dry_run=True)
    assert (report.runs, report.done, report.directory) == (100, 0, "")
    assert capsys.readouterr().out.startswith("100 runs of one kind, trained together:")
    assert not (tmp_path / "s").exists()


def test_without_a_directory_it_has_that_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reports = [dln.run_sweep({"training.lr": [0.1], **TINY}) for _ in range(2)]
    assert len({report.directory for report in reports}) == 2
    assert all(report.directory.startswith("multirun/") and len(report.frame()) == 1 for report in reports)


def test_what_failed_is_reported_and_logged(tmp_path, caplog):
    @model_metric("fails_at_a_rate", cost="cheap")
    def fails(model) -> float:
        if float(model.weights[0].abs().max()) > 50:
            raise ValueError("too far")
        return 0.0

    report = dln.run_sweep(
        {"training.lr": [0.001, 0.5], "metrics": ["fails_at_a_rate"], **TINY}, directory=tmp_path / "s"
    )
    assert (report.finished + report.diverged, len(report.failed)) == (1, 1)
    assert "1 of 2 runs failed, the first with: " in caplog.text
    assert report.failed[0][0][0] == "training.lr=0.5"


def test_values_are_written_so_that_they_come_back():
    words = ["", 'a"b', "back\\slash\\", "it's", "1e5", "null", "a,b", "x=y", "[", " "]
    for word in words:
        assert value_of(f"key={spelled(word)}") == word
        assert value_of(f"key={spelled([word])}") == [word]


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"training.batch_seed": np.arange(0, 10, 3)}, ["training.batch_seed=range(0,10,3)"]),
        ({"training.batch_seed": [3, 1, 2]}, ["training.batch_seed=3,1,2"]),
        ({"training.batch_size": [5, None]}, ["training.batch_size=5,null"]),
        (
            {"model": {"hidden_dim": [[4, 3, 4], 10], "bias": True}},
            ["model.hidden_dim=[4, 3, 4],10", "model.bias=true"],
        ),
        ({"metrics": [["weight_norm"], []]}, ['metrics=["weight_norm"],[]']),
        ({"evaluate_at": [1, 10]}, ["evaluate_at=[1, 10]"]),
        ({"data.params": [{"scale": 2.0}]}, ["data.params=choice({scale: 2.0})"]),
        ({"training.lr": np.float64(0.5)}, ["training.lr=0.5"]),
    ],
)
def test_a_dictionary_is_a_list_of_overrides(given, lines):
    assert [*swept_overrides(given)] == lines


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        ("training.lr=0.1", {}, r"overrides are a list such as \['training.lr=0.1,0.2'\], or a mapping"),
        ([0.1], {}, "overrides are a list of words such as"),
        ({"training.lr": []}, {}, "training.lr: there is no value to sweep over"),
        ({"training.lr": [0.1, np.nan]}, {}, r"training.lr\[1\] must be a finite number"),
        ({"training.lr": [0.1, object()]}, {}, "is nothing that a config holds"),
        ({"training.rate": [0.1]}, {}, "unknown key 'training.rate'"),
        ({"training.lr": [0.1, -1.0]}, {}, "training.lr must be greater than 0, not -1.0"),
        ({"training.lr": [0.1, 0.2]}, {"zip": ["training.lr", "model.gamma"]}, "model.gamma.*not swept over"),
        ({"training.lr": [0.1, 0.2]}, {"rerun": {"training.lr": 3}}, "no run of this sweep has training.lr=3"),
        ({"training.lr": [0.1, 0.2]}, {"members": 0}, "members must be at least 1"),
        ({}, {"grids": ["training.lr=1"]}, r"grids\[0\] are a list"),
        (["hydra/sweeper=basic"], {}, "hydra/sweeper: run_sweep has its own"),
        ({"training.lr": [0.1, 0.2]}, {"launcher": "job_lib"}, "hydra/launcher=job_lib is not installed, only basic"),
        (["training.lr=interval(0,1)"], {}, "intervals have no values to sweep over"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, overrides, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        dln.run_sweep(overrides, directory=tmp_path / "s", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_a_directory_of_something_else_is_refused(tmp_path):
    dln.run_experiment({**TINY}, directory=tmp_path / "run")
    with pytest.raises(StorageError, match="holds a run already"):
        dln.run_sweep({"training.lr": [0.1], **TINY}, directory=tmp_path / "run")
