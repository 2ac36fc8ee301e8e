"""The lazy regime: gradient descent on the net that is linear in its weights, whose tangent kernel stays as it was.

To first order in the weights' changes dW_l the map is W_0 + sum_l A_l dW_l B_l, with A_l and B_l those of the start.
Gradient descent on that adds -lr A_l' G B_l' to W_l, so the map moves by

    W <- W - lr sum_l A_l A_l' G B_l' B_l,   G = (2 / d_out) (W Sigma - Sigma_yx),

which is linear in W. In vectors (columns one by one) w <- w - lr N (S w - s), N = sum_l (B_l' B_l) kron (A_l A_l') and
S = (2 / d_out) Sigma kron I. With N = FF' and w = w_0 + F u that is a symmetric iteration, of F'SF, in u, which has a
closed form in its eigenvectors whatever is singular. F'SF has the nonzero eigenvalues of the tangent kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.stacked import decomposed
from dln.derivatives.products import Chain, half
from dln.derivatives.tangent_kernel import ntk_distance, ntk_norm
from dln.theory.one_layer import geometric
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

    from dln.theory.descent import Layers


@register_theory("lazy", source="arXiv 1806.07572")
@uniform()
def lazy(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Full-batch gradient descent with a frozen tangent kernel: of the net that is linear in its weights.

    W <- W - lr sum_l A_l A_l' G B_l' B_l, A_l and B_l those of the start, in the kernel's eigenvectors: of a matrix
    [in out, in out], whatever the width.

    Conditions: `kernel_change`, ||K - K_0||_F / ||K_0||_F between the start and the weights of that linear net at the
    last step: 0 for one layer, and small for wide nets of large weights, which are lazy.
    """
    maps, changes = [], []
    for r in range(len(problem)):
        layers, sigma = [w[r] for w in problem.layers], problem.sigma[r]
        maps.append(lazy_maps(layers, sigma, problem.sigma_yx[r], problem.lr[r], np.asarray(steps)))
        moved = moved_layers(layers, maps[-1][-1])
        size = ntk_norm(layers, sigma, 1)
        changes.append(ntk_distance(moved, layers, sigma, 1) / np.where(size > 0, size, 1))
    return Prediction(np.stack(maps), conditions={"kernel_change": np.array(changes)})


@uniform()
def lazy_maps(
    layers: Layers,
    sigma: Float64[np.ndarray, "in in"],
    sigma_yx: Float64[np.ndarray, "out in"],
    lr: float,
    steps: Int[np.ndarray, " T"],
) -> Float64[np.ndarray, "T out in"]:
    """Return the maps of gradient descent with the tangent kernel of these layers, which stays what it is.

    Diagonalises a matrix [in out, in out].

    >>> one = np.ones((1, 1))  # w_2 w_1 = 1, and 3 is wanted: the kernel is w_1^2 + w_2^2 = 2
    >>> lazy_maps([one, one], one, 3 * one, 0.1, np.array([0, 1, 2]))[:, 0, 0].round(6)
    array([1.  , 1.8 , 2.28])
    """
    chain = Chain(layers)
    factor = half(_mobility(chain))  # F
    curvature = 2 / chain.outputs * np.kron(sigma, np.eye(chain.outputs))  # S
    values, vectors = decomposed(factor.T @ curvature @ factor, np.linalg.eigh)
    seen = factor @ vectors
    pushed = -lr * (seen.T @ _vector(chain.error(sigma, sigma_yx)))  # of one step, in the kernel's eigenvectors
    changes = (geometric(lr * values, steps[:, None]) * pushed) @ seen.T
    return chain.end + changes.reshape(len(steps), *chain.end.shape[::-1]).mT


@uniform()
def moved_layers(layers: Layers, end: Float64[np.ndarray, "out in"]) -> list[Float64[np.ndarray, "p q"]]:
    """Return the weights at which gradient descent on the linearised net has this map.

    They are W_l + A_l' Z B_l', with the one Z, minus the sum of lr G over all steps, that leads to it.

    >>> one = np.ones((1, 1))  # w_2 w_1 = 1, and 3 is reached by adding 1 to each
    >>> moved_layers([one, one], 3 * one)
    [array([[2.]]), array([[2.]])]
    """
    chain = Chain(layers)
    total = np.linalg.pinv(_mobility(chain), rcond=1e-12, hermitian=True) @ _vector(end - chain.end)
    changes = chain.pulled(total.reshape(chain.end.shape[::-1]).T)
    return [w + change for w, change in zip(layers, changes, strict=True)]


def _mobility(chain: Chain) -> Float64[np.ndarray, "k k"]:
    """Return N = sum_l (B_l' B_l) kron (A_l A_l'), which takes a push G on the map to how the map moves."""
    return sum((np.kron(b.T @ b, a @ a.T) for a, b in zip(chain.above, chain.below, strict=True)), np.zeros(1))


def _vector(matrix: Float64[np.ndarray, "out in"]) -> Float64[np.ndarray, " k"]:
    """Return the columns one after the other."""
    return matrix.T.ravel()
