"""Optimizers and losses by name."""

import pytest
import torch

from dln.errors import ConfigError
from dln.ingredients.optimizers import build_criterion, build_optimizer, criteria, optimizers


def weight():
    return [torch.nn.Parameter(torch.ones(2, 2))]


@pytest.mark.parametrize("name", optimizers())
def test_every_optimizer_listed_can_take_a_plain_step(name):
    (w,) = parameters = weight()
    optimizer = build_optimizer(name, parameters, 0.1, {})
    assert type(optimizer) is getattr(torch.optim, name)
    w.square().sum().backward()
    optimizer.step()
    assert not torch.equal(w, torch.ones(2, 2))


def test_the_losses_of_regression_are_listed_and_arguments_reach_them():
    assert {"MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss"} <= set(criteria())
    loss = build_criterion("HuberLoss", {"delta": 2.0})
    assert loss(torch.tensor([10.0]), torch.tensor([0.0])) == 2.0 * (10 - 1.0)
    optimizer = build_optimizer("SGD", weight(), 0.1, {"momentum": 0.9, "nesterov": True})
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("SDG", {}, r"training.optimizer: unknown optimizer 'SDG'; did you mean 'SGD'"),
        ("LBFGS", {}, "unknown optimizer 'LBFGS'"),
        ("SGD", {"momentun": 0.9}, r"optimizer_params.momentun: SGD has no such argument; did you mean 'momentum'"),
        ("SGD", {"lr": 0.1}, "the learning rate is training.lr"),
        ("SGD", {"momentum": -1}, "Invalid momentum"),
    ],
)
def test_bad_optimizers_are_refused_by_name(name, params, named):
    with pytest.raises(ConfigError, match=named):
        build_optimizer(name, weight(), 0.1, params)


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("MSLoss", {}, "unknown criterion 'MSLoss'; did you mean 'MSELoss'"),
        ("MSELoss", {"reduce_": 1}, "criterion_params.reduce_"),
        ("MSELoss", {"reduction": "none"}, "one number"),
        ("TripletMarginLoss", {}, "unknown criterion"),
    ],
)
def test_bad_losses_are_refused_by_name(name, params, named):
    with pytest.raises(ConfigError, match=named):
        build_criterion(name, params)
