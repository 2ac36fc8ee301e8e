"""Optimizers and losses by their torch names."""

import inspect
import json
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from dln.base.values import check_plain
from dln.errors import ConfigError, suggestion

_CLOSURE_OR_SPARSE = {"Optimizer", "LBFGS", "SparseAdam"}
"""Of torch.optim, what a plain loop cannot use: LBFGS re-evaluates the loss, SparseAdam wants sparse gradients."""


@cache
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
    name: str,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    lr: float,
    params: Mapping[str, Any],
    key: str = "training",
) -> torch.optim.Optimizer:
    """Return the torch.optim optimizer called `name`; `key` is the config section to name in an error.

    `parameters` may be torch's groups of them.

    Raises:
        ConfigError: There is no such optimizer, or it does not take these arguments.
    """
    check_optimizer(name, params, key)
    return _construct(getattr(torch.optim, name), [list(parameters)], {"lr": lr, **params}, f"{key}.optimizer_params")


def check_optimizer(name: str, params: Mapping[str, Any], key: str = "training") -> None:
    """Raise ConfigError unless there is such an optimizer, with such arguments, that takes a step."""
    if name not in optimizers():
        raise ConfigError(f"{key}.optimizer: unknown optimizer {name!r}; {suggestion(name, optimizers())}")
    if "lr" in params:
        raise ConfigError(f"{key}.optimizer_params.lr: the learning rate is {key}.lr")
    _check_arguments(getattr(torch.optim, name), params, f"{key}.optimizer_params")
    if params:  # torch checks values, some of them only in a step; importing what that needs takes a second
        fault = _fault_of_steps(name, json.dumps(params, sort_keys=True))
        if fault is not None:
            raise ConfigError(f"{key}.optimizer_params: {name} refuses {dict(params)}: {fault}")


@cache
def _fault_of_steps(name: str, params: str) -> str | None:
    """Return what an optimizer says against its arguments, when it is made or takes a step; None if nothing."""
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = getattr(torch.optim, name)([weight], lr=1.0, **json.loads(params))
            for _ in range(2):
                optimizer.step()
    except Exception as error:
        return " ".join(str(error).split()) or repr(error)
    return None


def build_criterion(name: str, params: Mapping[str, Any], key: str = "training") -> nn.Module:
    """Return the torch.nn loss called `name`; `key` is the config section to name in an error.

    Raises:
        ConfigError: There is no such loss, or it does not take these arguments.
    """
    if name not in criteria():
        raise ConfigError(f"{key}.criterion: unknown criterion {name!r}; {suggestion(name, criteria())}")
    criterion = _construct(getattr(nn, name), [], params, f"{key}.criterion_params")
    try:
        scalar = _of_two_samples(criterion).ndim == 0
    except Exception as error:
        raise ConfigError(
            f"{key}.criterion_params: {name} refuses {dict(params)}: {' '.join(str(error).split())}"
        ) from error
    if not scalar:
        raise ConfigError(f"{key}.criterion_params.reduction: a loss must be one number: 'mean' or 'sum'")
    return criterion


def _construct(cls: type, args: list[Any], params: Mapping[str, Any], key: str) -> Any:
    _check_arguments(cls, params, key)
    try:
        return cls(*args, **params)
    except Exception as error:
        raise ConfigError(f"{key}: {cls.__name__} refuses {dict(params)}: {error}") from error


DEPRECATED = ("size_average", "reduce")
"""Arguments of losses in whose place torch wants `reduction`."""


@cache
def _arguments(cls: type) -> dict[str, inspect.Parameter]:
    """Return what a config may set of an optimizer or a loss."""
    arguments = inspect.signature(cls).parameters.items()
    return {name: parameter for name, parameter in arguments if name not in ("self", "params", "lr", *DEPRECATED)}


def _check_arguments(cls: type, params: Mapping[str, Any], key: str) -> None:
    known = _arguments(cls)
    for name, value in params.items():
        if name == "lr":
            continue
        if name not in known:
            raise ConfigError(f"{key}.{name}: {cls.__name__} has no such argument; {suggestion(name, known)}")
        check_plain(f"{key}.{name}", value)
        if not _like(value, known[name].default):
            kind = _spelled(known[name].default)
            raise ConfigError(f"{key}.{name}: {cls.__name__} takes {kind} here, not {value!r}")


def _like(value: Any, default: Any) -> bool:
    """Whether a value can stand where torch has this default."""
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and len(value) == len(default) and all(map(_like, value, default))
    if default is None:  # a switch that torch sets, or a number that may be left out
        return value is None or isinstance(value, int | float)
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spelled(default: Any) -> str:
    if isinstance(default, tuple):
        return f"a list of {len(default)} numbers"
    if default is None:
        return "null, true, false or a number"
    return "true or false" if isinstance(default, bool) else "a word" if isinstance(default, str) else "a number"


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
