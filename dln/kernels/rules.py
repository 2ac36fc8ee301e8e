"""Update rules of torch.optim: which are compiled, their parameters, and their vector code."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import types

from dln.errors import ConfigError
from dln.kernels.emitter import Emitter, intrinsic, shared

PLAIN, SGD, NESTEROV, ADAM, ADAMW = range(5)
"""Update rules. PLAIN has no momentum and no weight decay, and is fused into the backward pass."""

HYPER = 8
LR, RATE, DECAY, KEEP, SHARE, NEW, SHRINK, EPS = range(HYPER)
"""Rows of an array of hyperparameters: learning rate; factor of `outer` in training; weight decay; momentum
(Adam: beta2); 1 - dampening (Adam: 1 - beta2); 1 - beta1; 1 - lr * decay; eps. Differences are taken in float64 and
rounded last, as torch does."""


COVERED = {
    "SGD": {"momentum", "dampening", "nesterov", "weight_decay"},
    "Adam": {"betas", "eps", "weight_decay"},
    "AdamW": {"betas", "eps", "weight_decay"},
}
"""torch.optim optimizers, and those of their arguments, that the kernels know."""


@dataclass(frozen=True)
class Rule:
    """An update rule of torch.optim, the same for all members: SGD, Adam or AdamW, with the parameters named as there.

    All are off by default, also AdamW's weight decay.
    """

    name: str = "SGD"
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    @property
    def code(self) -> int:
        """The rule's number in the kernels."""
        if self.name == "SGD":
            if self.momentum == 0 and self.weight_decay == 0:
                return PLAIN
            return NESTEROV if self.nesterov else SGD
        codes = {"Adam": ADAM, "AdamW": ADAMW}
        if self.name not in codes:
            raise ConfigError(f"optimizer {self.name} is not compiled; SGD, Adam and AdamW are")
        return codes[self.name]

    @property
    def hyperparameters(self) -> np.ndarray:
        """What the kernels use beside the learning rate [HYPER], in float64."""
        table = np.zeros(HYPER)
        table[DECAY], table[EPS] = self.weight_decay, self.eps
        if self.name == "SGD":
            table[KEEP], table[SHARE] = self.momentum, 1 - self.dampening
        else:
            beta1, beta2 = self.betas
            table[NEW], table[KEEP], table[SHARE] = 1 - beta1, beta2, 1 - beta2
        return table

    def corrections(self, done: int, updates: int) -> np.ndarray:
        """Return Adam's 1 / (1 - beta1^t) and 1 / sqrt(1 - beta2^t), [updates, 2], of the updates after `done`."""
        if self.name == "SGD":
            return np.zeros((0, 2))
        beta1, beta2 = self.betas
        steps = range(
            done + 1, done + updates + 1
        )  # Python's own power, as in torch: the same digits wherever it is cut
        return np.array([(1 / (1 - beta1**t), (1 - beta2**t) ** -0.5) for t in steps]).reshape(-1, 2)


def make_rule(optimizer: str, optimizer_params: Mapping[str, Any]) -> Rule:
    """Return the update rule of a covered optimizer: its arguments, and torch's defaults for the others."""
    defaults = inspect.signature(getattr(torch.optim, optimizer)).parameters
    settings = {name: defaults[name].default for name in COVERED[optimizer]} | dict(optimizer_params)
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    return Rule(optimizer, **settings)


def _emit_sgd(e: Emitter, w: Any, d: Any, m: Any, hyper: Any, count: Any, first: Any, nesterov: Any) -> None:
    """Emit torch.optim.SGD on `count` units: weights w, gradient d, momentum buffer m."""
    b, zero = e.b, e.int(0)
    lr, decay, momentum, share = (e.coefficient(e.at(hyper, zero, zero, e.int(j))) for j in (LR, DECAY, KEEP, SHARE))
    first, nesterov = (b.icmp_signed("!=", flag, zero) for flag in (first, nesterov))
    buffered = b.fcmp_ordered("!=", momentum, e.zero)  # torch keeps no buffer without momentum, and ignores dampening
    with e.units(zero, count) as (k, _):
        at_w, at_d, at_m = (e.at(array, zero, zero, k) for array in (w, d, m))
        x = e.load(at_w)
        u = b.fadd(e.load(at_d), b.fmul(decay, x))
        v = b.select(first, u, b.fadd(b.fmul(momentum, e.load(at_m)), b.fmul(share, u)))
        v = b.select(buffered, v, u)
        e.store(v, at_m)
        v = b.select(nesterov, b.fadd(u, b.fmul(momentum, v)), v)
        e.store(b.fsub(x, b.fmul(lr, v)), at_w)


def _emit_adam(
    e: Emitter, w: Any, d: Any, m: Any, q: Any, hyper: Any, correction: Any, count: Any, decoupled: Any
) -> None:
    """Emit torch.optim.Adam, or AdamW (decoupled), on `count` units: weights w, gradient d, running moments m and q.

    correction: lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t), one unit each.

    Where a product overflows it is taken in torch's order, (new2 u) u and (rate mean) / bottom, and overflows as there.
    """
    b, zero = e.b, e.int(0)
    decay, beta2, new2, new1, shrink, eps = (
        e.coefficient(e.at(hyper, zero, zero, e.int(j))) for j in (DECAY, KEEP, SHARE, NEW, SHRINK, EPS)
    )
    rate, root = (e.coefficient(e.at(correction, zero, zero, e.int(j))) for j in (0, 1))
    decoupled = b.icmp_signed("!=", decoupled, zero)

    def overflown(x: Any) -> Any:
        return b.fcmp_unordered("!=", b.fsub(x, x), e.zero)

    with e.units(zero, count) as (k, _):
        at_w, at_d, at_m, at_q = (e.at(array, zero, zero, k) for array in (w, d, m, q))
        x, u, mean, square = e.load(at_w), e.load(at_d), e.load(at_m), e.load(at_q)
        u = b.select(decoupled, u, b.fadd(u, b.fmul(decay, x)))
        x = b.select(decoupled, b.fmul(x, shrink), x)
        mean = e.muladd(new1, b.fsub(u, mean), mean)
        power = b.fmul(u, u)
        power = b.select(overflown(power), b.fmul(b.fmul(new2, u), u), b.fmul(new2, power))
        square = b.fadd(b.fmul(beta2, square), power)
        e.store(mean, at_m)
        e.store(square, at_q)
        bottom = e.muladd(b.call(e.sqrt, [square]), root, eps)
        far = b.fmul(rate, mean)
        step = b.select(overflown(far), b.fdiv(far, bottom), b.fmul(rate, b.fdiv(mean, bottom)))
        e.store(b.fsub(x, step), at_w)


@intrinsic
def sgd(typingctx, w, at_w, d, at_d, m, at_m, hyper, at, count, first, nesterov):
    """One update of torch.optim.SGD."""
    return types.void(w, at_w, d, at_d, m, at_m, hyper, at, count, first, nesterov), shared(_emit_sgd)


@intrinsic
def adam(typingctx, w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count, decoupled):
    """One update of torch.optim.Adam or AdamW."""
    kinds = (w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count, decoupled)
    return types.void(*kinds), shared(_emit_adam)
