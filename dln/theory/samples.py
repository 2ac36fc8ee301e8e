"""A few samples that stand for a whole set, or for a population: every map has the same loss on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dln.data import Dataset
from dln.measure.data_quantities import population_input_root, teacher

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


@dataclass(frozen=True)
class Samples:
    """Samples of R sets, scaled so that squared residuals sum to the mean squared error.

    The triangle of a QR decomposition of [X Y] has the moments of both, so a sum of squares is taken, of which nothing
    cancels: a loss near zero keeps its digits, as it would not in tr W Sigma W' - 2 tr W Sigma_yx' + E||y||^2.
    """

    inputs: Float64[np.ndarray, "R S in"]
    targets: Float64[np.ndarray, "R S out"]

    @classmethod
    def of(cls, datasets: Sequence[Dataset], split: Literal["train", "test"]) -> Samples:
        """Return those of the training or test sets of datasets; of online data, the training set is the population."""
        rows = [_population(data) if split == "train" and data.online else _triangle(data, split) for data in datasets]
        joint = np.stack(rows)
        n = datasets[0].dims[0]
        scaled = joint / np.sqrt(joint.shape[-1] - n)
        return cls(scaled[..., :n], scaled[..., n:])

    def at(self, which: Int[np.ndarray, " R"]) -> Samples:
        """Return those of some sets."""
        return Samples(self.inputs[which], self.targets[which])

    def losses(
        self, maps: Float64[np.ndarray, "R T out in"], scatter: Float64[np.ndarray, "R T in in"] | None = None
    ) -> Float64[np.ndarray, "R T"]:
        """Return mean squared errors.

        Args:
            maps: W, or means E W of maps.
            scatter: Then E (W - E W)'(W - E W), and the losses are means: those of E W + tr(scatter Sigma) / d_out.

        >>> one = Samples(np.array([[[1.0]]]), np.array([[[3.0]]]))
        >>> one.losses(np.array([[[[2.0]], [[3.0]]]])).tolist()
        [[1.0, 0.0]]
        """
        residuals = self.inputs[:, None] @ maps.mT - self.targets[:, None]
        found = (residuals**2).sum((-2, -1))
        return (
            found if scatter is None else found + (self.inputs[:, None] @ scatter * self.inputs[:, None]).sum((-2, -1))
        )


def _triangle(data: Dataset, split: str) -> Float64[np.ndarray, "S n"]:
    x, y = (getattr(data, f"{split}_{kind}").cpu().numpy().astype(np.float64) for kind in ("inputs", "targets"))
    return np.asarray(np.linalg.qr(np.concatenate([x, y], 1) / np.sqrt(len(x)), mode="r"))


def _population(data: Dataset) -> Float64[np.ndarray, "S n"]:
    """Rows x, T x over a root of the inputs' covariance, and rows 0, noise."""
    x = population_input_root(data)[:-1, :-1].T
    noise = data.noise_std * np.eye(data.dims[1])
    return np.block([[x, x @ teacher(data).T], [np.zeros((len(noise), x.shape[1])), noise]])
