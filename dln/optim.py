"""Optimizers and losses by their torch names."""

import inspect
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from dln.errors import ConfigError, suggestion

_CLOSURE_OR_SPARSE = {"Optimizer", "LBFGS", "SparseAdam"}
"""Of torch.optim, what a plain loop cannot use: LBFGS re-evaluates the loss, SparseAdam wants sparse gradients."""


def optimizers() -> list[str]:
    """Names of the torch.optim optimizers a run can use."""
    classes = inspect.getmembers(torch.optim, inspect.isclass)
    return [n for n, c in classes if issubclass(c, torch.optim.Optimizer) and n not in _CLOSURE_OR_SPARSE]


@cache
def criteria() -> list[str]:
    """Names of the torch.nn losses that compare outputs [B, out] with targets [B, out]."""
    classes = inspect.getmembers(nn, inspect.isclass)
    return [name for name, c in classes if name.endswith("Loss") and _compares(c)]


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, params: Mapping[str, Any], key: str = "training"
) -> torch.optim.Optimizer:
    """Return the torch.optim optimizer called `name`; `key` is the config section to name in an error."""
    check_optimizer(name, params, key)
    return _construct(getattr(torch.optim, name), [list(parameters)], {"lr": lr, **params}, f"{key}.optimizer_params")


def check_optimizer(name: str, params: Mapping[str, Any], key: str = "training") -> None:
    """Raise ConfigError unless there is such an optimizer, with such arguments; their values torch checks."""
    if name not in optimizers():
        raise ConfigError(f"{key}.optimizer: unknown optimizer {name!r}; {suggestion(name, optimizers())}")
    if "lr" in params:
        raise ConfigError(f"{key}.optimizer_params.lr: the learning rate is {key}.lr")
    _check_arguments(getattr(torch.optim, name), params, f"{key}.optimizer_params")


def build_criterion(name: str, params: Mapping[str, Any], key: str = "training") -> nn.Module:
    """Return the torch.nn loss called `name`; `key` is the config section to name in an error."""
    if name not in criteria():
        raise ConfigError(f"{key}.criterion: unknown criterion {name!r}; {suggestion(name, criteria())}")
    criterion = _construct(getattr(nn, name), [], params, f"{key}.criterion_params")
    try:
        scalar = _of_two_samples(criterion).ndim == 0
    except Exception as error:
        raise ConfigError(f"{key}.criterion_params: {name} refuses {dict(params)}: {error}") from error
    if not scalar:
        raise ConfigError(f"{key}.criterion_params.reduction: a loss must be one number: 'mean' or 'sum'")
    return criterion


def _construct(cls: type, args: list[Any], params: Mapping[str, Any], key: str) -> Any:
    _check_arguments(cls, params, key)
    try:
        return cls(*args, **params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {cls.__name__} refuses {dict(params)}: {error}") from error


def _check_arguments(cls: type, params: Mapping[str, Any], key: str) -> None:
    known = [n for n in inspect.signature(cls).parameters if n not in ("self", "params", "lr")]
    for name in params:
        if name != "lr" and name not in known:
            raise ConfigError(f"{key}.{name}: {cls.__name__} has no such argument; {suggestion(name, known)}")


def _compares(loss: Any) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on losses that nobody asked for
            return _of_two_samples(loss()).ndim == 0
    except Exception:  # it needs arguments, class labels, a third tensor: no loss for regression
        return False


def _of_two_samples(criterion: nn.Module) -> Tensor:
    """The loss of outputs that are neither probabilities nor classes."""
    return criterion(torch.full((2, 3), -1.5), torch.full((2, 3), 2.5))
