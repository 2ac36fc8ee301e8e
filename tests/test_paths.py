"""Paths: those in configs start where the command was given, whatever Hydra does then; a ~ is the user's home."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

import dln
from dln.base.arrays import content
from dln.cli.door import Gate, release_claims, run_from_hydra
from dln.cli.foreign import OURS
from dln.composing import hydra_internals
from dln.composing.grid import spelled_out
from dln.composing.hydra_internals import add_callback, hydra_main, use_loader
from dln.composing.loader import loader_class
from dln.config import CONFIGS, ComparativeConfig, SingleConfig, folder
from dln.model import save_weights
from dln.plotting import plot_run, save_figure
from dln.results.frames import load_sweep, merge_sweeps
from dln.results.run import load_run
from dln.results.sweep import SweepStore
from dln.utils import load_history, save_history

pytestmark = pytest.mark.hydra

TINY = {"max_steps": 4, "data": {"train_samples": 4}}
SIZES = {"in_dim": 2, "out_dim": 2, "num_hidden": 1, "hidden_dim": 3}


def overrides(config, prefix=""):
    """A nested config as overrides of the command line."""
    inner = [(f"{prefix}{key}", value) for key, value in config.items()]
    lines = (overrides(value, f"{key}.") if isinstance(value, dict) else [f"{key}={value}"] for key, value in inner)
    return [line for some in lines for line in some]


def with_sizes(schema):
    return {**TINY, **({"model": SIZES} if schema is SingleConfig else {"shared": {"model": SIZES}})}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with files of each kind that a config may name."""
    place = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    pairs = {f"{part}_{what}": rng.normal(size=(4, 2)) for part in ("train", "test") for what in ("inputs", "targets")}
    np.savez(place / "own.npz", **pairs)
    np.save(place / "teacher.npy", rng.normal(size=(2, 2)))
    for schema in (SingleConfig, ComparativeConfig):
        here = place / folder(schema)
        dln.run_experiment(
            with_sizes(schema) | {"checkpoint_at": [2]}, comparative=schema is ComparativeConfig, directory=here
        )
    weights = [rng.normal(size=shape) for shape in ((3, 2), (2, 3))]
    save_weights(dln.DeepLinearNetwork.from_weights(weights), place / "weights.npz")
    return place


def named_files(schema, at=""):
    """Configs that name files between them by every key that ours know; `at` is a directory."""
    saved = sorted((Path(at) if at else Path()).glob(f"{folder(schema)}/checkpoints/step_00000002*"))
    start = {"weights": f"{at}weights.npz"}
    lanes = {"model": start} if schema is SingleConfig else {"shared": {"model": start}, "model_b": start}
    teacher = {"data": {"params": {"matrix": "file", "path": f"{at}teacher.npy"}}, "resume": str(saved[0])}
    return [{"data": {"path": f"{at}own.npz"}, **lanes}, teacher]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """f(schema, *argv): gives a command in this process, from a working directory of its own."""
    for name in ("ConfigLoaderImpl", "Callbacks"):
        monkeypatch.setattr(hydra_internals._application, name, getattr(hydra_internals._application, name))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def give(schema, *argv):
        use_loader(loader_class(schema))
        add_callback(Gate(schema))
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
        quiet += [] if "hydra/sweeper=basic" in argv else ["hydra/sweeper=dln"]
        monkeypatch.setattr(sys, "argv", ["run.py", *map(spelled_out, argv), *quiet])
        door = hydra_main(config_path=str(CONFIGS / folder(schema)), config_name="default")
        try:
            door(lambda config: run_from_hydra(config, schema))()
        finally:
            release_claims()

    return give


