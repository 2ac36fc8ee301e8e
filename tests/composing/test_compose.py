"""Composition: schema, YAML files and overrides come together to one resolved, checked config."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dln.composing.compose import resolve, schema_node
from dln.composing.hydra_errors import nearest_key, translated
from dln.composing.hydra_internals import create_config_search_path
from dln.composing.loader import ComparativeLoader, SingleLoader, load_config, loader_class
from dln.composing.variants import Resolver
from dln.config import CONFIGS, ComparativeConfig, MetricConfig, SingleConfig, fields, folder
from dln.errors import ConfigError
from dln.factory import check_names
from dln.ingredients.teachers import MATRICES

S, C = SingleConfig, ComparativeConfig
SCHEMAS = [S, C]
FILES = [(schema, path.stem) for schema in SCHEMAS for path in sorted((CONFIGS / folder(schema)).glob("*.yaml"))]


def leaves(mapping: dict, prefix: str = "") -> dict:
    """A nested mapping by dotted keys; what is a mapping of the user's own stays whole."""
    flat = {}
    for key, value in mapping.items():
        opened = isinstance(value, dict) and not key.endswith("params")
        flat |= leaves(value, f"{prefix}{key}.") if opened else {prefix + key: value}
    return flat


def completed(params: dict) -> dict:
    """A teacher's parameters with the defaults of those that are left out."""
    return {**MATRICES.get(params["matrix"]).defaults, **params}


# --- the files in configs/ --------------------------------------------------------------------------------------------


def test_there_are_configs_of_both_kinds():
    assert {(S, "default"), (S, "diagonal_teacher"), (S, "random_teacher"), (C, "default")} <= set(FILES)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_default_yaml_is_the_schema_key_by_key(schema):
    text = (CONFIGS / folder(schema) / "default.yaml").read_text(encoding="utf-8")
    written = leaves(yaml.safe_load(text))
    node = OmegaConf.to_container(schema_node(schema))
    assert isinstance(node, dict)
    expected = leaves(node)
    assert written.keys() == expected.keys()
    different = {key for key in written if written[key] != expected[key]}
    # What the YAML shows beyond the schema's: a parameter of the teacher at its default, and a metric worth seeing.
    assert completed(written["data.params"]) == completed(expected["data.params"])
    assert different <= {"data.params", "comparative_metrics"}


@pytest.mark.parametrize(("schema", "name"), FILES)
def test_every_config_resolves_and_can_be_built(schema, name):
    config = load_config([], schema, name)
    assert type(config) is schema
    check_names(config)


def test_named_configs_differ_from_the_default_only_as_they_say():
    default, diagonal = load_config([], S), load_config([], S, "diagonal_teacher")
    assert diagonal.model.gamma == 1.5
    assert diagonal.data.params == {"matrix": "diagonal", "scale": 20.0}
    assert diagonal.metrics == [MetricConfig(name="singular_values")]
    assert diagonal.training.batch_size == default.training.batch_size
    assert dataclasses.replace(diagonal.model, gamma=default.model.gamma) == default.model


# --- lanes and shared -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["a", "b"])
@pytest.mark.parametrize("section", ["model", "training"])
def test_the_schema_links_every_key_of_a_lane_to_shared(section, lane):
    node = OmegaConf.to_container(schema_node(C))
    assert node[f"{section}_{lane}"] == {key: f"${{shared.{section}.{key}}}" for key in node["shared"][section]}


OTHER_VALUES = {
    "model.in_dim": 7,
    "model.out_dim": 6,
    "model.num_hidden": 2,
    "model.hidden_dim": 9,
    "model.gamma": 1.25,
    "model.init": "orthogonal",
    "model.init_params": {"scale": 0.5},
    "model.alpha": 0.5,
    "model.bias": True,
    "model.weights": "w.npz",
    "training.lr": 0.25,
    "training.lr_factors": [1.0, 0.5, 0.0, 2.0],
    "training.batch_size": 10,
    "training.replacement": True,
    "training.label_noise": 0.5,
    "training.optimizer": "Adam",
    "training.optimizer_params": {"eps": 0.1},
    "training.criterion": "L1Loss",
    "training.criterion_params": {"reduction": "sum"},
    "training.model_seed": 5,
    "training.batch_seed": 6,
}


