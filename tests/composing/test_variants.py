"""Dictionaries that are resolved one like the other come to what each comes to alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dln.composing import variants
from dln.composing.compose import resolve
from dln.composing.loader import load_config
from dln.composing.variants import Resolver
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError

ODD = [0, 3, 0.25, 1e-3, -1, True, "0.5", "x", None, float("nan"), float("inf"), 10**400, 2**70, np.float64(0.5), [1]]
FITTING = st.sampled_from([1, 2, 0.5])
NUMBERS = FITTING | st.sampled_from(ODD)
PARTS = {
    "training": {"lr": NUMBERS, "model_seed": NUMBERS, "batch_seed": NUMBERS},
    "model": {"gamma": st.one_of(NUMBERS, st.just("${model.alpha}"), st.just("${training.model_seed}"))},
    "data": {
        "noise_std": NUMBERS,
        "params": st.sampled_from([{"scale": "${data.noise_std}"}, {"note": "noise ${data.noise_std}"}]),
    },
}
SCHEMAS = {
    SingleConfig: {**PARTS, "wrong": {"key": NUMBERS}},
    ComparativeConfig: {
        **{f"{name}_a": keys for name, keys in PARTS.items() if name != "data"},
        "data": PARTS["data"],
        "shared": {"training": st.fixed_dictionaries({}, optional=PARTS["training"])},
    },
}


def configs_of(schema):
    """One config, and others with the same keys."""
    keys = {name: st.fixed_dictionaries({}, optional=keys) for name, keys in SCHEMAS[schema].items()}
    return st.fixed_dictionaries({}, optional=keys).flatmap(lambda first: st.tuples(st.just(first), *4 * [like(first)]))


def like(value):
    """The same mappings and words, but other numbers."""
    if isinstance(value, dict):
        return st.fixed_dictionaries({key: like(inner) for key, inner in value.items()})
    return st.just(value) if isinstance(value, str) and "$" in value else FITTING | NUMBERS


def outcome(resolver, config, schema):
    try:
        return resolver(config, schema)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("schema", SCHEMAS)
@settings(max_examples=12)
@given(data=st.data())
def test_every_config_comes_to_what_it_comes_to_alone(schema, data):
    resolver = Resolver()
    for config in data.draw(configs_of(schema)):
        assert repr(outcome(resolver.resolve, config, schema)) == repr(outcome(resolve, config, schema))


def test_those_that_differ_in_numbers_are_resolved_once(monkeypatch):
    resolved = []
    monkeypatch.setattr(variants, "resolve", lambda *args: (resolved.append(1), resolve(*args))[1])
    resolver = Resolver()
    for schema, section in ((SingleConfig, "training"), (ComparativeConfig, "shared")):
        for seed in range(5):
            numbers = {"lr": 0.1 / (seed + 1), "model_seed": seed}
            config = resolver.resolve({section: numbers if section == "training" else {"training": numbers}}, schema)
            for lane in config.lanes.values():
                assert (lane.training.lr, lane.training.model_seed) == (numbers["lr"], seed)
    assert len(resolved) == 2


@pytest.mark.parametrize("text", ["${data.noise_std}", "noise ${data.noise_std}", "${..noise_std}"])
def test_what_refers_to_a_number_follows_it(text):
    resolver = Resolver()
    for noise in (0.25, 0.5):
        config = {"data": {"noise_std": noise, "params": {"matrix": "diagonal", "note": text}}}
        found = resolver.resolve(config, SingleConfig)
        assert str(noise) in str(found.data.params["note"])
        assert repr(found) == repr(resolve(config, SingleConfig))


LISTS = [
    (SingleConfig, ["training.lr={}"], ["0.5", "007", "1,2", "["]),
    (SingleConfig, ["max_steps={}", "metrics=[weight_norm]"], ["2", "1e1", "-1", "null"]),
    (SingleConfig, ["training.batch_size={}", "training.optimizer=Adam", "+data.params.note={}"], ["2", "3"]),
    (SingleConfig, ["data.params.scale={}", "data.noise_std={}", "data.noise_std=0.5"], ["2", "3"]),
    (SingleConfig, ["training={{lr: {}}}", "training.batch_seed=1"], ["2", "x"]),
    (SingleConfig, ["model.gamma=${{training.lr}}", "training.lr={}", "callbacks=[]"], ["2", "1e-3"]),
    (SingleConfig, ["training.lr={}", "wrong.key=1"], ["2"]),
    (SingleConfig, ["model.alpha={}", "model.hidden_dim=[3,4,5]"], ["2", "[1,2,3,4]", "0.5", "x"]),
    (SingleConfig, ["model.hidden_dim={}"], ["3", "[3,4,5]", "3.0", "null", "{a: 1}"]),
    (SingleConfig, ["max_steps={}"], ["5.0", "5.5", "true", "x", "99999999999999999999", "${data.train_samples}"]),
    (SingleConfig, ["metrics={}"], ["cheap", "[weight_norm]", "3", "[{name: singular_values, params: {top: 2}}]"]),
    (
        SingleConfig,
        ["model.init_params={}", "model.init=target_norm"],
        ["3", "{norm: 2}", "[1]", "null", "${missing}"],
    ),
    (SingleConfig, ["data.params={}"], ["{matrix: identity, scale: 2}", "{}", "3", "null"]),
    (
        SingleConfig,
        ["tracker={}", "callbacks=[{{name: stop_after, params: {{step: 3}}}}]"],
        ["mlflow", "null", "{nam: x}"],
    ),
    (ComparativeConfig, ["shared.model.alpha={}", "model_b.alpha=3"], ["2", "[1,1,1,2]"]),
    (ComparativeConfig, ["shared.callbacks={}", "callbacks_b.0.params.step=2"], ["[]", "[{name: kick}]"]),
    (ComparativeConfig, ["shared.training.lr={}", "training_b.batch_size=2", "training_b.model_seed={}"], ["2", "3"]),
    (ComparativeConfig, ["shared.training.lr={}", "training_a.lr=0.5"], ["0.1", "0.2"]),
]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("schema", "template", "values"),
    [pytest.param(*case, marks=() if i % 2 == 0 else pytest.mark.long) for i, case in enumerate(LISTS)],
)
def test_every_list_of_overrides_comes_to_what_it_comes_to_alone(schema, template, values):
    resolver = Resolver()

    def listed(overrides, schema):
        return resolver.resolve_list(overrides, schema, "default")

    for value in values:
        overrides = [text.format(value) for text in template]
        assert repr(outcome(listed, overrides, schema)) == repr(outcome(load_config, overrides, schema))


def test_lists_that_differ_in_numbers_are_composed_and_resolved_once(monkeypatch):
    made = []
    for name in ("named_config", "resolve_typed", "load_config"):
        real = getattr(variants, name)
        monkeypatch.setattr(variants, name, lambda *args, name=name, real=real: (made.append(name), real(*args))[1])
    resolver = Resolver()
    for seed in range(5):
        config = resolver.resolve_list(
            ["training.optimizer=Adam", f"training.model_seed={seed}"], SingleConfig, "default"
        )
        assert (config.training.optimizer, config.training.model_seed) == ("Adam", seed)
    assert made == ["named_config", "resolve_typed"]
