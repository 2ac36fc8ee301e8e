"""How a network answers to small displacements of its weights, to second order: what moments of SGD are made of.

A displacement V moves B_l, A_l and the end-to-end map W by dB_l, dA_l and dW (A_l, B_l as in
`dln.derivatives.products`), and G by dG = (2 / d_out) dW Sigma. All of these are thin, whatever the width, so that what
is asked of many displacements at once costs little beside the displacements themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from dln.derivatives.products import Chain

if TYPE_CHECKING:
    from jaxtyping import Float64

Layers = list["Float64[np.ndarray, 'p q']"]
Directions = Sequence["Float64[np.ndarray, 'K p q']"]


class Response:
    """The first derivatives of one network along K displacements V_k, and sums of the second ones over pairs."""

    def __init__(
        self,
        chain: Chain,
        sigma: Float64[np.ndarray, "in in"],
        error: Float64[np.ndarray, "out in"],
        directions: Directions,
    ) -> None:
        """Take the layers, Sigma, G, and the displacements, layer by layer."""
        self.chain, self._sigma, self._directions = chain, sigma, directions
        self.error = error
        """G."""
        count, depth = len(directions[0]), len(chain)
        self.below: list[Float64[np.ndarray, "K q in"]] = [np.zeros((count, *chain.below[0].shape))]
        """dB_l."""
        for v, w, b in zip(directions[:-1], chain.layers, chain.below, strict=False):
            self.below.append(_right(v, b) + w @ self.below[-1])
        self._pulled = [a @ v for a, v in zip(chain.above, directions, strict=True)]  # A_l V_l
        self.above: list[Float64[np.ndarray, "K out p"]] = [np.zeros((count, *chain.above[-1].shape))]
        """dA_l."""
        for i in reversed(range(1, depth)):
            self.above.insert(0, _right(self.above[0], chain.layers[i]) + self._pulled[i])
        self.map: Float64[np.ndarray, "K out in"] = _right(self.above[0], chain.layers[0]) + self._pulled[0]
        """dW."""
        self.change: Float64[np.ndarray, "K out in"] = 2 / chain.outputs * _right(self.map, sigma)
        """dG."""

    def moved(self, direction: Layers) -> Float64[np.ndarray, "out in"]:
        """Return dW of one displacement."""
        parts = zip(self.chain.above, direction, self.chain.below, strict=True)
        return reduce(np.add, [a @ v @ b for a, v, b in parts])

    def hessian(self) -> list[Float64[np.ndarray, "K p q"]]:
        """Return H V_k: dA_l' G B_l' + A_l' dG B_l' + A_l' G dB_l'."""
        found = []
        for a, b, da, db in zip(self.chain.above, self.chain.below, self.above, self.below, strict=True):
            columns = np.concatenate([a.T, a.T @ self.error], 1)
            rows = np.concatenate([_right(self.change, b.T), db.mT], 1)
            found.append(columns @ rows + _right(np.ascontiguousarray(da.mT), self.error @ b.T))
        return found

    def slopes(self) -> Float64[np.ndarray, " K"]:
        """Return g . V_k = <G, dW>."""
        return _flat(self.map) @ self.error.ravel()

    def curvatures(self) -> Float64[np.ndarray, "K K"]:
        """Return V_j' H V_k = <dW_j, dG_k> + <G, D^2 W[V_j, V_k]>, D^2 W = sum_l A_l V_l dB_l, and j, k swapped."""
        half = _flat(self.map) @ _flat(self.change).T / 2
        for pulled, db in zip(self._pulled, self.below, strict=True):
            half += _flat(pulled) @ _flat(self.error @ db.mT).T
        return half + half.T

    def overlaps(self) -> Float64[np.ndarray, "K K"]:
        """Return <dW_j, dW_k>."""
        return _flat(self.map) @ _flat(self.map).T

    def scatter(self, weights: Float64[np.ndarray, "K K"]) -> Float64[np.ndarray, "in in"]:
        """Return sum_jk weights_jk dW_j' dW_k."""
        return np.tensordot(self.map, _mixed(weights, self.map), ((0, 1), (0, 1)))

    def second(self, weights: Float64[np.ndarray, "K K"]) -> tuple[Layers, Float64[np.ndarray, "out in"]]:
        """Return D^3 L[P] and D^2 W[P] of P = sum_jk weights_jk V_j V_k', weights symmetric.

        The loss' third derivative twice along displacements is the second one of the gradients A_l' G B_l':
        D^2 A' G B' + A' D^2 G B' + A' G D^2 B' + 2 (dA' dG B' + dA' G dB' + A' dG dB'), summed over pairs.
        """
        chain, sigma, g = self.chain, self._sigma, self.error
        spread = [_mixed(weights, db) for db in self.below]
        d_error = _mixed(weights, self.change)
        below = [np.zeros_like(chain.below[0])]  # D^2 B_l
        for v, w, db in zip(self._directions[:-1], chain.layers, spread, strict=False):
            below.append(2 * (v @ db).sum(0) + w @ below[-1])
        twice = 2 * (self._pulled[-1] @ spread[-1]).sum(0) + chain.layers[-1] @ below[-1]  # D^2 W
        bent = 2 / chain.outputs * twice @ sigma  # D^2 G
        above = np.zeros_like(chain.above[-1])  # D^2 A_l
        found: Layers = []
        for i in reversed(range(len(chain))):
            a, b, da = chain.above[i], chain.below[i], self.above[i]
            mixed = np.tensordot(da, d_error @ b.T + g @ spread[i].mT, ((0, 1), (0, 1)))
            mixed += a.T @ np.tensordot(d_error, self.below[i], ((0, 2), (0, 2)))
            found.insert(0, above.T @ g @ b.T + a.T @ (bent @ b.T + g @ below[i].T) + 2 * mixed)
            above = (
                2 * np.tensordot(_mixed(weights, da), self._directions[i], ((0, 2), (0, 1))) + above @ chain.layers[i]
            )
        return found, twice

    def varied(self, errors: Float64[np.ndarray, "K out in"], sigmas: Float64[np.ndarray, "K in in"]) -> Layers:
        """Return sum_k H_k V_k, H_k the Hessian with `errors`_k in place of G and `sigmas`_k in place of Sigma."""
        change = 2 / self.chain.outputs * (self.map @ sigmas).sum(0)
        found = []
        for a, b, da, db in zip(self.chain.above, self.chain.below, self.above, self.below, strict=True):
            first = np.tensordot(da, errors, ((0, 1), (0, 1))) @ b.T
            found.append(first + a.T @ (change @ b.T + np.tensordot(errors, db, ((0, 2), (0, 2)))))
        return found


def units(chain: Chain) -> list[Float64[np.ndarray, "K p q"]]:
    """Return the gradients A_l' M B_l' with each of the K = d_out d_in unit matrices M, row by row, in place of G."""
    outer = [a[:, None, :, None] * b.T[None, :, None, :] for a, b in zip(chain.above, chain.below, strict=True)]
    return [part.reshape(-1, *part.shape[2:]) for part in outer]


def _right(stack: Float64[np.ndarray, "K p q"], matrix: Float64[np.ndarray, "q n"]) -> Float64[np.ndarray, "K p n"]:
    """Return stack @ matrix, as one product."""
    return (stack.reshape(-1, stack.shape[-1]) @ matrix).reshape(*stack.shape[:-1], matrix.shape[-1])


def _flat(stack: Float64[np.ndarray, "K p q"]) -> Float64[np.ndarray, "K n"]:
    return stack.reshape(len(stack), int(np.prod(stack.shape[1:])))


def _mixed(weights: Float64[np.ndarray, "J K"], stack: Float64[np.ndarray, "K p q"]) -> Float64[np.ndarray, "J p q"]:
    """Return the sums over k of weights_jk stack_k."""
    return (weights @ _flat(stack)).reshape(len(weights), *stack.shape[1:])
