"""The flow that gradient descent follows: gradient flow with corrections for the size of its steps.

An iteration theta <- theta + c(theta) lies on the flow dtheta/dn = log(1 + Delta) theta, where Delta theta = c(theta)
is the difference of neighbouring iterates: backward error analysis, whose first terms for gradient descent are
-lr g - (lr^2 / 2) H g - ..., the gradient flow of L + (lr / 4) ||g||^2 (Barrett and Dherin, arXiv 2009.11162). The
logarithm's series, cut after order K, takes K iterates and no Hessian: it is the slope of the polynomial through them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.registry import Bounds
from dln.theory.descent import LOOKS, each_run, narrowest
from dln.theory.integration import Accuracy, integrate
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

LIMIT = 0.9
"""The largest lr lambda_max that is not too near to 1, beyond which the logarithm has no series."""


@register_theory("modified_flow", cost="moderate", source="arXiv 2009.11162")
def modified_flow(
    problem: Problem,
    steps: Int[np.ndarray, " T"],
    order: Annotated[int, Bounds(least=1, most=4)] = 2,
    rtol: Accuracy = 1e-11,
) -> Prediction:
    """Modified flow of order K: gradient flow corrected for finite steps; gradient descent leaves it by about lr^K.

    Order 1 is gradient flow, order 2 the flow on L + (lr / 4) ||g||^2; each order costs one gradient more.

    Conditions: `lr_sharpness`, the largest lr lambda_max along the path (of nine looks), in the directions that it may
    take; the error is about its K-th power, and above 0.9 it is refused: at 1 the series ends.
    """
    times, looks = np.asarray(steps, float), LOOKS * steps[-1]
    maps, sharpness = [], []
    with uniform():
        for net in each_run(problem, narrowest):
            field = partial(modified_field, net.change, order=order)
            watched = partial(net.watched, name="modified_flow", limit=LIMIT)
            found = integrate(field, net.start, [(times, net.maps), (looks, watched)], rtol)
            maps.append(found[0])
            sharpness.append(found[1].max())
    return Prediction(np.stack(maps), conditions={"lr_sharpness": np.array(sharpness)})


def modified_field(
    change: Callable[[Float64[np.ndarray, " P"]], Float64[np.ndarray, " P"]],
    state: Float64[np.ndarray, " P"],
    order: int,
) -> Float64[np.ndarray, " P"]:
    """Return the flow's field, per step, of any smooth iteration: sum_(k=1..K) (-1)^(k+1) / k Delta^k at a state.

    Args:
        change: What a step adds to a state.
        state: Where.
        order: K.

    Halving is the flow -log(2) x:

    >>> [float(modified_field(lambda x: -x / 2, np.array([1.0]), order)[0].round(3)) for order in (1, 2, 3, 20)]
    [-0.5, -0.625, -0.667, -0.693]
    """
    differences = []
    for _ in range(order):
        differences.append(change(state))
        state = state + differences[-1]
    field = np.zeros_like(state)
    for k in range(1, order + 1):
        field -= (-1) ** k / k * differences[0]
        differences = np.diff(differences, axis=0)
    return field
