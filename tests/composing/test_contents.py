"""A run is what it learns from: what files hold is part of its identity, where they lie is not."""

import copy

import numpy as np
import pytest

from dln import load_sweep, merge_sweeps
from dln.base.arrays import content
from dln.composing.compose import apply_override, schema_node
from dln.composing.contents import FILE_KEYS
from dln.composing.grid import parse_grid
from dln.config import ComparativeConfig, SingleConfig, leaf_of
from dln.errors import ConfigError
from dln.ingredients.teachers import MATRICES, register_matrix
from dln.sweeps import driver
from dln.sweeps.driver import run_sweep
from dln.sweeps.plan import Plan
from dln.sweeps.shapes import shaped

TINY = ["model.num_hidden=0", "max_steps=3", "evaluate_every=3"]
STORED = "d79d753a40d3daac95f44690"
"""The identity of TINY in sweeps that version 0.1.0 stored."""


def planner(schema):
    """Return plan(overrides) without Hydra, whose composing takes most of the time."""

    def compose(overrides):
        config = copy.deepcopy(schema_node(schema))
        for override in overrides:
            apply_override(config, override, schema)
        return config

    return lambda overrides: Plan([shaped(parse_grid(overrides), schema, compose)])


def write(key, path, factor=1.0):
    """Make a file fit for a key; its numbers are multiplied by a factor."""
    draw = np.random.default_rng(0).standard_normal
    if key == "data.path":
        np.savez(path, train_inputs=draw((8, 5)), train_targets=factor * draw((8, 5)))
    elif key.endswith("weights"):
        np.savez(path, W1=factor * draw((5, 5)))
    else:
        np.save(path, factor * draw((5, 5)))


KINDS = {
    "data.path": (SingleConfig, "data.path={}", "npz"),
    "model.weights": (SingleConfig, "model.weights={}", "npz"),
    "model_b.weights": (ComparativeConfig, "model_b.weights={}", "npz"),
    "data.params.path": (SingleConfig, "data.params={{matrix: file, path: {}}}", "npy"),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path, monkeypatch):
    """A key, a path fit for it, and plan(*overrides) of sweeps that name a file there."""
    monkeypatch.chdir(tmp_path)
    schema, override, suffix = KINDS[request.param]
    section = "shared." if schema is ComparativeConfig else ""
    make = planner(schema)

    def plan(path, *more):
        return make([override.format(path), *(section + o if o.startswith("model.") else o for o in TINY), *more])

    return request.param, f"own.{suffix}", plan


def test_the_identity_is_what_the_file_holds(kind, tmp_path):
    key, path, plan = kind
    write(key, path)
    (tmp_path / "there").mkdir()
    write(key, tmp_path / "there" / path)
    first = plan(path)
    assert plan(tmp_path / path).identity(0) == first.identity(0) == plan(f"there/{path}").identity(0)
    assert first.values(0)[key] == path
    assert first.values(0)[f"{key}.digest"] == content(path)
    write(key, path, factor=2)
    assert plan(path).identity(0) != first.identity(0)


@pytest.mark.sampled
def test_paths_as_an_axis(kind):
    """As fixed values, set in copies or composed: the same runs."""
    key, path, plan = kind
    other = f"other.{path.rpartition('.')[2]}"
    for factor, name in enumerate([path, other], start=1):
        write(key, name, factor)
    alone = [plan(name).identity(0) for name in (path, other)]
    axis = f"data.params.path={path},{other}" if key == "data.params.path" else f"{key}={path},{other}"
    both = plan(path, axis)
    assert [both.identity(cell) for cell in range(2)] == alone
    assert [both.values(cell)[f"{key}.digest"] for cell in range(2)] == [content(path), content(other)]
    assert {key, f"{key}.digest"} <= both.varying()
    assert both.contents == {path: content(path), other: content(other)}
    assert Plan([*plan(path).grids, *plan(other).grids]).contents == both.contents


