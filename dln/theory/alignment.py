"""How near a start is to the one that theories of single modes speak of: aligned, balanced, and inputs white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.derivatives.products import Chain
from dln.theory.conditions import whitening_gap
from dln.theory.theory import Problem, check_condition

if TYPE_CHECKING:
    from jaxtyping import Float64

NEAR = 0.1
"""How far from its conditions a theory of single modes is still of use: it runs, and says how far."""

EQUAL = 1e-6
"""Singular values that differ by less, as a share of the largest, are equal: those of float32 data are."""


@dataclass(frozen=True)
class Modes:
    """The singular modes of the least-squares map W*, in which the start is as diagonal as can be; k = min(out, in)."""

    left: Float64[np.ndarray, "R out k"]
    right: Float64[np.ndarray, "R k in"]
    strength: Float64[np.ndarray, "R k"]
    """Singular values of W*, largest first."""
    start: Float64[np.ndarray, "R k"]
    """Strengths u_i' W v_i of the initial map."""
    alignment_gap: Float64[np.ndarray, " R"]
    """||what of the initial map is not diagonal||_F / ||the initial map||_F; 0 of a start at zero."""

    def maps(self, strengths: Float64[np.ndarray, "R T k"]) -> Float64[np.ndarray, "R T out in"]:
        """Return the maps that have these strengths, and nothing beside the modes."""
        return (self.left[:, None] * strengths[:, :, None]) @ self.right[:, None]


@uniform()
def modes_of(problem: Problem) -> Modes:
    """Return the modes of W* and the strengths that the initial map has in them.

    Where singular values of W* are equal its vectors are free, and are turned so that the initial map is diagonal: by
    one rotation on both sides, or by one on either side where they are zero.
    """
    found = [_modes(start, optimum) for start, optimum in zip(problem.start, problem.optimum, strict=True)]
    return Modes(*(np.stack(parts) for parts in zip(*found, strict=True)))


@uniform()
def alignment_conditions(name: str, problem: Problem, modes: Modes) -> dict[str, Float64[np.ndarray, " R"]]:
    """Return how far from aligned, balanced and white each run is, or refuse those that are far from it.

    Raises:
        ConfigError: One of these is more than `NEAR`; it says what to do.
    """
    balance, white = seen_balance_gap(problem), whitening_gap(problem.sigma)
    what = "an alignment gap, the share of the initial map that is off the modes of W*,"
    check_condition(name, modes.alignment_gap, NEAR, what, "start with model.init=aligned")
    what = "a balance gap, max ||W_{l+1}'W_{l+1} - W_l W_l'|| / max ||W_l||^2,"
    check_condition(name, balance, NEAR, what, "start with model.init=aligned or balanced")
    remedy = "use data.whiten=true, or isotropic inputs and data.online=true"
    check_condition(name, white, NEAR, "a whitening gap, max |Sigma - I|,", remedy)
    return {"alignment_gap": modes.alignment_gap, "balance_gap": balance, "whitening_gap": white}


def seen_balance_gap(problem: Problem) -> Float64[np.ndarray, " R"]:
    """Return the balance gap of D_l = W_{l+1}'W_{l+1} - W_l W_l' as far as it is seen, which is what moves the map.

    That is the largest of ||A_{l+1} D_l|| / ||A_{l+1}|| and ||D_l B_{l+1}|| / ||B_{l+1}||, where B_{l+1} is what comes
    to D_l and A_{l+1} what goes on from it, as a share of the largest ||W_l||_F^2. Hidden units that no input reaches
    and no output hears take no part: the identity through wide layers counts as balanced.
    """
    chain = Chain(problem.layers)
    largest = np.max([_norm(w) ** 2 for w in chain.layers], 0)
    gaps = [np.zeros(len(problem))]
    for after, before, above, below in zip(chain.layers[1:], chain.layers, chain.above, chain.below[1:], strict=False):
        gap = after.mT @ after - before @ before.mT
        gaps += [_share(_norm(above @ gap), _norm(above) * largest), _share(_norm(gap @ below), _norm(below) * largest)]
    return np.max(gaps, 0)


def _modes(start: Float64[np.ndarray, "out in"], optimum: Float64[np.ndarray, "out in"]) -> tuple[np.ndarray, ...]:
    """Return left, right, strength, start and alignment of one run."""
    left, strength, right = np.linalg.svd(optimum)
    right, k = right.T, len(strength)
    present = int(np.count_nonzero(strength > EQUAL * strength[0]))
    jumps = np.flatnonzero(-np.diff(strength[:present]) > EQUAL * strength[0]) + 1
    for first, last in zip([0, *jumps], [*jumps, present], strict=True):
        own = slice(first, last)
        block = left[:, own].T @ start @ right[:, own]
        turn = np.linalg.eigh(block + block.T)[1]
        left[:, own], right[:, own] = left[:, own] @ turn, right[:, own] @ turn
    rest = slice(present, None)
    before, _, after = np.linalg.svd(left[:, rest].T @ start @ right[:, rest])
    left[:, rest], right[:, rest] = left[:, rest] @ before, right[:, rest] @ after.T
    inside = left.T @ start @ right
    diagonal = inside.diagonal().copy()
    aside = inside.copy()
    np.fill_diagonal(aside, 0.0)
    return left[:, :k], right[:, :k].T, strength, diagonal, _share(_norm(aside), _norm(start))


def _norm(matrix: Float64[np.ndarray, "*R n m"]) -> Float64[np.ndarray, "*R"]:
    return np.linalg.norm(matrix, axis=(-2, -1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole; 0 of nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
