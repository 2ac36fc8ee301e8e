"""Optimizers and losses by their torch names."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from dln.errors import ConfigError, suggestion

_CLOSURE_OR_SPARSE = {"Optimizer", "LBFGS", "SparseAdam"}
"""Of torch.optim, what a plain loop cannot use: LBFGS re-evaluates the loss, SparseAdam wants sparse gradients."""


def optimizers() -> list[str]:
    """Names of the torch.optim optimizers a run can use."""
    classes = inspect.getmembers(torch.optim, inspect.isclass)
    return [n for n, c in classes if issubclass(c, torch.optim.Optimizer) and n not in _CLOSURE_OR_SPARSE]


def criteria() -> list[str]:
    """Names of the torch.nn losses that take (output, target)."""
    return [n for n, c in inspect.getmembers(nn, inspect.isclass) if n.endswith("Loss") and _takes_output_and_target(c)]


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, params: Mapping[str, Any], key: str = "training"
) -> torch.optim.Optimizer:
    """Return the torch.optim optimizer called `name`; `key` is the config section to name in an error."""
    if name not in optimizers():
        raise ConfigError(f"{key}.optimizer: unknown optimizer {name!r}; {suggestion(name, optimizers())}")
    if "lr" in params:
        raise ConfigError(f"{key}.optimizer_params.lr: the learning rate is {key}.lr")
    return _construct(getattr(torch.optim, name), [list(parameters)], {"lr": lr, **params}, f"{key}.optimizer_params")


def build_criterion(name: str, params: Mapping[str, Any], key: str = "training") -> nn.Module:
    """Return the torch.nn loss called `name`; `key` is the config section to name in an error."""
    if name not in criteria():
        raise ConfigError(f"{key}.criterion: unknown criterion {name!r}; {suggestion(name, criteria())}")
    criterion = _construct(getattr(nn, name), [], params, f"{key}.criterion_params")
    if getattr(criterion, "reduction", "mean") == "none":
        raise ConfigError(f"{key}.criterion_params.reduction: a loss must be one number: 'mean' or 'sum', not 'none'")
    return criterion


def _construct(cls: type, args: list[Any], params: Mapping[str, Any], key: str) -> Any:
    known = [n for n in inspect.signature(cls).parameters if n not in ("self", "params", "lr")]
    for name in params:
        if name != "lr" and name not in known:
            raise ConfigError(f"{key}.{name}: {cls.__name__} has no such argument; {suggestion(name, known)}")
    try:
        return cls(*args, **params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {cls.__name__} refuses {dict(params)}: {error}") from error


def _takes_output_and_target(loss: Any) -> bool:
    parameters = list(inspect.signature(loss.forward).parameters.values())[1:]
    return len([p for p in parameters if p.default is p.empty]) == 2
