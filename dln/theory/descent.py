"""Gradient descent on a net as a change of one vector of parameters, as integrators and iterations take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from dln.derivatives.hessian import top_eigenvalues
from dln.derivatives.products import Chain
from dln.theory.narrow import narrowed
from dln.theory.theory import Problem, check_condition

if TYPE_CHECKING:
    from jaxtyping import Float64

    Layers = Sequence[Float64[np.ndarray, "p q"]]

LOOKS = np.linspace(0, 1, 9) ** 2
"""When the sharpness of a path is found, as shares of its time: early too, so that what is refused is refused soon."""

STIFF = 10.0
"""The largest lr * sharpness at which a flow is integrated: what that takes grows with it, and the run has diverged."""

ROUNDING = 1e-13
"""Share of a layer's norm that is rounding."""


class Descent:
    """One net that learns: its layers end to end in one vector of parameters, and its gradient descent."""

    def __init__(
        self,
        layers: Layers,
        sigma: Float64[np.ndarray, "in in"],
        sigma_yx: Float64[np.ndarray, "out in"],
        lr: float = 1.0,
    ) -> None:
        """Take initial layers, moments of the data and a learning rate."""
        self.start: Float64[np.ndarray, " P"] = np.concatenate([w.ravel() for w in layers])
        """The initial layers, row by row."""
        self.lr = lr
        self._shapes = [w.shape for w in layers]
        self._cuts = np.cumsum([w.size for w in layers])[:-1]
        self._moments = sigma, sigma_yx

    def layers(self, states: Float64[np.ndarray, "*k P"]) -> list[Float64[np.ndarray, "*k p q"]]:
        """Return the layers that vectors of parameters stand for."""
        parts = np.split(states, self._cuts, -1)
        return [part.reshape(*states.shape[:-1], *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def change(self, state: Float64[np.ndarray, " P"]) -> Float64[np.ndarray, " P"]:
        """Return what a step adds to the parameters, -lr times the gradient."""
        gradients = Chain(self.layers(state)).gradients(*self._moments)
        return -self.lr * np.concatenate([g.ravel() for g in gradients])

    def maps(self, states: Float64[np.ndarray, "*k P"]) -> Float64[np.ndarray, "*k out in"]:
        """Return end-to-end maps."""
        return reduce(lambda before, w: w @ before, self.layers(states))

    def lr_sharpness(self, states: Float64[np.ndarray, "*k P"]) -> Float64[np.ndarray, "*k"]:
        """Return lr times the largest eigenvalue of the Hessian."""
        return self.lr * top_eigenvalues(self.layers(states), *self._moments)[..., 0]

    def watched(self, states: Float64[np.ndarray, "k P"], name: str, limit: float) -> Float64[np.ndarray, " k"]:
        """Return lr times the sharpness; ConfigError of the theory `name` where it is more than it can do with."""
        found = self.lr_sharpness(states)
        told, remedy = "lr * sharpness along its path", "use a smaller training.lr"
        check_condition(name, np.where(np.isnan(found), 0, found), limit, told, remedy)
        return found


def each_run(problem: Problem, layers_of: Callable[[Layers], Layers] = list) -> Iterator[Descent]:
    """Return the runs of a problem one after the other, from what `layers_of` makes of their initial layers."""
    for r in range(len(problem)):
        layers = layers_of([w[r] for w in problem.layers])
        yield Descent(layers, problem.sigma[r], problem.sigma_yx[r], float(problem.lr[r]))


def narrowest(layers: Layers) -> Layers:
    """Return the narrowest layers that learn as these do, to rounding; at a saddle that needs none at all, these."""
    narrow = narrowed(layers, ROUNDING)
    return narrow if all(w.size for w in narrow) else layers
