"""What a theory takes and what it says, and the registry of theories.

    Problem (a run at its start) and steps -> theory -> Prediction (maps or moments at these steps, conditions)

A theory is a function, so anyone can write one: see `register_theory`. What is derived of a predicted map (losses,
singular values, distances to the run) is derived by the same code as for runs, in `dln.theory.lanes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from dln.base.registry import Registry
from dln.derivatives.products import Chain
from dln.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int

Sampling = Literal["full", "epochs", "replacement", "online"]
"""How batches come about: the whole training set, in epochs, drawn with replacement, or afresh from the population."""

THEORIES = Registry("theory", supplied=("problem", "steps"))


def register_theory(
    name: str, *, columns: Sequence[str] = (), maps: bool = True, cost: str = "cheap", source: str = ""
):
    """Register `f(problem, steps) -> Prediction` as a theory: `theory=[name]`.

    Further arguments are parameters that a config can set under `params`. The first line of the docstring says what it
    predicts, the rest the formula, the conditions that it tells and what they mean.

    Args:
        name: Its name, and what the columns of its predictions end in.
        columns: What it says directly, beside or in place of what is derived of its maps.
        maps: Whether it predicts maps.
        cost: What a prediction of a default run takes: cheap (milliseconds), moderate (less than the run on the
            autograd engine) or heavy.
        source: Where the formula is from.
    """
    return THEORIES.register(name, columns=tuple(columns), maps=maps, cost=cost, source=source)


@dataclass(frozen=True)
class Problem:
    """R runs of one shape, as theory sees them: where they start, what they learn from and how they are trained.

    Arrays are float64. Runs are of plain gradient descent on the mean squared error, without biases.
    """

    layers: Sequence[Float64[np.ndarray, "R out in"]]
    """Initial weights W_1, ..., W_L."""
    sigma: Float64[np.ndarray, "R in in"]
    """Sigma = X'X / N of the training set; of online data, the population's covariance."""
    sigma_yx: Float64[np.ndarray, "R out in"]
    """Sigma_yx = Y'X / N likewise."""
    target_square: Float64[np.ndarray, " R"]
    """Mean of ||y||^2, noise included, likewise."""
    lr: Float64[np.ndarray, " R"]
    """Learning rates."""
    sampling: Sampling = "full"
    batch_size: int | None = None
    """Samples a step; None is the full batch."""
    inputs: Float64[np.ndarray, "R N in"] | None = None
    """The training set; None: data are online."""
    targets: Float64[np.ndarray, "R N out"] | None = None
    noise_std: Float64[np.ndarray, " R"] = field(default_factory=lambda: np.zeros(1))
    """Standard deviation of the noise on the targets of online data (that of a training set is in its targets)."""
    label_noise: Float64[np.ndarray, " R"] = field(default_factory=lambda: np.zeros(1))
    """Standard deviation of fresh noise on the targets of every batch."""
    normal: Bool[np.ndarray, " R"] = field(default_factory=lambda: np.ones(1, bool))
    """Whether online inputs are Gaussian."""
    seeds: Int[np.ndarray, " R"] = field(default_factory=lambda: np.zeros(1, np.int64))
    """Seeds of the models, for theories that draw: what they say is the same for all batch seeds."""

    def __len__(self) -> int:
        return len(self.layers[0])

    def of(self, run: int) -> Problem:
        """Return one of the runs alone; arrays of one number, as the defaults, are of all runs."""
        one = slice(run, run + 1)
        arrays = {
            name: value[one] if len(value) == len(self) else value
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        own = {name: arrays[name] for name in self.__dataclass_fields__ if name in arrays}
        return replace(self, layers=[w[one] for w in self.layers], **own)

    @property
    def depth(self) -> int:
        """L."""
        return len(self.layers)

    @property
    def dims(self) -> tuple[int, int]:
        """d_out, d_in."""
        return self.layers[-1].shape[-2], self.layers[0].shape[-1]

    @property
    def samples(self) -> int | None:
        """N; None: data are online."""
        return None if self.inputs is None else self.inputs.shape[1]

    @cached_property
    def start(self) -> Float64[np.ndarray, "R out in"]:
        """The end-to-end map at the start."""
        return Chain(self.layers).end

    @cached_property
    def rate(self) -> Float64[np.ndarray, " R"]:
        """Eta = 2 lr / d_out: a step is one of this size on (1/2) E||W x - y||^2, the papers' loss."""
        return 2 * self.lr / self.dims[0]

    @cached_property
    def optimum(self) -> Float64[np.ndarray, "R out in"]:
        """W* = Sigma_yx Sigma^+, the least-squares map; zero on directions that have no inputs."""
        return self.sigma_yx @ np.linalg.pinv(self.sigma, hermitian=True)

    def losses(self, maps: Float64[np.ndarray, "R *T out in"]) -> Float64[np.ndarray, " R *T"]:
        """Return the mean squared errors of maps: (tr W Sigma W' - 2 tr W Sigma_yx' + E||y||^2) / d_out.

        They are those of the whole training set or, online, of the population, noise included.
        """
        lead = (len(self), *[1] * (maps.ndim - 3))
        sigma, sigma_yx = (a.reshape(*lead, *a.shape[1:]) for a in (self.sigma, self.sigma_yx))
        found = ((maps @ sigma - 2 * sigma_yx) * maps).sum((-2, -1))
        return (found + self.target_square.reshape(lead)) / self.dims[0]


@dataclass(frozen=True)
class Prediction:
    """What a theory says of R runs at T steps; NaN where it says nothing."""

    maps: Float64[np.ndarray, "R T out in"] | None = None
    """The end-to-end maps, from which losses, singular values and the like are derived; or their mean E W."""
    columns: Mapping[str, Float64[np.ndarray, "R T ..."]] = field(default_factory=dict)
    """What it says directly, by the names of columns, in place of what would be derived and beside it."""
    conditions: Mapping[str, Float64[np.ndarray, " R"]] = field(default_factory=dict)
    """How good the theory is for each run: numbers that are small where it holds, as its docstring says."""
    scatter: Float64[np.ndarray, "R T in in"] | None = None
    """Where maps are means: E (W - E W)'(W - E W), of which losses get their share, tr(scatter Sigma) / d_out."""


def stacked(parts: Sequence[Prediction]) -> Prediction:
    """Return what is said of runs one by one, in arrays without the leading R, as the prediction of all; with maps.

    >>> parts = [Prediction(np.full((1, 2, 2), value), {"x": np.array([value])}) for value in (1.0, 2.0)]
    >>> stacked(parts).maps.shape, stacked(parts).columns["x"].tolist()
    ((2, 1, 2, 2), [[1.0], [2.0]])
    """
    first = parts[0]
    columns = {name: np.stack([part.columns[name] for part in parts]) for name in first.columns}
    conditions = {name: np.stack([part.conditions[name] for part in parts]) for name in first.conditions}
    maps, scatter = (
        None if getattr(first, name) is None else np.stack([getattr(part, name) for part in parts])
        for name in ("maps", "scatter")
    )
    return Prediction(maps, columns, conditions, scatter)


def check_condition(name: str, values: Float64[np.ndarray, " R"], most: float, what: str, remedy: str) -> None:
    """Raise ConfigError where a theory is asked for outside its domain.

    >>> check_condition("modes", np.array([0.4]), 1e-6, "max |Sigma - I|", "use data.whiten=true")
    Traceback (most recent call last):
    dln.errors.ConfigError: theory modes needs max |Sigma - I| at most 1e-06, and it is 0.4; use data.whiten=true
    """
    worst = float(np.max(values))
    if not worst <= most:
        raise ConfigError(f"theory {name} needs {what} at most {most:g}, and it is {worst:.3g}; {remedy}")