def value_at(config, key):
    for part in key.split("."):
        config = getattr(config, part)
    return config


def nested(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def test_other_values_are_given_for_every_shared_key():
    keys = {key.removeprefix("shared.") for key, _ in fields(C) if key.startswith("shared.")}
    assert set(OTHER_VALUES) == keys - {"callbacks"}


@pytest.mark.sampled
@pytest.mark.parametrize(("key", "value"), OTHER_VALUES.items())
def test_lanes_follow_shared_unless_told_otherwise(key, value):
    section, _, leaf = key.partition(".")
    batches = {"training": {"batch_size": 9}} if leaf == "replacement" else {}  # of which there must be some
    both = resolve({"shared": {**batches, section: {**batches.get(section, {}), leaf: value}}}, C)
    assert value_at(both, f"{section}_a.{leaf}") == value_at(both, f"{section}_b.{leaf}") == value
    if leaf in ("in_dim", "out_dim"):  # lanes cannot differ in these: both see the same data
        return
    one = resolve({"shared": batches, f"{section}_b": {leaf: value}}, C)
    default = value_at(one, f"shared.{key}")
    assert default != value
    assert value_at(one, f"{section}_a.{leaf}") == default
    assert value_at(one, f"{section}_b.{leaf}") == value


def test_an_override_of_shared_reaches_both_lanes_and_one_of_a_lane_only_that():
    config = load_config(["shared.training.lr=0.25", "training_b.batch_size=10", "model_a.gamma=2"], C)
    assert (config.training_a.lr, config.training_b.lr) == (0.25, 0.25)
    assert (config.training_a.batch_size, config.training_b.batch_size) == (None, 10)
    assert (config.model_a.gamma, config.model_b.gamma) == (2.0, 1.0)


@pytest.mark.parametrize("lane", ["a", "b"])
def test_an_override_through_an_interpolation_is_refused(lane):
    """It would change both lanes under the name of one."""
    with pytest.raises(ConfigError) as caught:
        load_config([f"training_{lane}.optimizer_params.momentum=0.9"], C)
    message = str(caught.value)
    assert f"training_{lane}.optimizer_params={{momentum: ...}}" in message
    assert "shared.training.optimizer_params" in message


def test_a_mapping_of_one_lane_is_given_whole():
    config = load_config(["training_a.optimizer_params={momentum: 0.9}"], C)
    assert config.training_a.optimizer_params == {"momentum": 0.9}
    assert config.training_b.optimizer_params == config.shared.training.optimizer_params == {}


def test_a_mapping_of_shared_takes_new_keys():
    config = load_config(["shared.training.optimizer_params.momentum=0.9"], C)
    assert config.training_a.optimizer_params == config.training_b.optimizer_params == {"momentum": 0.9}


SWITCH = "[{name: switch_batch_size, params: {step: 2, batch_size: 3}}]"


def switches(config):
    """The steps at which each lane switches."""
    return [[callback.params["step"] for callback in lane.callbacks] for lane in config.lanes.values()]


def test_shared_callbacks_are_those_of_both_lanes_unless_one_has_its_own():
    both, own = f"shared.callbacks={SWITCH}", f"callbacks_b={SWITCH}"
    assert switches(load_config([both], C)) == [[2], [2]]
    assert switches(load_config(["callbacks_a=[]", both], C)) == [[], [2]]
    assert switches(load_config([both, "shared.callbacks.0.params.step=7"], C)) == [[7], [7]]
    assert switches(load_config([both, own, "callbacks_b.0.params.step=7"], C)) == [[2], [7]]
    given = {"name": "switch_batch_size", "params": {"step": 2, "batch_size": 3}}
    assert switches(resolve({"shared": {"callbacks": [given]}, "callbacks_a": []}, C)) == [[], [2]]
    with pytest.raises(ConfigError, match=r"callbacks_b only refers to .* give it whole \(callbacks_b=\[...\]\), or"):
        load_config([both, "callbacks_b.0.params.step=7"], C)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["shared.model.gamma=2"], "rich_lazy"),
        (["training_a.lr=1", "shared.training.lr=0.1", "training_b.lr=2"], "default"),
        (["callbacks_a=[]", "callbacks_b=[]", "shared.callbacks=[]"], "default"),
        (["shared.model.init_params.norm=1", "model_a.init_params={norm: 1}", "model_b.init_params={}"], "default"),
    ],
)
def test_what_no_lane_would_take_of_shared_is_refused(overrides, name):
    """It would change nothing, which nobody means who types it."""
    with pytest.raises(ConfigError, match=r"would change nothing: \w+_a[.\w]* and \w+_b[.\w]* have values of"):
        load_config(overrides, C, name)
    with pytest.raises(ConfigError, match=r"would change nothing"):
        Resolver().resolve_list(overrides, C, name)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("metrics", "did you mean 'model_metrics'"),
        ("callbacks", "did you mean 'shared.callbacks'"),
        ("training.lr", "did you mean 'shared.training.lr'"),
        ("model_b.lr", "did you mean 'training_b.lr'"),
        ("tracker.name", "give 'tracker' whole: tracker={name: ...}"),
        ("evaluate_at.log", "give 'evaluate_at' whole: evaluate_at={log: ...}"),
    ],
)
def test_a_key_that_other_doors_or_other_values_have_is_answered_with_the_one_here(key, meant):
    with pytest.raises(ConfigError, match=re.escape(f"unknown key '{key}'; {meant}")):
        load_config([f"{key}=3"], C)