@pytest.mark.sampled
@pytest.mark.parametrize("schema", [SingleConfig, ComparativeConfig])
@pytest.mark.parametrize("number", [0, 1])
def test_a_run_that_works_in_its_directory_reads_what_the_command_named(
    schema, number, files, given, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(files)
    own = named_files(schema)[number]
    given(
        schema, *overrides(with_sizes(schema)), *overrides(own), "hydra.job.chdir=true", f"hydra.run.dir={tmp_path}/x"
    )
    assert os.path.relpath(tmp_path / "x") in capsys.readouterr().out
    alone = dln.run_experiment(
        [*overrides(with_sizes(schema)), *overrides(named_files(schema, f"{files}/")[number])],
        comparative=schema is ComparativeConfig,
    )
    assert load_run(tmp_path / "x").records == alone.records


def as_grids(schema, at=""):
    return "grids=[" + ",".join(f"[{','.join(overrides(own))}]" for own in named_files(schema, at)) + "]"


def losses(directory):
    """The curves of a sweep by the hash of a run, which is one of what the files of its config hold."""
    frame = load_sweep(directory)
    return {row["run"]: [row[name] for name in row if "loss" in name] for row in frame.iter_rows(named=True)}


@pytest.mark.long
@pytest.mark.parametrize("schema", [SingleConfig, ComparativeConfig])
def test_sweeps_and_jobs_of_launchers_do_too(schema, files, given, tmp_path, monkeypatch):
    """Hydra moves each job of a launcher to a directory of its own."""
    common = ["-m", *overrides(with_sizes(schema)), "hydra.job.chdir=true"]
    monkeypatch.chdir(files)
    given(schema, *common, as_grids(schema, f"{files}/"), f"hydra.sweep.dir={tmp_path}/there")
    given(schema, *common, as_grids(schema), f"hydra.sweep.dir={tmp_path}/here")
    sweeper = Plugins.instance().class_name_to_class[OURS]
    monkeypatch.setitem(sweeper.setup.__globals__, "BASIC", "none")  # Hydra's own launcher is one, as any other
    given(schema, *common, as_grids(schema), f"hydra.sweep.dir={tmp_path}/jobs")
    assert (tmp_path / "jobs" / ".jobs").exists()
    assert losses(tmp_path / "there") == losses(tmp_path / "here") == losses(tmp_path / "jobs")
    assert len(losses(tmp_path / "here")) == 2


@pytest.mark.long
def test_a_tilde_is_the_users_home_on_the_command_line(given, files, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "own.npz").write_bytes((files / "own.npz").read_bytes())
    common = [*overrides(with_sizes(SingleConfig)), "data.path=~/own.npz"]
    given(SingleConfig, *common, "hydra.run.dir=~/run")
    given(SingleConfig, "-m", *common, "training.lr=0.1,0.2", "hydra.sweep.dir=~/study")
    given(SingleConfig, "-m", *common, "training.lr=0.1,0.2", "hydra.sweep.dir=~/basic", "hydra/sweeper=basic")
    assert len(load_run("~/run")) == len(load_run(home / "basic" / "1")) == 5
    frame = load_sweep("~/study", constants=True)
    assert frame["data.path.digest"].unique().to_list() == [content(home / "own.npz")]
    assert merge_sweeps(["~/study"], "~/merged") == 2
    assert SweepStore("~/merged").commands() == SweepStore("~/study").commands() != ""
    assert not (tmp_path / "~").exists()


def test_a_tilde_is_the_users_home_in_a_file_and_in_python(given, files, tmp_path):
    home = tmp_path / "home"
    places = "hydra: {run: {dir: ~/a}, sweep: {dir: '~/b/${now:%Y}'}}"
    (tmp_path / "study.yaml").write_text(f"{OmegaConf.to_yaml(with_sizes(SingleConfig))}\n{places}\n", encoding="utf-8")
    study = [f"--config-dir={tmp_path}", "-cn=study"]
    given(SingleConfig, *study)
    for _ in range(2):  # a time in its name makes it new
        given(SingleConfig, *study, "-m", "training.lr=0.1,0.2")
    assert len(load_run("~/a")) == 5
    assert len([*(home / "b").iterdir()]) == 2
    history = dln.run_experiment(with_sizes(SingleConfig) | {"checkpoint_every": 2}, directory="~/c")
    assert history.directory == str(home / "c")
    assert save_figure(plot_run(history), "~/figures/run.png").exists()
    save_history("~/records.jsonl", history.records)
    assert load_history("~/records.jsonl") == history.records
    assert not (tmp_path / "~").exists()


def test_a_tilde_where_it_cannot_be_is_refused(given, tmp_path, capsys):
    with pytest.raises(SystemExit):
        given(SingleConfig, "-m", "hydra/sweeper=basic", "hydra.sweep.subdir='~/x'", "training.lr=0.1,0.2")
    assert "hydra.sweep.subdir is inside of hydra.sweep.dir" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
