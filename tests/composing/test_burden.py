"""What is too much for the machine is told before anything is made: the key, what it needs, what there is."""

import copy

import pytest

from dln.base import machine
from dln.composing.burden import check_burden
from dln.composing.compose import apply_override, resolve, schema_node
from dln.composing.grid import parse_grid
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError
from dln.factory import check_names
from dln.ingredients.inputs import make_inputs
from tests.composing.test_contents import planner

S, C = SingleConfig, ComparativeConfig


def config_of(overrides, schema=S):
    node = copy.deepcopy(schema_node(schema))
    for override in overrides:
        apply_override(node, override, schema)
    return resolve(node, schema)


@pytest.fixture
def memory(monkeypatch):
    """Set how many bytes there are."""
    return lambda there: monkeypatch.setattr(machine, "memory", lambda: there)


TOO_MUCH = [
    (S, ["model.hidden_dim=1000000000"], "model.hidden_dim"),
    (S, ["model.hidden_dim=20000"], "model.hidden_dim"),
    (C, ["model_b.hidden_dim=20000"], "model_b.hidden_dim"),
    (S, ["model.in_dim=1000000000"], "model.in_dim"),
    (S, ["model.in_dim=1000000", "model.out_dim=1000000", "model.hidden_dim=1"], "model.in_dim"),
    (S, ["model.in_dim=100000", "model.hidden_dim=2", "data.rotate=true"], "data.rotate"),
    (S, ["data.train_samples=1000000000"], "data.train_samples"),
    (C, ["data.test_samples=1000000000"], "data.test_samples"),
    (S, ["data.online=true", "training.batch_size=1000000000"], "training.batch_size"),
    (S, ["max_steps=2147483647"], "evaluate_every"),
    (S, ["max_steps=2147483647", "evaluate_every=3"], "evaluate_every"),
]


@pytest.mark.parametrize(("schema", "overrides", "key"), TOO_MUCH)
def test_too_much_memory(schema, overrides, key, memory):
    memory(8 * 10**9)
    with pytest.raises(ConfigError, match=rf"^{key}: .* need at least .*B of memory, and there are 8 GB$"):
        config_of(overrides, schema)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model.num_hidden=1000000000"], "model.num_hidden must be at most 10000"),
        (["max_steps=1000000000000000000"], "max_steps must be at most 2147483647"),
        (["evaluate_at={log: 1000000000000}"], "evaluate_at.log must be at most"),
        (["checkpoint_at={log: 1000000000000}"], "checkpoint_at.log must be at most"),
    ],
)
def test_too_many(overrides, told):
    with pytest.raises(ConfigError, match=told):
        check_names(config_of(overrides))


def test_a_basis_of_inputs_is_counted_before_it_is_drawn(memory):
    memory(10**9)
    make_inputs(20_000, "gaussian")
    with pytest.raises(ConfigError, match=r"model.in_dim: the basis of 'power_law' inputs"):
        make_inputs(20_000, "power_law")


def test_the_bounds_are_from_below(memory):
    """What is refused is more than arrays of the weights, drawn and in the run's precision, take by themselves."""
    for dtype, size in (("float32", 4), ("float64", 8)):
        memory(10**9)
        config = config_of(["model.hidden_dim=100", "max_steps=1", f"dtype={dtype}"])
        weights = 5 * 100 + 2 * 100 * 100 + 100 * 5
        memory(weights * (8 + 2 * size))
        check_burden(config)
        memory(weights * (8 + 2 * size) - 1)
        with pytest.raises(ConfigError, match=r"model.hidden_dim"):
            check_burden(config)


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.batch_seed=0..999999999"],
        ["training.batch_seed=0..99999", "training.model_seed=0..9999"],
        ["training.batch_seed=0..9999999999999", "training.model_seed=0..9999999999999"],
        ["training.lr=range(0,1000000000,0.5)"],
        ["training.lr=shuffle(range(0,1000000000))"],
    ],
)
def test_a_sweep_of_too_many_runs(overrides):
    with pytest.raises(ConfigError, match=r"training.*at a time"):
        parse_grid(overrides)


def test_a_sweep_of_too_many_shapes():
    with pytest.raises(ConfigError, match=r"model.hidden_dim: 100,000 combinations"):
        planner(S)(["model.hidden_dim=1..100000"])


def test_what_a_large_machine_holds_is_not_refused(memory):
    memory(10**14)
    for schema, overrides, _ in TOO_MUCH:
        if "1000000000" not in " ".join(overrides) and "1000000" not in " ".join(overrides):
            config_of(overrides, schema)
