"""Update rules of torch.optim that are compiled, each whole: its parameters, its state, its vector code.

A rule is three things side by side: a `Rule` with torch's name, parameters and defaults; a NamedTuple of the arrays
that it keeps beside the weights, called as torch calls them, whose type tells the kernels which rule they are compiled
for; and `step`, its code. To add one, write these here, and an example in tests/kernels/test_training.py: coverage and
checks follow from `RULES`.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numba import types
from numba.extending import overload

from dln.errors import ConfigError
from dln.kernels.emitter import Emitter, intrinsic, shared

HYPER = 8
LR, RATE, DECAY, KEEP, SHARE, NEW, SHRINK, EPS = range(HYPER)
"""Rows of an array of hyperparameters: learning rate; factor of `outer` in training; weight decay; momentum
(Adam, Adamax: beta2); 1 - dampening (Adam: 1 - beta2); 1 - beta1; 1 - lr * decay; eps. Differences are taken in float64
and rounded last, as torch does."""

Buffers = type[Any]
"""The NamedTuple of a rule's arrays, as a type."""

RULES: dict[str, type[Rule]] = {}
"""Compiled optimizers by their names in torch.optim."""


@dataclass(frozen=True)
class Rule(ABC):
    """An update rule, the same for all members; its fields are torch's arguments with torch's defaults."""

    name: ClassVar[str]
    """Its name in torch.optim."""

    weight_decay: float = 0.0

    def __init_subclass__(cls) -> None:
        RULES[cls.name] = cls

    @property
    @abstractmethod
    def buffers(self) -> Buffers | None:
        """What it keeps of every weight, array by array; None: nothing, and the update is made with the gradient."""

    @property
    def variant(self) -> int:
        """What its code is told to tell apart rules that share it."""
        return 0

    @property
    @abstractmethod
    def hyperparameters(self) -> np.ndarray:
        """What the kernels use beside the learning rate [HYPER], in float64."""

    def corrections(self, done: int, updates: int) -> np.ndarray:
        """Return factors of the updates after `done` [updates, 2], of the learning rate and of a root; or [0, 2]."""
        return np.zeros((0, 2))

    @property
    def arguments(self) -> dict[str, Any]:
        """Its parameters, by torch's names."""
        return dataclasses.asdict(self)

    @classmethod
    def parameters(cls) -> list[str]:
        """Names of torch's arguments that it knows."""
        return [item.name for item in dataclasses.fields(cls)]


def make_rule(optimizer: str, optimizer_params: Mapping[str, Any]) -> Rule:
    """Return the update rule of a compiled optimizer: its arguments, and torch's defaults for the others.

    Raises:
        ConfigError: It is not compiled.

    >>> make_rule("Adam", {"betas": [0.5, 0.75]}).corrections(0, 2).tolist()[0]
    [2.0, 2.0]
    """
    if optimizer not in RULES:
        raise ConfigError(f"optimizer {optimizer} is not compiled; {', '.join(sorted(RULES))} are")
    rule, defaults = RULES[optimizer], inspect.signature(getattr(torch.optim, optimizer)).parameters
    settings = {name: defaults[name].default for name in rule.parameters()} | dict(optimizer_params)
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    return rule(**settings)


def step(buffers, m, w, at, d, own, at_own, z, at_z, count, first, variant):
    """Make one update of some weights of member or pack m, in kernels.

    Args:
        buffers: The rule's arrays, like all weights; a NamedTuple, whose type chooses the code.
        m: The member or pack.
        w: Its weights.
        at: Where in `w`, and in the rule's arrays, the weights are that are updated.
        d: Their gradient.
        own: Its hyperparameters.
        at_own: Where in `own` those of the layer are [HYPER].
        z: At `at_z`, lr times the first of `corrections`, and the second.
        at_z: See z.
        count: How many weights, in units.
        first: Whether it is the first update of all.
        variant: The rule's.
    """


_CODE: dict[type, Callable[..., Any]] = {}
"""What `step` is, by the type of the buffers."""


def _code(buffers: type) -> Callable[[Callable], Callable]:
    def register(function: Callable) -> Callable:
        _CODE[buffers] = function
        return function

    return register


@overload(step)
def _step(buffers, m, w, at, d, own, at_own, z, at_z, count, first, variant):
    return _CODE[buffers.instance_class]


# --- SGD --------------------------------------------------------------------------------------------------------------


class SGDBuffers(NamedTuple):
    """The momentum."""

    momentum_buffer: np.ndarray


@dataclass(frozen=True)
class SGD(Rule):
    """torch.optim.SGD; without momentum and weight decay it is fused into the backward pass."""

    name = "SGD"

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def buffers(self) -> Buffers | None:
        """The momentum, if there is any; weight decay takes the same code."""
        return None if self.momentum == 0 and self.weight_decay == 0 else SGDBuffers

    @property
    def variant(self) -> int:
        """1 is Nesterov's."""
        return int(self.nesterov)

    @property
    def hyperparameters(self) -> np.ndarray:
        """Weight decay, momentum, 1 - dampening."""
        table = np.zeros(HYPER)
        table[DECAY], table[KEEP], table[SHARE], table[EPS] = self.weight_decay, self.momentum, 1 - self.dampening, 1
        return table


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