# --- overrides and dictionaries ---------------------------------------------------------------------------------------


def test_overrides_and_dictionaries_come_to_the_same():
    overrides = ["training.lr=0.01", "model.hidden_dim=[20,30,20]", "data.params.scale=5", "metrics=[weight_norm]"]
    mapping = {
        "training": {"lr": 0.01},
        "model": {"hidden_dim": [20, 30, 20]},
        "data": {"params": {"scale": 5}},
        "metrics": ["weight_norm"],
    }
    assert load_config(overrides, S) == resolve(mapping, S)


def test_nothing_is_the_default():
    assert resolve({}, S) == S()
    assert resolve({}, C) == C()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_resolving_a_resolved_config_changes_nothing(schema):
    resolved = load_config(["max_steps=7", "data.noise_std=0.5"], schema)
    assert resolve(dataclasses.asdict(resolved), schema) == resolved


def test_resolving_leaves_the_given_dictionary_alone():
    params = {"matrix": "low_rank"}
    config = resolve({"data": {"params": params}}, S)
    config.data.params["rank"] = 3
    assert params == {"matrix": "low_rank"}


def test_free_mappings_take_new_keys_without_a_plus():
    config = load_config(["data.params.matrix=low_rank", "data.params.rank=3", "training.optimizer_params.eps=1"], S)
    assert config.data.params == {"matrix": "low_rank", "rank": 3}
    assert config.training.optimizer_params == {"eps": 1}


def test_interpolations_are_resolved():
    config = load_config(["model.out_dim=${model.in_dim}", "model.in_dim=8", "metrics=['weight_norm']"], S)
    assert (config.model.in_dim, config.model.out_dim) == (8, 8)


def test_hydra_paths_do_not_reach_the_config():
    config = load_config(["hydra.run.dir=elsewhere", "max_steps=5"], S)
    assert dataclasses.asdict(config).keys() == {f.name for f in dataclasses.fields(S)}
    assert config.max_steps == 5


def test_metrics_are_names_or_mappings():
    entry = {"name": "singular_values", "params": {"top": 2}, "label": "top_two"}
    config = resolve({"metrics": ["weight_norm", entry]}, S)
    assert config.metrics == [
        MetricConfig(name="weight_norm"),
        MetricConfig(name="singular_values", params={"top": 2}, label="top_two"),
    ]


def test_callbacks_keep_null_parameters():
    config = load_config(["callbacks=[{name: switch_batch_size, params: {step: 5, batch_size: null}}]"], S)
    assert config.callbacks[0].params == {"step": 5, "batch_size": None}


def test_a_users_own_file_lies_on_the_schema(tmp_path, compose_file):
    (tmp_path / "own.yaml").write_text("training: {lr: 0.25}", encoding="utf-8")
    config = compose_file(tmp_path / "own.yaml", S, ["model.gamma=2", "data.params.spectrum=[1,2]"])
    expected = S()
    expected.training.lr, expected.model.gamma = 0.25, 2.0
    expected.data.params["spectrum"] = [1, 2]
    assert config == expected


