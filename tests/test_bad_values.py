"""Every key and every parameter, given every kind of wrong value: it is fit to run, or one line names the key."""

import dataclasses
import functools
import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from dln import run_experiment
from dln.base import machine
from dln.callbacks import CALLBACKS
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig, fields
from dln.errors import ConfigError
from dln.factory import check_names
from dln.ingredients.initialisations import INITS
from dln.ingredients.inputs import INPUTS
from dln.ingredients.optimizers import build_criterion, check_optimizer, criteria, optimizers
from dln.ingredients.teachers import MATRICES
from dln.kernels.rules import RULES
from dln.measure.events import EVENTS
from dln.metrics import MODEL_METRICS

NAN, INF = math.nan, math.inf
BAD = [
    None,
    True,
    "",
    "x",
    "w" * 5000,
    "\u00fc\n\x1b[31m",
    [],
    [[[]]],
    [1, "x"],
    [NAN],
    {},
    {"a": {"b": [INF]}},
    {1: 2},
]
BAD += [NAN, INF, -INF, -1, 0, 2.5, 10**9, 1e300, -1e300, 10**30, -(10**30), 2**64 - 1, 10**400, b"x", 1j]
PARAMETERS = [None, True, "x", [[[]]], [1, "x"], [NAN], {"a": INF}, {1: 2}, NAN, -1, 0, 2.5, 10**9, -1e300, 10**400]
FEW = [None, "x", [], {}, NAN, -1, 2.5, 10**9, 2**64 - 1]
"""Where there are many cases, or each takes longer."""


@pytest.fixture(autouse=True)
def sixteen_gigabytes(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 16 * 10**9)


def nested(key, value):
    """Return a config that has a value at a dotted key."""
    return functools.reduce(lambda inner, name: {name: inner}, reversed(key.split(".")), value)


def faults(cases, attempt, unnamed=()):
    """Return how cases, (name, value), fail to be either accepted or refused in one line that has the name in it."""
    found = []
    for name, value in cases:
        try:
            attempt(name, value)
        except ConfigError as error:
            told = str(error)
            if "\n" in told or len(told) > 1000 or not told.isprintable():
                found.append((name, value, "no line", told))
            if name.rpartition(".")[2] not in told:
                found.append((name, value, "does not name it", told))
        except Exception as error:
            found.append((name, value, repr(error)))
    return [tuple(str(part)[:150] for part in fault) for fault in found]


def validated(config, schema):
    check_names(resolve(config, schema))


@pytest.mark.long
@pytest.mark.parametrize("section", ["model", "data", "training", ""])
def test_every_key(section):
    keys = [key for key, _ in fields(SingleConfig) if key.rpartition(".")[0] == section]
    keys += [section] if section else []
    cases = [(key, value) for key in keys for value in BAD]
    assert faults(cases, lambda key, value: validated(nested(key, value), SingleConfig)) == []


@pytest.mark.long
def test_every_key_of_a_comparison():
    single = {key for key, _ in fields(SingleConfig)}
    keys = [key for key, _ in fields(ComparativeConfig) if key not in single and "_a" not in key]
    keys = [key for key in keys if not key.startswith("shared.")] + ["shared", "shared.model", "shared.training.lr"]
    cases = [(key, value) for key in keys for value in FEW]
    assert faults(cases, lambda key, value: validated(nested(key, value), ComparativeConfig)) == []


TWO_LAYERS = {"num_hidden": 1, "hidden_dim": 5}

PLACES = {
    "teacher": (MATRICES, lambda name, params: {"data": {"params": {"matrix": name, **params}}}),
    "inputs": (INPUTS, lambda name, params: {"data": {"inputs": name, "inputs_params": params}}),
    "init": (
        INITS,
        lambda name, params: {"model": {"num_hidden": 1, "hidden_dim": 5, "init": name, "init_params": params}},
    ),
    "callback": (CALLBACKS, lambda name, params: {"callbacks": [{"name": name, "params": params}]}),
    "metric": (MODEL_METRICS, lambda name, params: {"metrics": [{"name": name, "params": params}]}),
    "event": (
        EVENTS,
        lambda name, params: {
            "events": [{"name": name, "params": params}],
            "metrics": [column for column in EVENTS.get(name).marks["of"] if column in MODEL_METRICS],
        },
    ),
}

