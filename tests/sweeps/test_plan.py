"""Plans: every cell's config is the one that Hydra would compose for it alone, whatever shortcut led there."""

import dataclasses
import functools

import pytest
from hydra.types import RunMode
from omegaconf import open_dict

from dln.composing.alike import structure
from dln.composing.compose import resolve
from dln.composing.grid import parse_grid
from dln.composing.hydra_internals import create_config_search_path
from dln.composing.loader import loader_class
from dln.config import CONFIGS, ComparativeConfig, SingleConfig, folder
from dln.errors import ConfigError
from dln.sweeps.plan import Plan
from dln.sweeps.shapes import shaped


def planner(schema, directory=None, name="default"):
    """Return plan(overrides, zips) and compose(overrides) for configs in a directory."""
    loader = loader_class(schema)(create_config_search_path(str(directory or CONFIGS / folder(schema))))

    def compose(overrides):
        config = loader.load_configuration(name, list(overrides), RunMode.RUN)
        with open_dict(config):
            config.pop("hydra")
        return config

    return lambda overrides, zips=(): Plan([shaped(parse_grid(overrides, zips, loader), schema, compose)]), compose


def lanes_of(config):
    """A config without `shared`, which no run reads."""
    return {k: v for k, v in dataclasses.asdict(config).items() if k != "shared"}


CASES = {
    "seeds and rates": (SingleConfig, ["training.batch_seed=0..1", "training.lr=1,0.1", "model.gamma=1,2"], 1),
    "shapes": (SingleConfig, ["model.hidden_dim=10,[4,5,6]", "max_steps=5,6", "training.model_seed=1,2"], 4),
    "teachers": (
        SingleConfig,
        ["data.params.matrix=power_law", "+data.params.alpha=1,2", "data.params.scale=1,2.5"],
        1,
    ),
    "teachers by name": (SingleConfig, ["data.params.matrix=diagonal,power_law", "data.noise_std=0,1"], 1),
    "inputs": (
        SingleConfig,
        ["data.inputs=power_law", "data.inputs_params.alpha=1,2.5", "data.rotate=false,true", "data.whiten=true,false"],
        2,
    ),
    "callbacks": (SingleConfig, ["callbacks=[],[{name: lr_decay, params: {factor: 0.5, interval: 3}}]"], 2),
    "optimizers": (SingleConfig, ["training.optimizer=SGD,Adam,RMSprop", "training.lr=0.1,0.2"], 3),
    "lanes": (ComparativeConfig, ["shared.training.lr=0.1,0.2", "training_b.batch_seed=1,2", "max_steps=4,5"], 2),
    "initialisations": (
        SingleConfig,
        ["model.init=target_norm,balanced", "model.init_params.norm=1,2.5", "model.alpha=1,0.5"],
        2,
    ),
    "initialisations of lanes": (
        ComparativeConfig,
        ["shared.model.init=balanced", "shared.model.init_params.norm=1,2", "model_b.alpha=1,2"],
        1,
    ),
    "own value of a lane": (ComparativeConfig, ["shared.model.gamma=1,2", "model_a.gamma=3,4"], 1),
    "own value first": (ComparativeConfig, ["model_a.gamma=3,4", "shared.model.gamma=1,2"], 1),
    "batch sizes of lanes": (
        ComparativeConfig,
        ["training_b.batch_size=1,2,null", "shared.training.model_seed=0..1"],
        3,
    ),
}


@functools.cache
def planned(name):
    """The plan of a case; composing is slow."""
    schema, overrides, _ = CASES[name]
    return planner(schema)[0](overrides)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_configs_are_those_that_are_composed_cell_by_cell(name):
    schema, _, shapes = CASES[name]
    plan_of, compose = planner(schema)
    plan = planned(name)
    assert plan.shapes == shapes
    for cell in range(len(plan)):
        alone = resolve(compose(plan.overrides(cell)), schema)
        assert lanes_of(plan.config(cell)) == lanes_of(alone)
    for cell in (0, len(plan) - 1):
        assert plan_of(plan.overrides(cell)).identity(0) == plan.identity(cell)
    assert len({plan.identity(cell) for cell in range(len(plan))}) == len(plan)


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_cells_are_grouped_by_their_structure(name):
    plan = planned(name)
    groups = list(plan.together())
    assert sorted(cell for cells in groups for cell in cells) == list(range(len(plan)))
    structures = [{structure(plan.config(int(cell))) for cell in cells} for cells in groups]
    assert all(len(s) == 1 for s in structures)
    assert len(set.union(*structures)) == len(groups)


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_what_varies_is_what_differs_between_cells(name):
    plan = planned(name)
    rows = [plan.values(cell) for cell in range(len(plan))]
    differing = {key for row in rows for key in row if any(other.get(key) != row.get(key) for other in rows)}
    assert plan.varying() == differing


