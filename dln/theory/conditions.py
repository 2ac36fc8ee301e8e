"""How far runs are from what theories assume of them: numbers that are 0, or small, where it holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.derivatives.products import inner
from dln.errors import ConfigError
from dln.theory.theory import Problem

if TYPE_CHECKING:
    from jaxtyping import Float64


def check_depth(name: str, problem: Problem, depth: int) -> None:
    """Raise ConfigError unless runs have so many layers as a theory is about."""
    if problem.depth != depth:
        raise ConfigError(
            f"theory {name} needs depth {depth}, and it is {problem.depth}; use model.num_hidden={depth - 1}"
        )


@uniform()
def balance_gap(layers: Sequence[Float64[np.ndarray, "*R out in"]]) -> Float64[np.ndarray, "*R"]:
    """Return the largest ||W_{l+1}'W_{l+1} - W_l W_l'||_F as a share of the largest ||W_l||_F^2: 0 for balanced layers.

    >>> float(balance_gap([np.array([[2.0]]), np.array([[1.0]])]))
    0.75
    """
    gaps = [after.mT @ after - before @ before.mT for before, after in pairwise(layers)]
    if not gaps:
        return np.zeros(layers[0].shape[:-2])
    norms = np.max([inner(w, w) for w in layers], 0)
    return np.max([np.sqrt(inner(gap, gap)) for gap in gaps], 0) / np.where(norms > 0, norms, 1)


@uniform()
def whitening_gap(sigma: Float64[np.ndarray, "*R in in"]) -> Float64[np.ndarray, "*R"]:
    """Return max |Sigma - I|, 0 for whitened inputs.

    >>> float(whitening_gap(np.diag([1.0, 1.25])))
    0.25
    """
    return np.abs(sigma - np.eye(sigma.shape[-1])).max((-2, -1))