@pytest.mark.sampled
def test_a_sweep_is_not_continued_on_other_content(kind, tmp_path):
    key, path, plan = kind
    write(key, path)
    assert run_sweep(plan(path), "study").failed == []
    before = load_sweep("study", constants=True)
    assert before[f"{key}.digest"].to_list() == [content(path)]
    write(key, path, factor=2)
    with pytest.raises(ConfigError, match=rf"{path} has changed since the sweep in study was begun"):
        run_sweep(plan(path, "data.data_seed=0,1"), "study")
    assert load_sweep("study", constants=True).equals(before)
    write(key, path)
    report = run_sweep(plan(tmp_path / path, "data.data_seed=0,1"), "study")  # the same file by another path
    assert (report.found, report.finished) == (1, 1)
    copy = f"copy.{path.rpartition('.')[2]}"
    write(key, copy, factor=3)
    with pytest.raises(ConfigError, match=rf"{key}.digest"):  # another file is another fixed value
        run_sweep(plan(copy, "data.data_seed=0,1"), "study")


def test_a_file_that_changes_while_it_is_learned_from(kind, monkeypatch):
    key, path, plan = kind
    write(key, path)
    train = driver._train

    def changing(*args):
        outcome = train(*args)
        write(key, path, factor=2)
        return outcome

    monkeypatch.setattr(driver, "_train", changing)
    with pytest.raises(ConfigError, match=f"{path}' has changed since this sweep began"):
        run_sweep(plan(path, "data.data_seed=0,1"), "study")
    assert driver.SweepStore("study").files() == []


@pytest.mark.sampled
def test_what_earlier_versions_stored(kind):
    """They noted no digests: such a sweep stays readable, and is continued only where it names no file."""
    key, path, plan = kind
    write(key, path)
    run_sweep(plan(path), "study")
    run_sweep(planner(SingleConfig)(TINY), "plain")
    for folder in ("study", "plain"):
        store = driver.SweepStore(folder)
        store.describe({k: v for k, v in (store.description() or {}).items() if k in ("kind", "fixed")})
    assert len(load_sweep("study")) == 1
    with pytest.raises(ConfigError, match=r"earlier version.*readable"):
        run_sweep(plan(path, "data.data_seed=0,1"), "study")
    assert run_sweep(planner(SingleConfig)([*TINY, "data.data_seed=0,1"]), "plain").found == 1


def test_a_sweep_whose_description_is_lost(kind):
    """What its rows say is enough."""
    key, path, plan = kind
    write(key, path)
    run_sweep(plan(path), "study")
    (driver.Path("study") / "sweep.json").unlink()
    write(key, path, factor=2)
    with pytest.raises(ConfigError, match=f"{key}.digest"):
        run_sweep(plan(path), "study")


def test_merged_sweeps_know_what_files_held(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = planner(SingleConfig)
    own = [*TINY, "data.path=own.npz"]
    write("data.path", "own.npz")
    run_sweep(plan([*own, "data.data_seed=0"]), "a")
    run_sweep(plan([*own, "data.data_seed=1"]), "b")
    merge_sweeps(["a", "b"], "same")
    assert run_sweep(plan([*own, "data.data_seed=0..2"]), "same").found == 2
    write("data.path", "own.npz", factor=2)
    run_sweep(plan([*own, "data.data_seed=1"]), "c")
    assert merge_sweeps(["a", "b", "c"], "different") == 3
    assert load_sweep("different")["data.path.digest"].n_unique() == 2


def test_runs_without_files_are_who_they_were():
    """Identities lie in stored sweeps, which can be continued."""
    plan = planner(SingleConfig)
    assert plan(TINY).identity(0) == STORED
    assert plan([*TINY, "data.params={matrix: diagonal, scale: 2}"]).contents == {}


def test_a_users_own_teacher_takes_part_by_a_parameter_called_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @register_matrix("from_disk", defaults={"path": None})
    def from_disk(in_dim, out_dim, params):
        return np.load(params["path"])

    try:
        write("data.params.path", "own.npy")
        plan = planner(SingleConfig)([*TINY, "data.params={matrix: from_disk, path: own.npy}"])
        assert plan.contents == {"own.npy": content("own.npy")}
    finally:
        del MATRICES._entries["from_disk"]


def test_every_key_that_names_files_is_of_the_schema():
    assert all(leaf_of(key) for key in FILE_KEYS)
