"""Modes under the noise of fresh samples: how they spread, and where on their way they spread most.

Of aligned, balanced layers on x ~ N(0, I) each mode sees a data set of its own, x_i and y_i = s x_i + noise, as long as
what noise stirs up beside the modes is small. With w = a^(1/L) and eta = 2 lr / d_out a step on B samples is

    w <- w + eta w^(L-1) [c (s - a) + sigma sqrt(c / B) z],    c ~ chi^2_B / B the batch's mean of x_i^2, z ~ N(0, 1),

which is the exact law of a net with one mode. (Cf. arXiv 2604.06366.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.registry import Bounds
from dln.base.streams import stream
from dln.errors import ConfigError
from dln.measure.data_quantities import rank_of
from dln.theory.alignment import alignment_conditions, modes_of
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

    from dln.theory.modes import Numbers


class Spread(NamedTuple):
    """Mean and standard deviation of modes over runs that differ in their samples."""

    mean: Float64[np.ndarray, "T k"]
    std: Float64[np.ndarray, "T k"]


@uniform()
def mode_noise_recursion(
    strength: Float64[np.ndarray, " k"],
    start: Float64[np.ndarray, " k"],
    depth: int,
    rate: float,
    steps: Int[np.ndarray, " T"],
    batch_size: int,
    noise_std: float,
    members: int,
    rng: np.random.Generator,
) -> Spread:
    """Return how the strengths of aligned modes spread under fresh samples, over `members` draws of the recursion.

    Args:
        strength: s of each mode.
        start: a_0.
        depth: L.
        rate: 2 lr / d_out.
        steps: Ascending.
        batch_size: B.
        noise_std: sigma, of the noise on targets.
        members: How many draws; the mean is good to std / sqrt(members).
        rng: What they are drawn from.

    >>> rng = np.random.default_rng(0)
    >>> spread = mode_noise_recursion(np.array([3.0]), np.array([0.1]), 2, 0.05, np.array([0, 12]), 8, 0.1, 999, rng)
    >>> spread.mean.round(1).tolist(), spread.std.round(1).tolist()
    ([[0.1], [1.6]], [[0.0], [0.4]])
    """
    sign = np.where(start < 0, -1.0, 1.0)
    s, w = sign * strength, np.tile(np.abs(start) ** (1 / depth), (members, 1))
    mean, std, last = [], [], 0
    for step in steps:
        for _ in range(step - last):
            square = rng.chisquare(batch_size, w.shape) / batch_size
            below = w ** (depth - 1)
            pull = square * (s - below * w)
            if noise_std:
                pull += noise_std * np.sqrt(square / batch_size) * rng.standard_normal(w.shape)
            w = w + rate * below * pull
        values, last = sign * w**depth, step
        mean.append(values.mean(0))
        std.append(values.std(0))
    return Spread(np.array(mean), np.array(std))


@uniform()
def mode_diffusion(
    strength: Numbers, value: Numbers, depth: int, rate: Numbers, batch_size: int, noise_std: Numbers = 0.0
) -> Float64[np.ndarray, "*R"]:
    """Return the variance that one step gives to a mode: rate^2 L^2 a^(4 - 4/L) (2 (s - a)^2 + sigma^2) / B.

    Args:
        strength: s.
        value: a, at least 0.
        depth: L.
        rate: 2 lr / d_out.
        batch_size: B.
        noise_std: sigma, of the noise on targets.

    >>> mode_diffusion(3.0, 1.0, 2, 0.5, 4).item()  # 0.25 * 4 * 1 * 8 / 4
    2.0
    """
    s, a, rate, noise = (np.asarray(x, dtype=np.float64) for x in (strength, value, rate, noise_std))
    return rate**2 * depth**2 * a ** (4 - 4 / depth) * (2 * (s - a) ** 2 + noise**2) / batch_size


def diffusion_peak(depth: int, of: Literal["mode", "weight"] = "mode") -> float:
    """Return a / s where a mode without noise on targets diffuses most: before it is learned.

    Of the mode itself, (2L - 2) / (3L - 2), the maximum of a^(4 - 4/L) (s - a)^2; of each layer's singular value
    w = a^(1/L), (L - 1) / (2L - 1), that of a^(2 - 2/L) (s - a)^2.

    >>> diffusion_peak(2), diffusion_peak(2, of="weight")
    (0.5, 0.3333333333333333)
    """
    return (2 * depth - 2) / (3 * depth - 2) if of == "mode" else (depth - 1) / (2 * depth - 1)


@register_theory(
    "noisy_modes",
    columns=("mode_strengths", "mode_strengths_std"),
    maps=False,
    cost="moderate",
    source="cf. arXiv 2604.06366",
)
def predict_noisy_modes(
    problem: Problem, steps: Int[np.ndarray, " T"], members: Annotated[int, Bounds(least=2)] = 500
) -> Prediction:
    """Mean and spread of the modes under online SGD from an aligned, balanced start: each mode with noise of its own.

    Columns `mode_strengths` and `mode_strengths_std`, over `members` draws of each mode's recursion (the mean is good
    to std / sqrt(members)); NaN for modes that there are not to learn. Maps and losses are none: they have the noise
    beside the modes too.

    Conditions: `alignment_gap`, `balance_gap` and `whitening_gap` as for aligned_modes; and `lr_sharpness_per_sample`,
    lr lambda_max / B where it all ends: modes are alone to first order in it, and means of small modes among large ones
    are off by a quarter of it, as a share (6 % at 0.25, 3 % at 0.13, 0.8 % at 0.03).
    """
    if problem.sampling != "online" or not problem.normal.all():
        found = problem.sampling if problem.normal.all() else "of other inputs"
        raise ConfigError(
            f"theory noisy_modes is about fresh Gaussian samples, and batches are {found}; use data.online=true with "
            "data.inputs=gaussian"
        )
    modes = modes_of(problem)
    conditions = alignment_conditions("noisy_modes", problem, modes)
    assert problem.batch_size is not None  # online data have one
    sharpness = problem.depth * modes.strength[:, 0] ** (2 - 2 / problem.depth)
    conditions["lr_sharpness_per_sample"] = problem.rate * sharpness / problem.batch_size
    noise = np.hypot(problem.noise_std, problem.label_noise)
    spreads = [
        mode_noise_recursion(
            modes.strength[r],
            modes.start[r],
            problem.depth,
            problem.rate[r],
            steps,
            problem.batch_size,
            float(noise[r]),
            members,
            stream(int(problem.seeds[r]), "noisy modes"),
        )
        for r in range(len(problem))
    ]
    mean, std = (np.stack(parts) for parts in zip(*spreads, strict=True))
    there = np.arange(mean.shape[-1]) < np.array([rank_of(s) for s in modes.strength])[:, None, None]
    columns = {"mode_strengths": np.where(there, mean, np.nan), "mode_strengths_std": np.where(there, std, np.nan)}
    return Prediction(columns=columns, conditions=conditions)
