"""Distributions of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.machine import check_fits
from dln.base.registry import Entry, Registry
from dln.base.streams import stream
from dln.errors import ConfigError, ExtensionError
from dln.ingredients.random_matrices import haar, transform, whitened

if TYPE_CHECKING:
    from jaxtyping import Float64

INPUTS = Registry("input distribution", supplied=("samples", "dim", "rng", "basis"))


def register_inputs(name: str, **marks: Any):
    """Register `f(samples, dim, rng) -> array [samples, dim]` as a distribution of inputs: `data.inputs=name`.

    It draws from the numpy Generator `rng`, sample by sample: the digits of a sample must not depend on how many are
    drawn at once. `dim` is `model.in_dim`, or `data.d_active` if that is set. The function may ask for `basis`, an
    orthogonal matrix [dim, dim] that is random (Haar) but the same for all samples of a data seed. Further arguments
    are parameters that a config can set under `data.inputs_params`.

    Marks, for what is computed over the population (curvature and noise of online runs): `eigenvalues=f(dim, **params)`
    returns those of the covariance, on the axes, or in `basis` where a parameter `rotate` is true; `normal=True` says
    that the distribution is Gaussian.
    """
    return INPUTS.register(name, **marks)


def _isotropic(dim: int) -> Float64[np.ndarray, " d"]:
    return np.ones(dim)


def _power_law(dim: int, alpha: float, normalize: bool, rotate: bool) -> Float64[np.ndarray, " d"]:
    eigenvalues = np.arange(1, dim + 1) ** -float(alpha)
    return eigenvalues / eigenvalues.mean() if normalize else eigenvalues


@register_inputs("gaussian", eigenvalues=_isotropic, normal=True)
def gaussian(samples: int, dim: int, rng: np.random.Generator) -> Float64[np.ndarray, "N d"]:
    """Gaussian of covariance I."""
    return rng.standard_normal((samples, dim))


@register_inputs("power_law", eigenvalues=_power_law, normal=True)
def power_law(
    samples: int,
    dim: int,
    rng: np.random.Generator,
    basis: Float64[np.ndarray, "d d"],
    alpha: float = 1.0,
    normalize: bool = True,
    rotate: bool = False,
) -> Float64[np.ndarray, "N d"]:
    """Gaussian, covariance eigenvalues i**-alpha, scaled to mean 1 if `normalize`; in a random basis if `rotate`."""
    return _gaussian(samples, _power_law(dim, alpha, normalize, rotate), rng, basis if rotate else None)


@register_inputs("spectrum", eigenvalues=lambda dim, values, rotate: np.array(values, float), normal=True)
def spectrum(
    samples: int,
    dim: int,
    rng: np.random.Generator,
    basis: Float64[np.ndarray, "d d"],
    values: list[float],
    rotate: bool = False,
) -> Float64[np.ndarray, "N d"]:
    """Gaussian, covariance eigenvalues `values`, one an input; in a random basis if `rotate`.

    Raises:
        ConfigError: `values` are not one number of at least 0 for each input.
    """
    if len(values) != dim or not np.isfinite(values).all() or min(values) < 0:
        raise ConfigError(
            f"data.inputs_params.values must list {dim} numbers of at least 0, one an input (model.in_dim, or "
            f"data.d_active if set), not {list(values)}"
        )
    return _gaussian(samples, values, rng, basis if rotate else None)


@register_inputs("sphere", eigenvalues=_isotropic)
def sphere(samples: int, dim: int, rng: np.random.Generator) -> Float64[np.ndarray, "N d"]:
    """Uniform on the sphere of radius sqrt(in_dim): covariance I, all inputs equally long.

    >>> x = sphere(2, 3, np.random.default_rng(0))
    >>> np.allclose((x**2).sum(1), 3)
    True
    """
    x = rng.standard_normal((samples, dim))
    squares = sum(x[:, k] ** 2 for k in range(dim))  # in one order, however many samples there are
    return x * np.sqrt(dim / squares)[:, None]


def _gaussian(
    samples: int, eigenvalues: Sequence[float] | np.ndarray, rng: np.random.Generator, basis: np.ndarray | None
) -> np.ndarray:
    """Draw Gaussian samples whose covariance has these eigenvalues, on the axes or in a basis (its columns)."""
    x = rng.standard_normal((samples, len(eigenvalues))) * np.sqrt(eigenvalues)
    return x if basis is None else transform(basis, x)


@dataclass(frozen=True)
class Inputs:
    """A registered distribution along the first `active` of `in_dim` axes; along the others it is zero."""

    entry: Entry
    arguments: Mapping[str, Any]
    in_dim: int
    active: int
    axes: Float64[np.ndarray, "in in"] | None = None
    """An orthogonal matrix whose columns are the axes; None: they are the coordinates."""

    def draw(self, samples: int, rng: np.random.Generator, whiten: bool = False) -> Float64[np.ndarray, "N in"]:
        """Draw samples; those of `whiten` have covariance exactly I along the active axes.

        Raises:
            ConfigError: They cannot be whitened.
            ExtensionError: A user's function raised, or returned something else than a finite [samples, dim] array.
        """
        drawn = self._drawn(samples, rng)
        if whiten:
            drawn = whitened(drawn)
        if self.axes is not None:
            return transform(self.axes[:, : self.active], drawn)
        if self.active == self.in_dim:
            return drawn
        return np.concatenate([drawn, np.zeros((samples, self.in_dim - self.active))], axis=1)

    def _drawn(self, samples: int, rng: np.random.Generator) -> Float64[np.ndarray, "N active"]:
        """Draw samples along the active axes."""
        what = f"input distribution {self.entry.name!r}"
        named = {"samples": samples, "dim": self.active, "rng": rng, **self.arguments}
        drawn = self.entry.call(what, named=named, read=lambda value: np.asarray(value, dtype=np.float64))
        if drawn.shape == (samples, self.active) and not np.isfinite(drawn).all():
            raise self.entry.too_large("data.inputs_params", {k: v for k, v in self.arguments.items() if k != "basis"})
        if drawn.shape != (samples, self.active):
            raise ExtensionError(
                f"{what} must return a finite [samples, dim] = [{samples}, {self.active}] array, "
                f"not one of shape {list(drawn.shape)}"
            )
        return drawn

    @property
    def normal(self) -> bool:
        """Whether it is known to be Gaussian."""
        return self.entry.marks.get("normal", False)

    @property
    def covariance(self) -> Float64[np.ndarray, "in in"] | None:
        """The covariance of the population, or None if it is not known."""
        if (known := self._eigen()) is None:
            return None
        basis, eigenvalues = known
        covariance = np.zeros((self.in_dim, self.in_dim))
        covariance[: self.active, : self.active] = basis * eigenvalues @ basis.T
        return covariance if self.axes is None else self.axes @ covariance @ self.axes.T

    @property
    def root(self) -> Float64[np.ndarray, "in active"] | None:
        """A matrix R with R R' the covariance, or None if that is not known."""
        if (known := self._eigen()) is None:
            return None
        basis, eigenvalues = known
        axes = np.eye(self.in_dim) if self.axes is None else self.axes
        return axes[:, : self.active] @ (basis * np.sqrt(eigenvalues))

    def _eigen(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return eigenvectors, in columns, and eigenvalues of the covariance along the active axes, if known."""
        eigenvalues = self.entry.marks.get("eigenvalues")
        if eigenvalues is None:
            return None
        params = {name: p.default for name, p in (self.entry.parameters or {}).items()}
        params |= {name: value for name, value in self.arguments.items() if name != "basis"}
        basis = self.arguments["basis"] if params.get("rotate") else np.eye(self.active)
        return basis, eigenvalues(self.active, **params)


@uniform()
def make_inputs(
    in_dim: int,
    name: str = "gaussian",
    params: Mapping[str, Any] | None = None,
    d_active: int | None = None,
    data_seed: int = 0,
    axes: Float64[np.ndarray, "in in"] | None = None,
) -> Inputs:
    """Return the distribution that `data.inputs` and its parameters describe, along some axes (columns).

    Raises:
        ConfigError: Its name, parameters or dimensions do not fit.
        ExtensionError: A user's function raised, or does not draw sample by sample.

    >>> make_inputs(3, "spectrum", {"values": [4.0, 1.0]}, d_active=2).covariance.diagonal().tolist()
    [4.0, 1.0, 0.0]
    """
    entry = INPUTS.get(name, "data.inputs")
    entry.check(params or {}, "data.inputs_params")
    active = in_dim if d_active is None else d_active
    if active > in_dim:
        raise ConfigError(f"data.d_active is {active} but there are only model.in_dim={in_dim} inputs")
    wants = entry.asks_for
    if "basis" in wants:
        check_fits(16 * active**2, "model.in_dim", f"the basis of {name!r} inputs")
    basis = {"basis": haar(active, active, stream(data_seed, "input basis"))} if "basis" in wants else {}
    inputs = Inputs(entry, {**(params or {}), **basis}, in_dim, active, axes)
    together, alone = (stream(data_seed, "trial inputs") for _ in range(2))
    if not np.array_equal(inputs.draw(3, together), np.concatenate([inputs.draw(n, alone) for n in (1, 2)])):
        raise ExtensionError(
            f"input distribution {name!r} must draw sample by sample: 3 samples are not the same as 1 and then 2"
        )
    return inputs
