"""The directories of a sweep's runs: called as Hydra's own sweeper calls them, which is asked."""

import json
import shutil
import sys

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dln.cli import asked, multirun
from dln.cli.naming import _refuse_clashes, checked_name
from dln.composing import hydra_internals
from dln.composing.hydra_internals import hydra_main, use_loader
from dln.composing.loader import SingleLoader
from dln.config import CONFIGS, SingleConfig, folder
from dln.errors import ConfigError
from dln.results.run import SUMMARY, load_run
from dln.sweeps import driver
from tests.sweeps.test_plan import planner

pytestmark = pytest.mark.hydra

TINY = ["max_steps=1", "model.hidden_dim=2", "model.in_dim=2", "model.out_dim=2", "data.train_samples=4"]
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
RATES = "training.lr=0.001,0.002"


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """f(sweeper, *argv): where the runs of a sweep lie, by their overrides; Hydra's sweeper runs nothing there."""
    monkeypatch.setattr(hydra_internals._application, "ConfigLoaderImpl", SingleLoader)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    use_loader(SingleLoader)
    places = {}

    def note(_):
        place = OmegaConf.to_container(HydraConfig.get().overrides.task)
        places[frozenset(place)] = HydraConfig.get().runtime.output_dir

    def sweep(sweeper, *argv):
        places.clear()
        directory = tmp_path / sweeper
        own = [f"hydra/sweeper={sweeper}", f"hydra.sweep.dir={directory}"]
        monkeypatch.setattr(sys, "argv", ["run.py", "-m", *argv, *TINY, *own, *QUIET])
        hydra_main(config_path=str(CONFIGS / folder(SingleConfig)), config_name="default")(note)()
        if sweeper == "dln":
            homes = [path.parent for path in directory.rglob(SUMMARY)]
            places.update({frozenset(OmegaConf.load(home / ".hydra/overrides.yaml")): str(home) for home in homes})
        return {overrides: place.removeprefix(f"{directory}/") for overrides, place in places.items()}

    return sweep


NAMED = {
    "override_dirname": (
        [RATES, "hydra.sweep.subdir=${hydra.job.override_dirname}"],
        f"{','.join(sorted(TINY))},training.lr=0.001",
    ),
    "num": ([RATES, "hydra.sweep.subdir=${hydra.job.num}_x"], "1_x"),
    "key": (["training.lr=0.001,1", "hydra.sweep.subdir=lr_${training.lr}"], "lr_1.0"),
    "nested": (
        ["training.model_seed=range(2)", RATES, "hydra.sweep.subdir=${training.lr}/${hydra:job.num}-${now:%Y}"],
        None,
    ),
    "settings": (
        [
            "+data.params.scale=1,2",
            "data.params.matrix=diagonal,identity",
            "hydra.sweep.subdir=${hydra.job.id}${data.params}:${hydra.job.override_dirname}",
            "hydra.job.config.override_dirname.exclude_keys=[max_steps,data.params.matrix]",
            "hydra.job.config.override_dirname.kv_sep=-",
        ],
        None,
    ),
    "mappings": (
        ["data.params={matrix: identity},{matrix: diagonal,scale: 2}", "hydra.sweep.subdir=_${data.params}"],
        None,
    ),
}
SOON = ("key", "settings", "mappings")
"""Those that are asked in every run of the tests: between them, all that the others ask."""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("argv", "some"),
    [pytest.param(*case, id=name, marks=() if name in SOON else pytest.mark.long) for name, case in NAMED.items()],
)
def test_they_are_called_as_hydra_calls_them(argv, some, swept):
    ours = swept("dln", *argv)
    assert ours == swept("basic", *argv)
    assert some is None or some in ours.values()


@pytest.mark.long
def test_a_file_of_ones_own_and_its_groups_count(swept, tmp_path):
    study = "defaults: [default, size: small, _self_]\nhydra: {sweep: {subdir: '${name_of}_${hydra.job.num}'}}\n"
    (tmp_path / "size").mkdir()
    for name, seed in ("small", 1), ("large", 2):
        text = f"# @package _global_\ntraining: {{model_seed: {seed}}}\n"
        (tmp_path / "size" / f"{name}.yaml").write_text(text, encoding="utf-8")
    study = study.replace("name_of", "training.model_seed")
    (tmp_path / "study.yaml").write_text(study, encoding="utf-8")
    argv = [f"--config-dir={tmp_path}", "-cn=study", "size=large,small", RATES]
    ours = swept("dln", *argv)
    assert sorted(ours.values()) == ["1_2", "1_3", "2_0", "2_1"]
    assert ours == swept("basic", *argv)


