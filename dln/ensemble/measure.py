"""Metrics of all members at once: the built-in ones in one call, a user's one member at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dln.data import Dataset
from dln.ensemble.supply import Draw
from dln.metrics import Metric, MetricData
from dln.model import DeepLinearNetwork
from dln.train import naming

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int


@dataclass
class View:
    """All members of a lane as a built-in metric sees a model: weights [R, out, in] and biases [R, out]."""

    weights: list[Tensor]
    biases: list[Tensor]
    dtype: torch.dtype
    """The precision that members are trained in; the view itself is in float64, which metrics accumulate in."""

    @classmethod
    def of(
        cls,
        weights: Sequence[Float[np.ndarray, "R out in"]],
        biases: Sequence[Float[np.ndarray, "R out"]] | None,
        members: Int[np.ndarray, " r"],
    ) -> View:
        """View some of the members, in this order."""
        arrays = [a[members].astype(np.float64, copy=False) for a in (*weights, *(biases or ()))]
        tensors = [torch.from_numpy(a) for a in arrays]
        return cls(tensors[: len(weights)], tensors[len(weights) :], torch.from_numpy(weights[0]).dtype)

    def parameters(self) -> list[Tensor]:
        """All tensors, weights first."""
        return [*self.weights, *self.biases]

    def finite(self) -> np.ndarray:
        """Which members [R] have finite weights only."""
        return np.all([np.isfinite(p.numpy()).all(axis=tuple(range(1, p.ndim))) for p in self.parameters()], 0)


def add_gradients(view: View, draw: Draw) -> None:
    """Give the tensors of `view` the gradients of the mean squared error on the first batch of `draw`.

    With E the end-to-end map of the inputs and a constant one, r = E x - y and G = 2/(B d_out) sum r x', layer l has
    gradient A_l' G H_{l-1}', where H_{l-1} maps the inputs to the layer's inputs and A_l its outputs to the net's.
    """
    weights, biases = ([t.numpy() for t in tensors] for tensors in (view.weights, view.biases))
    inputs, targets = batch_samples(draw)
    members, n = len(weights[0]), inputs.shape[2]
    below = [np.broadcast_to(np.eye(weights[0].shape[2], n), (members, weights[0].shape[2], n))]
    for layer, w in enumerate(weights):
        h = w @ below[-1]
        if biases:
            h[:, :, -1] += biases[layer]
        below.append(h)
    residuals = inputs @ below[-1].mT - targets  # [R, B, d_out]
    above = 2 * (residuals.mT @ inputs)  # G at the top, then A_l' G
    for layer in reversed(range(len(weights))):
        view.weights[layer].grad = torch.from_numpy(above @ below[layer].mT)
        if biases:
            view.biases[layer].grad = torch.from_numpy(above[:, :, -1].copy())
        above = weights[layer].mT @ above


def batch_samples(draw: Draw) -> tuple[Float64[np.ndarray, "R B n"], Float64[np.ndarray, "R B out"]]:
    """Return every member's first batch, scaled so that its squared residuals sum to the loss.

    Of a full batch these are the few pseudo-samples that have its loss and gradient.
    """
    n = draw.data.inputs.shape[2]
    if draw.size[0] == 0:
        joint = draw.data.samples[draw.dataset]
        return joint[:, :, :n], joint[:, :, n:]
    rows = draw.order[draw.stream, 0, : draw.size[0]]  # [R, B]
    inputs, targets = (a[draw.dataset[:, None], rows].astype(np.float64) for a in (draw.data.inputs, draw.data.targets))
    scale = 1 / np.sqrt(rows.shape[1] * targets.shape[2])
    return inputs * scale, targets * scale


class Probe:
    """Evaluates a lane's metrics."""

    def __init__(self, metrics: Sequence[Metric], datasets: Sequence[Dataset], dataset: Int[np.ndarray, " R"]) -> None:
        """Take the metrics, and what a user's metric may want to know of the data."""
        self.metrics, self.datasets, self.dataset = metrics, datasets, dataset
        self.wants_gradients = any(m.wants_gradients for m in metrics)
        self._criterion = nn.MSELoss()  # the only loss that is compiled

    def measure(
        self, view: View, draw: Draw, members: Int[np.ndarray, " r"], suffix: str, step: int
    ) -> dict[str, np.ndarray]:
        """Return {column: values [r, ...]} of some members.

        Args:
            view: Their weights, with gradients if any metric wants them.
            draw: Their batches.
            members: Their numbers.
            suffix: Added to column names.
            step: The present step, for messages.
        """
        columns: dict[str, np.ndarray] = {}
        for metric in self.metrics:
            with naming(f"metric {metric.label!r}", step):
                if metric.batched:
                    columns |= metric.batched_columns(metric(view), suffix)
                else:
                    rows = {
                        int(place): metric.columns(
                            metric(
                                solo_model(view, int(place)), data=self._data(int(members[place]), int(place), draw)
                            ),
                            suffix,
                        )
                        for place in np.flatnonzero(view.finite())  # of a member that has diverged nothing is recorded
                    }
                    columns |= stacked(rows, len(members))
        return columns

    def _data(self, member: int, place: int, draw: Draw) -> MetricData:
        sets = self.datasets[self.dataset[member]]
        if draw.size[0] == 0:
            inputs, targets = sets.train_inputs, sets.train_targets
        else:
            rows = draw.order[draw.stream[place], 0, : draw.size[0]]
            x, y = (a[draw.dataset[place], rows] for a in (draw.data.inputs, draw.data.targets))
            inputs, targets = torch.from_numpy(x[:, : sets.dims[0]].copy()), torch.from_numpy(y)
        assert inputs is not None
        assert targets is not None
        return MetricData.of(inputs, targets, self._criterion, sets)


def stacked(rows: Mapping[int, Mapping[str, Any]], members: int) -> dict[str, np.ndarray]:
    """Return {column: [R, ...]} of values found member by member, NaN for members without."""
    columns: dict[str, np.ndarray] = {}
    for member, row in rows.items():
        for name, value in row.items():
            if name not in columns:
                columns[name] = np.full((members, *np.shape(value)), np.nan)
            columns[name][member] = value
    return columns


def solo_model(view: View, member: int) -> DeepLinearNetwork:
    """Return one member as a network of its own, gradients included."""
    weights = [w[member] for w in view.weights]
    biases = [b[member] for b in view.biases] or None
    model = DeepLinearNetwork.from_weights(weights, biases, dtype=view.dtype, check=False)
    for ours, theirs in zip((*model.weights, *model.biases), (*view.weights, *view.biases), strict=True):
        if theirs.grad is not None:
            ours.grad = theirs.grad[member].to(view.dtype)
    return model
