"""Beyond the edge of stability: the cycle of two steps on which gradient descent ends.

Of white inputs, a balanced mode of strength a = w^L follows w <- w + eta (s - w^L) w^(L-1), eta = 2 lr / d_out. At its
minimum, w = s^(1/L), a small deviation is multiplied by 1 - eta L s^(2-2/L). Beyond the edge, where that is below -1,
every minimum is unstable, as no other is flatter (`dln.derivatives.hessian.least_sharpness`), and w ends on a pair of
points that a step swaps. The pair is stable as long as the slopes of the map at its points have a product in (-1, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # which loads its parts when they are first used

from dln.errors import ConfigError
from dln.theory.conditions import whitening_gap
from dln.theory.theory import Prediction, Problem, check_condition, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

NODES = 2000
"""Points between 0 and the minimum among which a cycle is looked for."""


def beyond_edge(
    strength: Float64[np.ndarray, "*R"], rate: Float64[np.ndarray, "*R"], depth: int
) -> Float64[np.ndarray, "*R"]:
    """Return eta L s^(2-2/L) / 2, the learning rate in units of the largest stable one at a balanced minimum.

    It is lr / 2 times the sharpness there: of two layers eta s.

    Args:
        strength: s, the singular value to be learned.
        rate: eta = 2 lr / d_out.
        depth: L.

    >>> float(beyond_edge(np.array(4.0), np.array(0.3), depth=2))
    1.2
    """
    return np.asarray(rate) * depth * np.asarray(strength) ** (2 - 2 / depth) / 2


def two_cycle(
    strength: Float64[np.ndarray, "*R"], rate: Float64[np.ndarray, "*R"], depth: int
) -> Float64[np.ndarray, "*R 2"]:
    """Return the two strengths of a mode, the smaller first, between which gradient descent jumps; NaN: there are none.

    Of two layers, with x = eta s, they are [(1 + x) -+ sqrt((1 + x)^2 - 4)] / (2 eta), which exist where x > 1. Of more
    layers they are roots. Whether descent ends on them is said by `cycle_multiplier`.

    Args:
        strength: s, the singular value to be learned.
        rate: eta = 2 lr / d_out.
        depth: L.

    >>> two_cycle(np.array([1.0, 1.0]), np.array([0.9, 1.125]), depth=2).round(6).tolist()
    [[nan, nan], [0.625302, 1.263587]]
    """
    strength, rate = np.broadcast_arrays(np.asarray(strength, float), np.asarray(rate, float))
    if depth == 2:
        middle = 1 + rate * strength
        apart = np.sqrt(np.where(middle > 2, middle**2 - 4, np.nan))
        return np.stack([middle - apart, middle + apart], -1) / (2 * rate[..., None])
    pairs = [_roots(s, r, depth) for s, r in zip(strength.ravel(), rate.ravel(), strict=True)]
    return np.reshape(pairs, (*strength.shape, 2)) ** depth


def cycle_multiplier(
    cycle: Float64[np.ndarray, "*R 2"],
    strength: Float64[np.ndarray, "*R"],
    rate: Float64[np.ndarray, "*R"],
    depth: int,
) -> Float64[np.ndarray, "*R"]:
    """Return what a small distance from a cycle is multiplied by in two steps: it is stable between -1 and 1.

    It is the product of the slopes 1 + eta [(L-1) s w^(L-2) - (2L-1) w^(2L-2)] of the map at both points: of two layers
    9 - 2 (1 + eta s)^2, which falls from 1 at eta s = 1 to -1 at eta s = sqrt(5) - 1.

    >>> edge, one = np.sqrt(5) - 1, np.array(1.0)
    >>> round(float(cycle_multiplier(two_cycle(one, edge, 2), one, np.array(edge), 2)), 9)
    -1.0
    """
    w, s, r = np.asarray(cycle) ** (1 / depth), np.asarray(strength)[..., None], np.asarray(rate)[..., None]
    slopes = 1 + r * ((depth - 1) * s * w ** (depth - 2) - (2 * depth - 1) * w ** (2 * depth - 2))
    return slopes.prod(-1)


def _roots(strength: float, rate: float, depth: int) -> tuple[float, float]:
    """Return w of both points: the cycle nearest to the minimum, of which one point is below it."""

    def step(w: Any) -> Any:
        return w + rate * (strength - w**depth) * w ** (depth - 1)

    def gone(w: Any) -> Any:
        return step(step(w)) - w

    minimum = strength ** (1 / depth)
    if depth < 2 or not beyond_edge(np.array(strength), np.array(rate), depth) > 1:
        return np.nan, np.nan
    # Just below the minimum two steps lead further down. Where they first lead up there is a cycle in between.
    nodes = minimum * (1 - np.geomspace(1e-5, 1, NODES))
    up = np.flatnonzero((gone(nodes[:-1]) < 0) & (gone(nodes[1:]) >= 0) & (step(nodes[1:]) > 0))
    if not len(up):
        return np.nan, np.nan
    low = scipy.optimize.brentq(gone, nodes[up[0] + 1], nodes[up[0]], xtol=1e-15 * minimum, rtol=1e-15)
    return low, step(low)


@register_theory("two_cycle", columns=("strengths", "losses"), maps=False, source="arXiv 2502.20531")
def of_top_mode(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Beyond the edge of stability: the two strengths of the top mode, and the two losses, on which descent ends.

    Inputs are white, and the learning rate is so large that of all modes the top one alone is beyond the edge at the
    flattest minimum: lr / 2 times the sharpness there is more than 1; of two layers it is less than sqrt(5) - 1 too,
    beyond which the cycle is not stable. The other modes rest. Nets end there whether or not they began balanced. It
    says nothing of when. Conditions: `multiplier`, the share of a small distance from the cycle that is left after two
    steps; `second_mode`, lr / 2 times the sharpness that the second mode would have alone (both less than 1).
    """
    name, depth = "two_cycle", problem.depth
    if problem.sampling != "full":
        raise ConfigError(f"theory {name} needs full batches; use training.batch_size=null")
    check_condition(name, whitening_gap(problem.sigma), 1e-6, "max |Sigma - I|", "use data.whiten=true")
    left, strengths, right = np.linalg.svd(problem.optimum, full_matrices=False)
    top = strengths[:, 0]
    beyond = beyond_edge(strengths, problem.rate[:, None], depth)
    if not (beyond[:, 0] > 1).all():
        worst = np.argmin(beyond[:, 0])
        raise ConfigError(
            f"theory {name} needs lr / 2 times the sharpness of the flattest minimum to be more than 1, and it is "
            f"{beyond[worst, 0]:.3g}; use training.lr above {problem.lr[worst] / beyond[worst, 0]:.4g}"
        )
    second = beyond[:, 1] if beyond.shape[1] > 1 else np.zeros(len(problem))
    check_condition(name, second, 1, "lr / 2 times the sharpness of the second mode", "use a smaller training.lr")
    cycle = two_cycle(top, problem.rate, depth)
    multiplier = np.abs(cycle_multiplier(cycle, top, problem.rate, depth))
    known = np.where(np.isnan(multiplier), np.inf, multiplier)
    check_condition(name, known, 1, "the multiplier of the cycle", "use a smaller training.lr")
    mode = left[:, :, 0, None] * right[:, None, 0, :]
    maps = problem.optimum[:, None] + (cycle - top[:, None])[..., None, None] * mode[:, None]
    values = {"strengths": cycle, "losses": problem.losses(maps)}
    columns = {key: np.repeat(value[:, None], len(steps), 1) for key, value in values.items()}
    return Prediction(columns=columns, conditions={"multiplier": multiplier, "second_mode": second})