def test_a_run_stays_where_it_is_and_another_moves_aside(swept, tmp_path):
    """The name of a run may change from command to command, with its number; what lies there is never replaced."""
    numbered = "hydra.sweep.subdir=run_${hydra.job.num}"
    first = swept("dln", "training.lr=0.001", numbered)
    both = swept("dln", "training.lr=0.002,0.001", numbered)
    (one,) = first
    assert both[one] == first[one] == "run_0"
    other = next(place for overrides, place in both.items() if overrides != one)
    run = json.loads((tmp_path / "dln" / other / SUMMARY).read_text(encoding="utf-8"))["run"]
    assert other == f"run_0-{run[:8]}"
    assert len(load_run(tmp_path / "dln" / other)) == 2


def test_a_removed_directory_comes_back_under_its_name(swept, tmp_path, monkeypatch):
    argv = [RATES, "hydra.sweep.subdir=deep/lr_${training.lr}"]
    before = swept("dln", *argv)
    (tmp_path / "dln/deep/lr_0.002" / SUMMARY).unlink()
    (tmp_path / "dln/deep/lr_0.002").rename(tmp_path / "elsewhere")
    reports = []
    monkeypatch.setattr(multirun, "closing", lambda report, _: reports.append(report) or "")
    assert swept("dln", *argv) == before
    assert (reports[0].found, reports[0].incomplete) == (1, 1)


@pytest.mark.parametrize(
    ("subdir", "told"),
    [
        (
            "x${training.lr}/../x",
            r"two runs the same directory, 'x': training.lr=0.001 and training.lr=0.002; add what",
        ),
        ("lr_${training.rate}", r"training.rate"),
    ],
)
def test_what_cannot_be_is_refused_before_training(subdir, told, swept, tmp_path):
    with pytest.raises(ConfigError, match=told) as refused:
        swept("dln", RATES, f"hydra.sweep.subdir={subdir}")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "dln").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../0.1", r"'../0.1' is not inside of hydra.sweep.dir"),
        ("a/..", r"'a/..' is not inside of hydra.sweep.dir"),
        ("/0.1", r"'/0.1' is not inside of hydra.sweep.dir"),
        ("~/0.1", r"'~/0.1' is not inside of hydra.sweep.dir"),
        ("parts/0.1", r"'parts' is where the sweep itself stores something"),
        (".jobs/0.1", r"'.jobs' is where the sweep itself stores something"),
        ("x" * 256, r"is longer than 255 bytes; leave out keys by"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name, told):
    with pytest.raises(ConfigError, match=told):
        checked_name(name)


def test_a_directory_inside_of_anothers_is_refused():
    plan = planner(SingleConfig)[0](["training.lr=0.001,0.002,0.003"])
    with pytest.raises(ConfigError, match=r"lie inside of each other, 'a': training.lr=0.001 and training.lr=0.003; "):
        _refuse_clashes(["a", "a-b", "a/b"], plan)


def test_runs_that_are_equal_share_a_directory(swept):
    assert [*swept("dln", "training.lr=0.001,0.001", "hydra.sweep.subdir=lr_${training.lr}").values()] == ["lr_0.001"]


def test_where_runs_are_rows_only_that_is_said(swept, monkeypatch, capsys):
    for module in (driver, asked):
        monkeypatch.setattr(module, "OWN_DIRECTORY_UP_TO", 1)
    assert swept("dln", RATES) == {}
    assert "not used" not in capsys.readouterr().out  # nobody has asked
    shutil.rmtree("dln")
    assert swept("dln", RATES, "hydra.sweep.subdir=same") == {}
    assert "hydra.sweep.subdir is not used: more than 1 runs are rows of one table only" in capsys.readouterr().out
    shutil.rmtree("dln")
    assert len(swept("dln", RATES, "hydra.sweep.subdir=lr_${training.lr}", "checkpoint_every=1")) == 2
