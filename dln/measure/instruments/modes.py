"""The end-to-end map W: its rank, and how much of the teacher it has learned, mode by mode.

With the teacher's singular value decomposition sum_i s_i u_i v_i', the strength of mode i is u_i' W v_i: it goes from
about 0 to s_i as the mode is learned (Saxe, McClelland, Ganguli, arXiv 1312.6120).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dln.base.stacked import frobenius, matmul, total
from dln.measure.learning_coefficient import learning_coefficient
from dln.measure.metric import Least, Tolerance, Top, model_metric

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

    from dln.model import DeepLinearNetwork


@model_metric("effective_rank", cost="cheap", batched=True, source="Roy and Vetterli 2007")
def effective_rank(end_to_end_values: Float64[Tensor, "*R k"]) -> Float64[Tensor, "*R"]:
    """Exponential of the entropy of p_i = s_i / sum_j s_j, s the singular values of W.

    >>> effective_rank(torch.tensor([[2.0, 2.0, 0.0], [3.0, 0.0, 0.0]])).round(decimals=6).tolist()
    [2.0, 1.0]
    """
    p = end_to_end_values / total(end_to_end_values)[..., None]
    return torch.exp(-total(torch.special.xlogy(p, p)))


@model_metric("stable_rank", cost="cheap", batched=True, source="Rudelson and Vershynin 2007")
def stable_rank(end_to_end_values: Float64[Tensor, "*R k"]) -> Float64[Tensor, "*R"]:
    """||W||_F^2 / ||W||_2^2 of the end-to-end map.

    >>> stable_rank(torch.tensor([2.0, 2.0, 1.0])).item()
    2.25
    """
    return total(end_to_end_values**2) / end_to_end_values[..., 0] ** 2


@model_metric("relative_rank", cost="cheap", batched=True)
def relative_rank(
    end_to_end_values: Float64[Tensor, "*R k"], tolerance: Tolerance = 0.01, above: Least = None
) -> Float64[Tensor, "*R"]:
    """How many singular values of W exceed `tolerance` times the largest; if `above` is given, how many exceed that.

    >>> values = torch.tensor([5.0, 1.0, 0.01])
    >>> relative_rank(values).item(), relative_rank(values, above=2.0).item()
    (2.0, 1.0)
    """
    largest = end_to_end_values[..., :1]
    return (
        (end_to_end_values > (tolerance * largest if above is None else above))
        .sum(-1)
        .double()
        .where(largest[..., 0].isfinite(), torch.nan)
    )


@model_metric("learning_coefficient", cost="cheap", batched=True, source="Aoyagi 2024")
def learning_coefficient_of_rank(
    model: DeepLinearNetwork,
    end_to_end_values: Float64[Tensor, "*R k"],
    tolerance: Tolerance = 0.01,
    above: Least = None,
) -> Float64[Tensor, "*R"]:
    """Learning coefficient lambda at the rank of W (see relative_rank); d_in d_out / 2 at every rank of wide nets.

    Half the effective number of parameters of a net that has learned a map of this rank: a staircase beside the run,
    informative where hidden layers are narrower than about d_in + d_out. It is the least over all weights that make
    such a map (`dln.measure.learning_coefficient`). Biases make the outputs' d_out / 2 more.

    >>> from dln.model import DeepLinearNetwork
    >>> model = DeepLinearNetwork(5, 5, 3, 5)
    >>> learning_coefficient_of_rank(model, torch.tensor([[5.0, 1.0, 0, 0, 0], [5.0, 4, 3, 2, 1]])).tolist()
    [11.0, 12.5]
    """
    widths = [model.weights[0].shape[-1], *(w.shape[-2] for w in model.weights)]
    of_bias = len(model.biases) > 0 and widths[-1] / 2
    steps = [learning_coefficient(widths, rank).value + of_bias for rank in range(min(widths) + 1)]
    rank = relative_rank(end_to_end_values, tolerance, above)
    places = rank.nan_to_num().clamp(max=min(widths)).long()  # above the widths there is only rounding
    return torch.tensor(steps, dtype=torch.float64)[places].where(rank.isfinite(), torch.nan)


@model_metric("teacher_distance", cost="cheap", batched=True)
def teacher_distance(
    end_to_end: Float64[Tensor, "*R out in"], teacher: Float64[Tensor, "*R out in"]
) -> Float64[Tensor, "*R"]:
    """Frobenius distance ||W - T||_F of the end-to-end map to the teacher.

    >>> teacher_distance(torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])).item()
    5.0
    """
    return frobenius(end_to_end - teacher)


@model_metric("population_loss", cost="moderate", loss="mse", batched=True, sets=("population",))
def population_loss(mean_square: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """Mean squared error over all inputs of the distribution, tr(E Sigma E') / d_out with E = W - T; noise aside."""
    return mean_square


@model_metric("mode_strengths", cost="cheap", batched=True, source="arXiv 1312.6120")
def mode_strengths(
    end_to_end: Float64[Tensor, "*R out in"],
    teacher_left: Float64[Tensor, "*R out k"],
    teacher_right: Float64[Tensor, "*R k in"],
    teacher_rank: Float64[Tensor, "*R"],
    top: Top = None,
) -> Float64[Tensor, "*R k"]:
    """Strengths u_i' W v_i of the teacher's modes in W, by falling singular value; only the first `top` if given.

    NaN for those that the teacher lacks: singular vectors of zero point anywhere.

    >>> basis, rank = torch.eye(2), torch.tensor(1.0)
    >>> mode_strengths(torch.tensor([[5.0, 1.0], [2.0, 3.0]]), basis, basis, rank).tolist()
    [5.0, nan]
    """
    left, right = teacher_left[..., :top], teacher_right[..., :top, :]
    strengths = matmul(matmul(left.mT, end_to_end), right.mT).diagonal(dim1=-2, dim2=-1)
    return strengths.where(torch.arange(strengths.shape[-1]) < teacher_rank[..., None], torch.nan)


@model_metric("mode_alignments", cost="moderate", batched=True, source="arXiv 1312.6120")
def mode_alignments(
    end_to_end_modes: tuple[Tensor, Tensor, Tensor],
    teacher_left: Float64[Tensor, "*R out k"],
    teacher_right: Float64[Tensor, "*R k in"],
    teacher_values: Float64[Tensor, "*R k"],
    teacher_rank: Float64[Tensor, "*R"],
    top: Top = None,
    tolerance: Tolerance = 1e-6,
) -> Float64[Tensor, "*R k"]:
    """|p_i' u_i| |q_i' v_i| for the i-th singular vectors p, q of W and u, v of the teacher: 1 where they agree.

    Singular values that differ by no more than `tolerance` times the largest, in W or in the teacher, are equal: only
    what their m vectors make together is theirs, and all have |<P Q', U V'>| / m, of which the above is the case m = 1.
    NaN where a singular value is zero, in W or in the teacher: its vectors point anywhere.
    """
    left, values, right = end_to_end_modes
    bounds = apart(values, tolerance) & apart(teacher_values, tolerance)  # [*R, k-1]
    block = torch.nn.functional.pad(bounds.long().cumsum(-1), (1, 0))
    together = (block[..., :, None] == block[..., None, :]).double()
    products = matmul(left.mT, teacher_left) * matmul(right, teacher_right.mT)
    agreement = total(together * total(products * together)[..., None, :]).abs() / total(together)
    lacking = (torch.arange(values.shape[-1]) >= teacher_rank[..., None]) | (values <= tolerance * values[..., :1])
    return agreement.where(total(together * lacking.double()[..., None, :]) == 0, torch.nan)[..., :top]


def single(values: Float64[Tensor, "*R k"], tolerance: float) -> Bool[Tensor, "*R k"]:
    """Tell which singular values are neither zero nor equal to another, to `tolerance` times the largest.

    >>> single(torch.tensor([5.0, 5.0, 1.0, 0.0]), 1e-6).tolist()
    [False, False, True, False]
    """
    bounds = torch.nn.functional.pad(apart(values, tolerance), (1, 1), value=True)
    return bounds[..., :-1] & bounds[..., 1:] & (values > tolerance * values[..., :1])


def apart(values: Float64[Tensor, "*R k"], tolerance: float) -> Bool[Tensor, "*R k-1"]:
    """Tell where neighbouring singular values differ by more than `tolerance` times the largest.

    >>> apart(torch.tensor([5.0, 5.0, 1.0]), 1e-6).tolist()
    [False, True]
    """
    return values[..., :-1] - values[..., 1:] > tolerance * values[..., :1]