NEEDED = {"values": [1.0] * 5, "norm": 1.0, "lam": 0.5, "factor": 2.0, "max_factor": 2.0, "std": 0.1, "size": 1}
NEEDED |= {"steps": 5, "interval": 5, "period": 4, "step": 3, "batch_size": 5, "schedule": {3: 5}, "largest": 50}
NEEDED |= {"target": 0.1, "patience": 5, "tolerance": 0.1, "seconds": 5.0, "path": "teacher.npy"}
"""Values of parameters that stand beside a bad one."""


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_every_parameter_of_what_is_registered(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("teacher.npy", np.eye(5))
    registry, config = PLACES[place]
    ours = [entry for entry in registry if entry.function.__module__.startswith("dln.")]  # other tests register theirs
    owners = {(entry.name, name): entry for entry in ours for name in entry.parameters or {}}

    def attempt(key, value):
        owner, _, parameter = key.rpartition(".")
        given = owners[owner, parameter].parameters or {}
        needed = {n: NEEDED[n] for n, p in given.items() if n in NEEDED and p.default in (p.empty, None)}
        try:
            validated(config(owner, {**needed, parameter: value}), SingleConfig)
        except ConfigError as error:
            if not str(error).startswith("callbacks[0].params"):  # of a callback that is place enough
                raise

    assert len(owners) > 3
    assert faults([(".".join(key), value) for key in owners for value in PARAMETERS], attempt) == []


def optimizer_cases(names):
    for name in names:
        for argument in inspect.signature(getattr(torch.optim, name)).parameters:
            for value in [*BAD, [0.9], [0.9, 0.9, 0.9], ["a", "b"], [[0.9], 0.9], [0.9, NAN], -1e-8]:
                yield (f"{name}.{argument}", value)


@pytest.mark.long
def test_every_argument_of_every_optimizer():
    """Refused in one line that names it, or steps can be taken."""

    def attempt(key, value):
        name, _, argument = key.partition(".")
        check_optimizer(name, {argument: value})
        weight = torch.nn.Parameter(torch.ones(2, 2))
        optimizer = getattr(torch.optim, name)([weight], lr=0.1, **{argument: value})
        weight.square().sum().backward()
        optimizer.step()

    assert faults(optimizer_cases(optimizers()), attempt) == []


@pytest.mark.long
def test_every_argument_of_every_loss():
    def attempt(key, value):
        name, _, argument = key.partition(".")
        criterion = build_criterion(name, {argument: value})
        assert criterion(torch.zeros(3, 2), torch.ones(3, 2)).ndim == 0

    cases = [(f"{n}.{a}", v) for n in criteria() for a in inspect.signature(getattr(nn, n)).parameters for v in BAD]
    assert faults(cases, attempt) == []


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", sorted(RULES))
def test_both_engines_refuse_the_same_arguments_and_otherwise_agree(optimizer):
    model = {"num_hidden": 0, "hidden_dim": 4}
    base = resolve({"model": model, "training": {"lr": 0.001}, "max_steps": 3, "dtype": "float64"}, SingleConfig)
    accepted = 0
    for key, value in optimizer_cases([optimizer]):
        argument = key.partition(".")[2]
        if argument not in RULES[optimizer].parameters():
            continue
        training = dataclasses.replace(base.training, optimizer=optimizer, optimizer_params={argument: value})
        told = []
        for engine in ("compiled", "autograd"):
            try:
                told.append(run_experiment(dataclasses.replace(base, training=training, engine=engine))["train_loss"])
            except ConfigError as error:
                told.append(str(error))
        if isinstance(told[0], str):
            assert told[0] == told[1]
        else:
            np.testing.assert_allclose(*told, rtol=1e-9)
            accepted += 1
    assert accepted > 3


AT_THE_DOOR = [
    "training.lr=" + "9" * 400,
    "model.init_params=[]",
    "metrics={a: 1}",
    "training.optimizer_params={momentum: nan}",
    "model.hidden_dim=" + "[" * 200 + "]" * 200,
    "training.model_seed=18446744073709551615",
    "max_steps=" + "w" * 5000,
    "callbacks=[{name: lr_decay, params: {factor: 0.5, interval: 3, start: 1" + "0" * 30 + "}}]",
    "max_steps=1000000000000000000",
    "model.hidden_dim=1000000000",
]


@pytest.mark.sampled
@pytest.mark.parametrize("argument", AT_THE_DOOR)
def test_the_door_refuses_it_too(argument, door, tmp_path):
    result = door.run(tmp_path, argument)
    assert (result.status, result.out, result.created) == (2, "", [])
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert len(result.err) < 1000
