"""Small random networks with data, for tests of derivatives; several, stacked, if `lead` is given."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from dln.derivatives.products import moments, with_biases, with_constant
from dln.model import DeepLinearNetwork

SHAPES = [(3, 2), (2, 4, 3), (4, 7, 6, 2), (2, 6, 3, 5, 3), (5, 1, 4)]
"""Widths from input to output, depths 1 to 4: rectangular, wide, with a bottleneck."""


@dataclass
class Case:
    """A network at no special point, and samples."""

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def layers(self) -> list[np.ndarray]:
        return with_biases(self.weights, self.biases)

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        return moments(with_constant(self.inputs) if self.biases else self.inputs, self.targets)

    @property
    def model(self) -> DeepLinearNetwork:
        return DeepLinearNetwork.from_weights(self.weights, self.biases or None, dtype=torch.float64)

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.inputs), torch.from_numpy(self.targets)

    def flat_gradient(self, rows: slice | list[int] = slice(None)) -> np.ndarray:
        """The gradient of the mean squared error on some samples by autograd, layer by layer, columns one by one."""
        model = self.model
        inputs, targets = self.tensors
        torch.nn.MSELoss()(model(inputs[rows]), targets[rows]).backward()
        return np.concatenate([p.grad.mT.flatten() if p.ndim == 2 else p.grad for p in model.parameters()])


def case(widths=(4, 7, 6, 2), samples=9, bias=False, lead=(), seed=0) -> Case:
    rng = np.random.default_rng(seed)
    shapes = [(after, before) for before, after in pairwise(widths)]
    weights = [rng.standard_normal((*lead, *shape)) / np.sqrt(shape[1]) for shape in shapes]
    biases = [rng.standard_normal((*lead, p)) for p, _ in shapes] if bias else []
    ends = (rng.standard_normal((*lead, samples, n)) for n in (widths[0], widths[-1]))
    return Case(weights, biases, *ends)


def member(stacked: Case, r) -> Case:
    """One of several."""
    return Case([w[r] for w in stacked.weights], [b[r] for b in stacked.biases], stacked.inputs[r], stacked.targets[r])


def balanced(singular_values, width, depth, seed=0) -> list[np.ndarray]:
    """Balanced layers of a square end-to-end map with these singular values, in random bases."""
    rng = np.random.default_rng(seed)
    d = len(singular_values)
    bases = [np.linalg.qr(rng.standard_normal((n, d)))[0] for n in (d, *[width] * (depth - 1), d)]
    root = np.diag(np.asarray(singular_values, dtype=float) ** (1 / depth))
    return [after @ root @ before.T for before, after in pairwise(bases)]
