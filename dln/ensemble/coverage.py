"""What the compiled engine can train; everything else is the autograd engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dln.kernels.rules import RULES
from dln.subject import Callback, callback_name


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
    if optimizer not in RULES:
        return f"optimizer {optimizer}"
    for name in optimizer_params:
        if name not in RULES[optimizer].parameters():
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