def test_zipped_keys_of_both_kinds():
    plan_of, compose = planner(SingleConfig)
    plan = plan_of(["model.gamma=1,2", "max_steps=5,6", "training.lr=0.1,0.2"], [["model.gamma", "max_steps"]])
    assert len(plan) == 4
    for cell in range(4):
        assert plan.config(cell) == resolve(compose(plan.overrides(cell)), SingleConfig)


def test_values_computed_from_a_swept_key_follow_it(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "training: {lr: 0.1, model_seed: 3}\n"
        "model: {gamma: '${training.lr}'}\n"
        "data: {data_seed: '${training.model_seed}', params: {scale: '${training.lr}'}}\n"
        "metrics: [{name: weight_norm, label: 'norm_${training.batch_seed}'}]\n",
        encoding="utf-8",
    )
    plan_of, compose = planner(SingleConfig, tmp_path, "own")
    plan = plan_of(["training.lr=1,2", "training.model_seed=0..1", "training.batch_seed=5,6"])
    assert plan.shapes == 2  # the label is computed from batch_seed; the others are followed
    for cell in range(len(plan)):
        assert plan.config(cell) == resolve(compose(plan.overrides(cell)), SingleConfig)
    config = plan.config(7)
    assert (config.model.gamma, config.data.params["scale"], config.data.data_seed) == (2.0, 2, 1)
    assert config.metrics[0].label == "norm_6"


def test_config_groups_are_composed_each(tmp_path):
    (tmp_path / "own.yaml").write_text("defaults: [task: easy, _self_]\nmax_steps: 7\n", encoding="utf-8")
    (tmp_path / "task").mkdir()
    for name, lr in (("easy", 0.1), ("hard", 0.001)):
        (tmp_path / "task" / f"{name}.yaml").write_text(
            f"# @package _global_\ntraining: {{lr: {lr}}}\n", encoding="utf-8"
        )
    plan_of, compose = planner(SingleConfig, tmp_path, "own")
    listed, globbed = (plan_of([tasks, "training.model_seed=0..2"]) for tasks in ("task=easy,hard", "task=glob(*)"))
    assert (len(listed), listed.shapes) == (6, 2)
    for cell in range(6):
        assert listed.config(cell) == resolve(compose(listed.overrides(cell)), SingleConfig)
        assert globbed.config(cell) == listed.config(cell)


def test_ten_thousand_seeds_are_one_composition():
    plan = planner(SingleConfig)[0](["training.batch_seed=range(0,10000)", "training.lr=0.1,0.2"])
    assert (len(plan), plan.shapes) == (20_000, 1)
    assert plan.config(19_999).training.batch_seed == 9_999


def test_the_identity_is_of_values_not_of_how_they_were_written():
    plan_of, _ = planner(SingleConfig)
    assert plan_of(["training.lr=1"]).identity(0) == plan_of(["training.lr=0.5,1.0"]).identity(1)
    assert plan_of(["training.lr=1"]).identity(0) != plan_of(["training.lr=2"]).identity(0)
    pairs, _ = planner(ComparativeConfig)
    own = pairs(["training_a.lr=0.5", "training_b.lr=0.5"])
    assert own.identity(0) == pairs(["shared.training.lr=0.1,0.5"]).identity(1)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["training.lr=0.1,-1"], "training.lr must be greater than 0, not -1"),
        (["training.lr=0.1,fast"], "training.lr.*'fast'"),
        (["training.batch_seed=range(-1,5)"], "training.batch_seed must be at least 0"),
        (["training.model_seed=1,2.5"], "training.model_seed"),
        (["training.lrr=0.1,0.2"], "did you mean 'training.lr'"),
        (["data.params.matrix=diagonal,diagnal"], "'diagnal'; did you mean 'diagonal'"),
        (["data.params.matrix=low_rank", "data.params.rank=1,2,9"], "rank must be between 1 and 5, not 9"),
        (["training.batch_size=10,50", "data.train_samples=100,20"], "50"),
        (["model.weights=null,nowhere.npz"], "nowhere.npz"),
        (["data.inputs=gaussian,gausian"], "'gausian'; did you mean 'gaussian'"),
        (["data.inputs=power_law", "data.inputs_params.alpha=1,steep"], "data.inputs_params.alpha.*'steep'"),
        (["data.d_active=1,6"], "data.d_active is 6"),
        (["data.whiten=true", "data.train_samples=50,3"], "data.whiten.*data.train_samples=5"),
    ],
)
def test_every_value_is_checked_before_anything_runs(overrides, named):
    with pytest.raises(ConfigError, match=named):
        planner(SingleConfig)[0](overrides)