def test_a_users_own_comparative_file_keeps_the_links(tmp_path, compose_file):
    (tmp_path / "own.yaml").write_text("training_a: {model_seed: 3}", encoding="utf-8")
    config = compose_file(tmp_path / "own.yaml", C, ["shared.training.lr=0.25"])
    assert (config.training_a.lr, config.training_b.lr) == (0.25, 0.25)
    assert (config.training_a.model_seed, config.training_b.model_seed) == (3, 0)


# --- small parts ------------------------------------------------------------------------------------------------------


def test_loaders_are_named_classes():
    """Launchers send them to other processes by name."""
    assert loader_class(S) is SingleLoader
    assert loader_class(C) is ComparativeLoader
    assert SingleLoader.schema is S
    assert ComparativeLoader.schema is C


@pytest.mark.parametrize(
    ("key", "schema", "expected"),
    [
        ("training.lrr", S, "'training.lr'"),
        ("bias", S, "'model.bias'"),
        ("model.gama", S, "'model.gamma'"),
        ("model.qqqqqqqqqqqqqqqqqqqqq", S, "known in model: alpha, bias"),
        ("shared.training.bach_size", C, "'shared.training.batch_size'"),
        ("qqqqqqqq", S, "max_steps"),
    ],
)
def test_nearest_key(key, schema, expected):
    assert expected in nearest_key(key, schema)


def test_errors_that_are_not_about_configs_pass_through():
    with pytest.raises(ZeroDivisionError), translated(S):
        _ = 1 / 0


def test_without_a_clone_a_message_says_what_to_do(monkeypatch):
    monkeypatch.setattr("dln.composing.loader.CONFIGS", Path("no such place"))
    with pytest.raises(ConfigError, match="dictionary"):
        load_config([], S)


def test_a_batch_size_that_a_callback_will_switch_to_is_checked_before_the_run():
    switch = "callbacks=[{name: switch_batch_size, params: {step: 5, batch_size: 101}}]"
    with pytest.raises(ConfigError, match=r"callbacks\[0\].params: batch_size is 101 but there are only 100"):
        check_names(load_config([switch], S))


@pytest.mark.parametrize("group", ["", "  - group: ???\n"])
@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
@pytest.mark.parametrize(
    ("overrides", "modes"),
    [
        (["max_steps=7", "metrics=[weight_norm]"], [RunMode.RUN, RunMode.MULTIRUN]),
        (["training.lr=0.1,0.2"], [RunMode.MULTIRUN]),
        (["hydra.mode=MULTIRUN", "max_steps=1,2"], [RunMode.MULTIRUN]),
        (["+training=odd"], []),
        (["no_such=1"], []),
    ],
)
@pytest.mark.hydra
@pytest.mark.long
def test_the_config_that_told_the_mode_is_that_of_the_run(tmp_path, overrides, modes, mode, group):
    """As Hydra asks: once for the mode alone, then for the config. It comes to what asking once does."""
    (tmp_path / "own.yaml").write_text(f"defaults:\n{group}  - _self_\nmax_steps: 5\n", encoding="utf-8")

    def asked(*times):
        loader = loader_class(S)(create_config_search_path(str(tmp_path)))
        found = None
        for run_mode, validate, *added in times:
            try:
                found = loader.load_configuration(
                    "own", [*overrides, *added], run_mode, validate_sweep_overrides=validate
                )
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
        if isinstance(found, DictConfig):
            assert found.max_steps
            return OmegaConf.to_container(found), found._get_flag("struct"), found.hydra._get_flag("readonly")
        return found

    for added in ([], ["hydra.mode=RUN"], ["hydra.mode=MULTIRUN"]):
        once = asked((mode, True, *added))
        assert asked((RunMode.MULTIRUN, False), (mode, True, *added)) == once
        assert isinstance(once, tuple) == (mode in modes and not (group and mode is RunMode.RUN))
    assert asked((RunMode.MULTIRUN, False), (mode, True), (mode, True)) == asked((mode, True))
