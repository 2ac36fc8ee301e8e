"""What the compiled engine can train; everything else is the autograd engine's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dln.callbacks import Callback, callback_name
from dln.kernels.state import Rule

COVERED = {
    "SGD": {"momentum", "dampening", "nesterov", "weight_decay"},
    "Adam": {"betas", "eps", "weight_decay"},
    "AdamW": {"betas", "eps", "weight_decay"},
}
"""torch.optim optimizers, and those of their arguments, that the kernels know."""


def why_not(
    optimizer: str,
    optimizer_params: Mapping[str, Any],
    criterion: str,
    criterion_params: Mapping[str, Any],
    device: torch.device,
    callbacks: Sequence[Callback],
) -> str | None:
    """Return why these settings need the autograd engine, or None if the compiled one covers them.

    >>> why_not("SGD", {"momentum": 0.9}, "MSELoss", {}, torch.device("cpu"), [])
    >>> why_not("RMSprop", {}, "MSELoss", {}, torch.device("cpu"), [])
    'optimizer RMSprop'
    """
    if optimizer not in COVERED:
        return f"optimizer {optimizer}"
    for name in optimizer_params:
        if name not in COVERED[optimizer]:
            return f"optimizer_params.{name}"
    if criterion != "MSELoss":
        return f"criterion {criterion}"
    if criterion_params.get("reduction", "mean") != "mean" or set(criterion_params) - {"reduction"}:
        return f"criterion_params {dict(criterion_params)}"
    if device.type != "cpu":
        return f"device {device}"
    for callback in callbacks:
        if getattr(callback, "steps", None) is None:
            return f"callback {callback_name(callback)!r}, which does not declare its steps (dln.timeline.acting_at)"
    return None


def make_rule(optimizer: str, optimizer_params: Mapping[str, Any]) -> Rule:
    """Return the update rule of a covered optimizer: its arguments, and torch's defaults for the others."""
    defaults = inspect.signature(getattr(torch.optim, optimizer)).parameters
    settings = {name: defaults[name].default for name in COVERED[optimizer]} | dict(optimizer_params)
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    return Rule(optimizer, **settings)