@intrinsic
def sgd(typingctx, w, at_w, d, at_d, m, at_m, hyper, at, count, first, nesterov):
    """One update of torch.optim.SGD."""
    return types.void(w, at_w, d, at_d, m, at_m, hyper, at, count, first, nesterov), shared(_emit_sgd)


@_code(SGDBuffers)
def _sgd_step(buffers, m, w, at, d, own, at_own, z, at_z, count, first, variant):
    sgd(w, at, d, 0, buffers.momentum_buffer[m], at, own, at_own, count, first, variant)


# --- Adam and AdamW ---------------------------------------------------------------------------------------------------


class AdamBuffers(NamedTuple):
    """Running means of gradients and of their squares."""

    exp_avg: np.ndarray
    exp_avg_sq: np.ndarray


@dataclass(frozen=True)
class Adam(Rule):
    """torch.optim.Adam."""

    name = "Adam"

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    @property
    def buffers(self) -> Buffers | None:
        """Running means of gradients and of their squares."""
        return AdamBuffers

    @property
    def hyperparameters(self) -> np.ndarray:
        """Weight decay, the betas' parts, eps."""
        table, (beta1, beta2) = np.zeros(HYPER), self.betas
        table[DECAY], table[EPS] = self.weight_decay, self.eps
        table[NEW], table[KEEP], table[SHARE] = 1 - beta1, beta2, 1 - beta2
        return table

    def corrections(self, done: int, updates: int) -> np.ndarray:
        """Return 1 / (1 - beta1^t) and 1 / sqrt(1 - beta2^t), [updates, 2], of the updates t after `done`."""
        beta1, beta2 = self.betas
        steps = range(done + 1, done + updates + 1)
        # Python's own power, as in torch: the same digits wherever it is cut
        return np.array([(1 / (1 - beta1**t), (1 - beta2**t) ** -0.5) for t in steps]).reshape(-1, 2)


@dataclass(frozen=True)
class AdamW(Adam):
    """torch.optim.AdamW: weight decay is no part of the gradient."""

    name = "AdamW"

    @property
    def variant(self) -> int:
        """1: decay is decoupled."""
        return 1


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
def adam(typingctx, w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count, decoupled):
    """One update of torch.optim.Adam or AdamW."""
    kinds = (w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count, decoupled)
    return types.void(*kinds), shared(_emit_adam)


@_code(AdamBuffers)
def _adam_step(buffers, m, w, at, d, own, at_own, z, at_z, count, first, variant):
    adam(w, at, d, 0, buffers.exp_avg[m], at, buffers.exp_avg_sq[m], at, own, at_own, z, at_z, count, variant)


# --- Adamax -----------------------------------------------------------------------------------------------------------


class AdamaxBuffers(NamedTuple):
    """Running mean of gradients, and the largest of them of late."""

    exp_avg: np.ndarray
    exp_inf: np.ndarray


@dataclass(frozen=True)
class Adamax(Adam):
    """torch.optim.Adamax: Adam with the largest gradient, which fades by beta2 a step, in place of the root."""

    name = "Adamax"

    @property
    def buffers(self) -> Buffers | None:
        """Running mean of gradients, and the largest of them of late."""
        return AdamaxBuffers


def _emit_adamax(e: Emitter, w: Any, d: Any, m: Any, q: Any, hyper: Any, correction: Any, count: Any) -> None:
    """Emit torch.optim.Adamax on `count` units: weights w, gradient d, running mean m, largest gradient q."""
    b, zero = e.b, e.int(0)
    decay, beta2, new1, eps = (e.coefficient(e.at(hyper, zero, zero, e.int(j))) for j in (DECAY, KEEP, NEW, EPS))
    rate = e.coefficient(e.at(correction, zero, zero, zero))
    with e.units(zero, count) as (k, _):
        at_w, at_d, at_m, at_q = (e.at(array, zero, zero, k) for array in (w, d, m, q))
        x, mean, largest = e.load(at_w), e.load(at_m), e.load(at_q)
        u = b.fadd(e.load(at_d), b.fmul(decay, x))
        mean = e.muladd(new1, b.fsub(u, mean), mean)
        size = b.fadd(b.select(b.fcmp_ordered("<", u, e.zero), b.fneg(u), u), eps)
        faded = b.fmul(beta2, largest)
        largest = b.select(b.fcmp_unordered("<=", size, faded), faded, size)  # NaN stays NaN: of `size`, by the mean
        e.store(mean, at_m)
        e.store(largest, at_q)
        e.store(b.fsub(x, b.fdiv(b.fmul(rate, mean), largest)), at_w)


@intrinsic
def adamax(typingctx, w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count):
    """One update of torch.optim.Adamax."""
    kinds = (w, at_w, d, at_d, m, at_m, q, at_q, hyper, at, correction, at_correction, count)
    return types.void(*kinds), shared(_emit_adamax)


@_code(AdamaxBuffers)
def _adamax_step(buffers, m, w, at, d, own, at_own, z, at_z, count, first, variant):
    adamax(w, at, d, 0, buffers.exp_avg[m], at, buffers.exp_inf[m], at, own, at_own, z, at_z, count)
