"""An estimate of the learning coefficient by sampling, of the kind that is used where no formula is known.

`dln.measure.learning_coefficient` has the exact value: the two together say how far such estimates are to be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.streams import stream
from dln.derivatives.products import Chain, as_float64, inner

if TYPE_CHECKING:
    from jaxtyping import Float64

    Weights = list[Float64[np.ndarray, "C out in"]]

STEADY = 0.8
"""Share of moves that should be accepted."""

WARMUP = 0.3
"""Share of the draws that go to finding the step, and are left out."""


class Estimate(NamedTuple):
    """An estimated learning coefficient."""

    value: float
    error: float
    """Standard error, from how much chains differ: of sampling alone, not of samples being finite."""
    accepted: float
    """Share of moves that were accepted; far below 0.8 the step was not found, and the value is not to be trusted."""


@uniform()
def estimate_learning_coefficient(
    layers: Sequence[Float64[np.ndarray, "out in"]],
    sigma: Float64[np.ndarray, "in in"] | None = None,
    *,
    samples: float = 1e5,
    localisation: float = 1.0,
    chains: int = 16,
    draws: int = 400,
    leaps: int = 20,
    seed: int = 0,
) -> Estimate:
    """Estimate lambda at a net that makes the true map: t E[L], t = samples / log(samples), under exp(-t L - prior).

    L is the mean squared error over the population, against the map that `layers` make, and the prior
    (localisation / 2) ||theta - theta*||^2 holds the chains near them. Draws are by Langevin moves that are accepted or
    rejected (Metropolis), each of `leaps` steps with one momentum, which is Hamiltonian Monte Carlo; leaps=1 is MALA.
    All chains move together, in numpy.

    To the order of 1 / log t the mean is lambda - (m - 1) / log(t), m the multiplicity: where m > 1 the estimate is too
    small, by 0.1 (m - 1) at 1e5 samples. A larger localisation makes it smaller still at singular points.

    Args:
        layers: W_1, ..., W_L; lambda(rank) is the least over weights that make the same map, such as balanced ones.
        sigma: Covariance of the inputs; None: the identity.
        samples: n; lambda is what comes out as it grows.
        localisation: gamma.
        chains: How many; the error comes from their differences.
        draws: Of each chain; the first 30 % find the step.
        leaps: Gradients a draw.
        seed: Of the draws.

    >>> estimate = estimate_learning_coefficient([np.ones((1, 1))], draws=100)  # one weight: regular, lambda = 1/2
    >>> abs(estimate.value - 0.5) < 4 * estimate.error
    True
    """
    energy = _Energy(layers, sigma, samples / np.log(samples), localisation, chains)
    rng, losses, accepted = stream(seed, "langevin"), [], []
    here, step, steps = energy.at(energy.centre), 0.3 / np.sqrt(energy.heat), []
    for draw in range(draws):
        momenta = [rng.standard_normal(w.shape) for w in here.weights]
        there, kinetic = _moved(energy, here, momenta, step * rng.uniform(0.8, 1.2), leaps)
        gain = here.energy + _squares(momenta) / 2 - there.energy - kinetic
        chance = np.where(np.isfinite(gain), np.exp(np.minimum(gain, 0)), 0.0)
        here = _chosen(rng.uniform(size=chains) < chance, there, here)
        if draw < WARMUP * draws:
            steps.append(step := step * np.exp(0.3 * (chance.mean() - STEADY)))
        else:
            step = np.exp(np.mean(np.log(steps[len(steps) // 2 :])))  # what it has settled to
            losses.append(here.loss)
            accepted.append(chance.mean())
    values = energy.heat * np.mean(losses, 0)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(chains)), float(np.mean(accepted)))


class _Place(NamedTuple):
    """Where chains are, and what the energy is there."""

    weights: Weights
    loss: Float64[np.ndarray, " C"]
    energy: Float64[np.ndarray, " C"]
    slopes: Weights


class _Energy:
    """U = t L + (localisation / 2) ||theta - theta*||^2 of C chains."""

    def __init__(
        self, layers: Sequence[np.ndarray], sigma: np.ndarray | None, heat: float, localisation: float, chains: int
    ) -> None:
        self.heat, self._localisation = heat, localisation
        self.centre = [np.tile(as_float64(w), (chains, 1, 1)) for w in layers]
        self._truth = Chain(layers).end
        self._sigma = np.eye(self._truth.shape[1]) if sigma is None else sigma

    def at(self, weights: Weights) -> _Place:
        chain = Chain(weights)
        wrong = chain.end - self._truth
        seen, away = wrong @ self._sigma, [w - star for w, star in zip(weights, self.centre, strict=True)]
        loss = inner(wrong, seen) / chain.outputs
        slopes = chain.pulled(2 * self.heat / chain.outputs * seen)
        slopes = [slope + self._localisation * gap for slope, gap in zip(slopes, away, strict=True)]
        return _Place(weights, loss, self.heat * loss + self._localisation / 2 * _squares(away), slopes)


def _moved(
    energy: _Energy, place: _Place, momenta: Weights, step: float, leaps: int
) -> tuple[_Place, Float64[np.ndarray, " C"]]:
    """Return where leapfrog steps lead, and the kinetic energy there."""
    for _ in range(leaps):
        momenta = [p - step / 2 * slope for p, slope in zip(momenta, place.slopes, strict=True)]
        place = energy.at([w + step * p for w, p in zip(place.weights, momenta, strict=True)])
        momenta = [p - step / 2 * slope for p, slope in zip(momenta, place.slopes, strict=True)]
    return place, _squares(momenta) / 2


def _chosen(which: np.ndarray, there: _Place, here: _Place) -> _Place:
    """Return each chain at the one place or the other."""
    wide = which[:, None, None]
    weights, slopes = (
        [np.where(wide, new, old) for new, old in zip(ours, theirs, strict=True)]
        for ours, theirs in ((there.weights, here.weights), (there.slopes, here.slopes))
    )
    return _Place(weights, np.where(which, there.loss, here.loss), np.where(which, there.energy, here.energy), slopes)


def _squares(parts: Weights) -> Float64[np.ndarray, " C"]:
    return np.sum([inner(part, part) for part in parts], 0)
