"""The edge of stability of an optimizer: the largest eigenvalue of the Hessian at which its steps are stable.

Near a minimum a step is linear, and along an eigenvector of the Hessian, of eigenvalue lambda, it is a recursion of two
terms, whose roots lie inside the unit circle as long as lr gain (lambda + decay) < 1:

    gradient descent            theta <- theta - lr g                              gain 1 / 2
    heavy ball                  b <- beta b + (1 - d) g, theta <- theta - lr b      gain (1 - d) / (2 (1 + beta))
    Nesterov                    b <- beta b + g, theta <- theta - lr (g + beta b)   gain (1 + 2 beta) / (2 (1 + beta))

with d the dampening; weight decay w adds w theta to g, so it adds w to every eigenvalue. The edge of Adam and its like
depends on their preconditioner, which changes with every step: they have no such number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dln.errors import ConfigError


class Optimizer(NamedTuple):
    """What makes the steps of a run: a name in torch.optim, and its arguments beside the learning rate."""

    name: str
    params: Mapping[str, Any]
    lr_factors: Sequence[float] | None = None
    """Factors on the learning rate, layer by layer; None: all are 1."""


class Edge(NamedTuple):
    """The steps are stable where lr gain (lambda + decay) < 1, lambda the largest eigenvalue of the Hessian."""

    gain: float
    decay: float


def edge_of(optimizer: Optimizer) -> Edge:
    """Return the edge of an optimizer.

    Raises:
        ConfigError: It has none that depends on the Hessian only.

    >>> edge_of(Optimizer("SGD", {})), edge_of(Optimizer("SGD", {"momentum": 1 / 3}))
    (Edge(gain=0.5, decay=0.0), Edge(gain=0.375, decay=0.0))
    """
    name, params, factors = optimizer
    if factors is not None:
        raise ConfigError("the edge of stability is that of one learning rate for all layers: set lr_factors=null")
    if name != "SGD" or params.get("maximize"):
        what = name if name != "SGD" else "SGD with maximize=true"
        raise ConfigError(f"the edge of stability is known of SGD only, with or without momentum, not of {what}")
    beta, decay = float(params.get("momentum", 0)), float(params.get("weight_decay", 0))
    dampening = float(params.get("dampening", 0)) if beta else 0.0  # torch looks at it with momentum only
    if not 0 <= beta < 1 or dampening >= 1:
        raise ConfigError("the edge of stability needs a momentum from 0 to 1, 1 excluded, and a dampening below 1")
    pull = 1 + 2 * beta if params.get("nesterov") else 1 - dampening
    return Edge(pull / (2 * (1 + beta)), decay)
