"""The kernels' quantities against their definitions in torch, and against autograd's gradients."""

import itertools

import numpy as np
import pytest
import torch

from dln.kernels.batches import Data, Draw
from dln.kernels.rules import SGD
from dln.kernels.state import State
from dln.kernels.summary import pair_quantities, quantities
from dln.measure.quantities import IN_KERNELS, PAIR_IN_KERNELS, PAIR_QUANTITIES
from dln.measure.supply import Supply
from dln.model import DeepLinearNetwork

SHAPES = [(4, 10, 5), (3, 2), (5, 7, 2, 9, 6), (6, 50, 150, 3), (17, 90, 21)]
"""Nets in packs and, the last two, in the rows layout; the last with whole vectors and rests everywhere."""
SAMPLES, RECORDS = 30, 3


class Problem:
    """R nets of one shape at several records, each on a batch of its own."""

    def __init__(self, widths, batch=7, members=19, bias=True, dtype="float64", seed=0):
        g = np.random.default_rng(seed)
        layers = list(itertools.pairwise(widths))
        self.members, self.batch, self.bias = members, batch, bias
        self.weights = [g.standard_normal((RECORDS, members, o, i)) * i**-0.5 for i, o in layers]
        self.biases = [g.standard_normal((RECORDS, members, o)) for _, o in layers] if bias else None
        self.inputs = g.standard_normal((2, SAMPLES, widths[0]))
        self.targets = g.standard_normal((2, SAMPLES, widths[-1]))
        self.order = g.integers(0, SAMPLES, (5, RECORDS, max(batch, 1))).astype(np.int32)
        self.dataset, self.stream = np.arange(members) % 2, np.arange(members) % 5
        self.dtype = np.dtype(dtype)
        self.layout = self.state(0).layout
        self.kept = np.stack([self.state(t).packed().copy() for t in range(RECORDS)])

    def state(self, t):
        biases = None if self.biases is None else [b[t] for b in self.biases]
        return State([w[t] for w in self.weights], biases, self.dtype, SGD())

    def quantities(self, *names):
        size = np.full(RECORDS, self.batch)
        size[1:] = self.batch // 2  # a short batch; or, of the full one, the full one
        data = Data(self.inputs, self.targets, self.dtype, self.bias)
        draw = Draw(data, self.dataset, self.stream, self.order, size)
        return quantities(names, self.layout, self.kept, draw, range(RECORDS))

    def network(self, t, m):
        """Member m at record t, in float64, with autograd's gradients of the loss on its batch."""
        biases = None if self.biases is None else [b[t, m].astype(self.dtype) for b in self.biases]
        model = DeepLinearNetwork.from_weights(
            [w[t, m].astype(self.dtype) for w in self.weights], biases, dtype=torch.float64
        )
        count = self.batch if t == 0 else self.batch // 2
        batch = self.order[self.stream[m], t, :count] if self.batch else slice(None)
        x, y = (a[self.dataset[m], batch].astype(self.dtype).astype(float) for a in (self.inputs, self.targets))
        torch.nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        return model


@pytest.mark.parametrize("widths", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("bias", "batch", "dtype"), [(True, 7, "float32"), (False, 2, "float64"), (True, 0, "float64")]
)
def test_quantities_are_their_definitions(widths, bias, batch, dtype):
    problem = Problem(widths, batch, bias=bias, dtype=dtype)
    found = problem.quantities(*IN_KERNELS)
    for t, m in itertools.product(range(RECORDS), (0, 5, 18)):
        model = problem.network(t, m)
        for name in IN_KERNELS:
            expected = Supply({"model": model})[name].detach().numpy()
            np.testing.assert_allclose(found[name][t, m], expected, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("widths", [(4, 10, 5), (6, 50, 150, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantities_of_pairs_are_their_definitions(widths, dtype):
    a, b = Problem(widths, dtype=dtype), Problem(widths, dtype=dtype, members=4, seed=1)
    member_a, member_b = np.array([18, 0, 3, 3]), np.array([1, 1, 3, 2])
    found = pair_quantities(a.layout, a.kept, b.kept, member_a, member_b)
    for t, r in itertools.product(range(RECORDS), range(4)):
        models = a.network(t, member_a[r]), b.network(t, member_b[r])
        for name in PAIR_IN_KERNELS:
            expected = PAIR_QUANTITIES.get(name)(*models).detach().numpy()
            np.testing.assert_allclose(found[name][t, r], expected, rtol=1e-12)


def test_a_gradient_that_is_a_difference_of_large_numbers_keeps_its_digits():
    """Near a saddle: one mode is learned, the residual lies in the other, which the net hardly transmits.

    For W_l = Q_l diag(1, s) Q_{l-1}' and targets diag(1, 1) in the outer frames, both layers' gradients have norm
    (1 - s^2) s up to the factor 2 / d_out: s is what remains where all terms of the sums are of order 1.
    """
    turn = [np.linalg.qr(np.random.default_rng(i).standard_normal((2, 2)))[0] for i in range(3)]
    for s in (1e-3, 1e-7, 1e-10):
        problem = Problem((2, 2, 2), 0, members=1, bias=False)
        layers = [turn[i + 1] @ np.diag([1, s]) @ turn[i].T for i in range(2)]
        problem.weights = [np.broadcast_to(w, (RECORDS, 1, 2, 2)) for w in layers]
        problem.kept = np.stack([problem.state(t).packed().copy() for t in range(RECORDS)])
        inputs = np.sqrt(SAMPLES) * np.linalg.qr(np.random.default_rng(9).standard_normal((SAMPLES, 2)))[0]
        problem.inputs, problem.targets = (np.stack([a, a]) for a in (inputs, inputs @ turn[0] @ turn[2].T))
        norms = np.sqrt(problem.quantities("gradient_squares")["gradient_squares"][0, 0])
        np.testing.assert_allclose(norms, s * (1 - s**2), rtol=1e-14 / s)


@pytest.mark.parametrize("widths", [(4, 10, 5), (6, 50, 150, 3)], ids=str)
def test_a_member_that_is_not_finite_leaves_the_others_untouched(widths, monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "1")  # one thread: every member uses the same scratch
    problem = Problem(widths)
    calm = problem.quantities(*IN_KERNELS)
    pack, slot = divmod(3, problem.layout.slots)
    problem.kept[(1, pack, slice(None)) + ((slot,) if problem.layout.slots > 1 else ())] = np.nan
    wild = problem.quantities(*IN_KERNELS)
    for name, values in wild.items():
        assert not np.isfinite(values[1, 3]).all()
        values[1, 3] = calm[name][1, 3]
        np.testing.assert_array_equal(values, calm[name])


def test_only_what_is_asked_for_is_found():
    problem = Problem((4, 10, 5))
    assert problem.quantities() == {}
    everything = problem.quantities(*IN_KERNELS)
    for name in IN_KERNELS:
        alone = problem.quantities(name)
        assert list(alone) == [name]
        np.testing.assert_array_equal(alone[name], everything[name])
