"""The kernels against torch and numpy, and the promise that a member's digits depend on nothing but the member."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dln.base.parallel import thread_count
from dln.errors import ConfigError
from dln.kernels import rules, training
from dln.kernels.batches import Data, Draw
from dln.kernels.layout import Layout
from dln.kernels.rules import SGD, Adam, Adamax, AdamW
from dln.kernels.state import State

SAMPLES = 40


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Threads cost torch more than they bring on nets of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


RULES = {
    "plain": SGD(),
    "decay": SGD(weight_decay=0.01, dampening=0.5),
    "momentum": SGD(momentum=0.9, dampening=0.1),
    "nesterov": SGD(momentum=0.8, nesterov=True, weight_decay=0.01),
    "adam": Adam(weight_decay=0.01),
    # A large eps: with 1e-6 and full batches torch itself moves by 1e-3 when its initial weights change by 1e-15.
    "adamw": AdamW(betas=(0.8, 0.99), weight_decay=0.1, eps=0.01),
    "adamax": Adamax(betas=(0.8, 0.99), weight_decay=0.05),
}
SMALL, LARGE = (4, 10, 5), (6, 50, 150, 3)
"""Widths of nets in packs and in rows."""


def spared(rule, dtype, widths):
    """Mark as long what has a kernel compiled that nothing else needs, for some seven seconds.

    A kernel is of a kind of rule, a precision and a layout. Each of these is tried everywhere, not each combination.
    """
    compiled = {
        "plain": (("float32", SMALL), ("float32", LARGE), ("float64", SMALL), ("float64", LARGE)),
        "momentum": (("float64", SMALL),),
        "adam": (("float32", SMALL), ("float64", SMALL), ("float64", LARGE)),
        "adamw": (("float64", SMALL),),
        "adamax": (("float64", SMALL),),
    }
    kind = {"decay": "momentum", "nesterov": "momentum"}.get(rule, rule)  # one code
    return () if (dtype, widths) in compiled[kind] else pytest.mark.long


def tried(rules, dtypes=("float32", "float64")):
    """Return cases (rule, dtype, widths) of each in each layout."""
    cases = itertools.product(rules, dtypes, (SMALL, LARGE))
    return pytest.mark.parametrize(
        ("rule", "dtype", "widths"), [pytest.param(*case, marks=spared(*case)) for case in cases], ids=str
    )


@dataclass
class Problem:
    """R members of some widths, with D datasets and K streams of batches."""

    weights: list[np.ndarray]
    biases: list[np.ndarray] | None
    inputs: np.ndarray
    targets: np.ndarray
    order: np.ndarray
    size: np.ndarray
    dataset: np.ndarray
    stream: np.ndarray
    lr: np.ndarray

    def train(self, rule=RULES["plain"], dtype="float64", members=None, cuts=(), records=()):
        """Return the final state, and the losses [2, T, R] on batch and (last dataset reversed) test set."""
        members = np.arange(len(self.lr)) if members is None else np.asarray(members)
        bias = self.biases is not None
        state = State(
            [w[members] for w in self.weights], [b[members] for b in self.biases] if bias else None, dtype, rule
        )
        data = Data(self.inputs, self.targets, dtype, bias)
        test = Data(self.inputs[:, ::-2], self.targets[:, ::-2], dtype, bias)
        updates = len(self.size) - 1
        losses = []
        for start, stop in itertools.pairwise((0, *cuts, updates)):
            inside = [t - start for t in records if start <= t < stop or (t == stop == updates)]
            draw = Draw(data, self.dataset, self.stream, self.order, self.size).select(members)
            cut = draw.between(start, stop + 1), stop - start, self.lr[members]
            losses.append(state.train(*cut, inside, test, draw.dataset))
        return state, np.concatenate(losses, axis=1)

    def member(self, m):
        """Weights, biases, inputs, targets, order of member m."""
        d, k = self.dataset[m], self.stream[m]
        biases = None if self.biases is None else [b[m] for b in self.biases]
        return [w[m] for w in self.weights], biases, self.inputs[d], self.targets[d], self.order[k]


def make_problem(widths, batch, updates, members=2, bias=False, datasets=1, streams=None, lr=0.01, seed=0, noise=0.1):
    """Draw a problem; batch 0 is the full batch. Every seventh batch is short."""
    g = np.random.default_rng(seed)
    layers = list(itertools.pairwise(widths))
    streams = members if streams is None else streams
    inputs = g.standard_normal((datasets, SAMPLES, widths[0]))
    teacher = g.standard_normal((datasets, widths[0], widths[-1]))
    size = np.full(updates + 1, batch)
    if batch > 2:
        size[3::7] = batch // 2
    return Problem(
        weights=[g.standard_normal((members, o, i)) * i**-0.5 for i, o in layers],
        biases=[g.standard_normal((members, o)) * 0.1 for _, o in layers] if bias else None,
        inputs=inputs,
        targets=inputs @ teacher + noise * g.standard_normal((datasets, SAMPLES, widths[-1])),
        order=g.integers(0, SAMPLES, (streams, updates + 1, max(batch, 1))).astype(np.int32),
        size=size,
        dataset=np.arange(members) % datasets,
        stream=np.arange(members) % streams,
        lr=lr * (1 + np.arange(members) / members),
    )


def digits(state):
    """Weights and biases of each member in one row [R, P]."""
    weights, biases = state.weights()
    return np.concatenate([a.reshape(state.members, -1) for a in weights + (biases or [])], axis=1)


def test_every_compiled_rule_is_tried_here_and_is_torchs():
    assert {type(RULES[rule]) for *_, rule in GRID} == set(rules.RULES.values())
    for name, rule in rules.RULES.items():
        defaults = inspect.signature(getattr(torch.optim, name)).parameters
        assert rule().arguments | {"weight_decay": 0} == {n: defaults[n].default for n in rule.parameters()} | {
            "weight_decay": 0
        }


def everything(state):
    """Weights and optimiser state of each member [R, ...]."""
    arrays = state._arrays
    if arrays[0].ndim == 3:
        arrays = [np.swapaxes(a, 1, 2).reshape(-1, a.shape[1]) for a in arrays]
    return np.concatenate([a[: state.members] for a in arrays], axis=1)


def torch_digits(problem, m, rule):
    """The same for one member trained by torch in float64."""
    weights, biases, inputs, targets, order = problem.member(m)
    weights, biases = ([torch.tensor(a, requires_grad=True) for a in arrays or ()] for arrays in (weights, biases))
    optimizer = getattr(torch.optim, rule.name)([*weights, *biases], lr=problem.lr[m], foreach=False, **rule.arguments)
    inputs, targets = torch.tensor(inputs.copy()), torch.tensor(targets.copy())
    for batch, size in zip(order[:-1], problem.size[:-1], strict=True):
        which = torch.tensor(batch[:size].astype(np.int64)) if size else slice(None)
        outputs = inputs[which]
        for w, b in itertools.zip_longest(weights, biases):
            outputs = torch.nn.functional.linear(outputs, w, b)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(outputs, targets[which]).backward()
        optimizer.step()
    return np.concatenate([p.detach().numpy().ravel() for p in [*weights, *biases]])


def naive_losses(state, problem, t):
    """Losses [2, R] of a state on batch t and on the test set, in plain numpy."""
    weights, biases = state.weights()
    losses = np.empty((2, state.members))
    for m in range(state.members):
        _, _, inputs, targets, order = problem.member(m)
        inputs, targets = (
            inputs.astype(state.layout.dtype).astype(float),
            targets.astype(state.layout.dtype).astype(float),
        )
        which = order[t, : problem.size[t]] if problem.size[t] else slice(None)
        a, b = np.eye(inputs.shape[1]), np.zeros(inputs.shape[1])
        for layer, w in enumerate(weights):
            a, b = w[m].astype(float) @ a, w[m].astype(float) @ b + (0 if biases is None else biases[layer][m])
        residuals = inputs @ a.T + b - targets
        losses[:, m] = np.mean(residuals[which] ** 2), np.mean(residuals[::-2] ** 2)
    return losses


GRID = [  # widths, batch, bias, rule: every value of each, and depth 1 to 5, in both layouts
    ((5, 3), 1, False, "plain"),
    ((5, 3), 0, True, "adam"),
    ((4, 1, 3), 7, True, "plain"),
    ((1, 1, 1), 10, True, "nesterov"),
    ((5, 10, 10, 5), 1, True, "momentum"),
    ((5, 10, 10, 5), 0, False, "plain"),
    ((5, 10, 10, 5), 10, False, "adamw"),
    ((12, 20, 5), 7, False, "decay"),
    ((12, 20, 5), 10, True, "plain"),
    ((5, 7, 16, 33, 2), 10, True, "plain"),
    ((5, 7, 16, 33, 2), 7, False, "nesterov"),
    ((3, 64, 17, 50, 20, 6), 1, True, "plain"),
    ((3, 64, 17, 50, 20, 6), 0, False, "momentum"),
    ((3, 40, 9, 9, 40, 2), 7, True, "adam"),
    ((5, 64, 64, 64, 5), 0, True, "plain"),
    ((5, 64, 64, 64, 5), 7, False, "plain"),
    ((6, 64, 64, 64, 3), 1, False, "nesterov"),
    ((6, 64, 64, 64, 3), 10, True, "adamw"),
    ((5, 10, 10, 5), 7, True, "adamax"),
    ((6, 64, 64, 64, 3), 10, False, "adamax"),
]


LONG = [GRID[i] for i in (2, 6, 11)]
"""Those that take five times as many steps: what grows slowly would show in these."""


def _case(widths, batch, bias, rule):
    layout = (
        SMALL
        if Layout([np.zeros((1, o, i)) for i, o in itertools.pairwise(widths)], bias, "float64").slots > 1
        else LARGE
    )
    return pytest.param(widths, batch, bias, rule, marks=spared(rule, "float64", layout))


@pytest.mark.sampled
@pytest.mark.parametrize(("widths", "batch", "bias", "rule"), [_case(*case) for case in GRID], ids=str)
def test_weights_after_many_steps_are_those_of_torch(widths, batch, bias, rule):
    steps = 2000 if (widths, batch, bias, rule) in LONG else 400
    lr = 0.01 if rule in ("plain", "decay") else 0.001
    problem = make_problem(widths, batch, steps, bias=bias, lr=lr)
    state, _ = problem.train(RULES[rule], cuts=(steps // 3,))
    expected = torch_digits(problem, 1, RULES[rule])
    assert np.isfinite(expected).all()
    assert np.linalg.norm(digits(state)[1] - expected) <= 1e-10 * np.linalg.norm(expected)


@tried(["plain", "adam"], ["float32"])
def test_float32_errs_no_more_than_float32_rounding(rule, dtype, widths):
    problem = make_problem(widths, 4, 300, bias=True, lr=0.003)
    exact, single = (digits(problem.train(RULES[rule], kind)[0]) for kind in ("float64", dtype))
    assert np.linalg.norm(single - exact) <= 1e-4 * np.linalg.norm(exact)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("widths", [(3, 2), SMALL, LARGE], ids=str)
def test_losses_are_those_of_numpy(widths, dtype, batch, bias):
    problem = make_problem(widths, batch, 20, members=3, bias=bias, datasets=2, lr=0.001)
    records = [0, 1, 10, 20]
    _, losses = problem.train(dtype=dtype, records=records)
    for i, t in enumerate(records):
        shorter = replace(problem, size=problem.size[: t + 1])
        state, _ = shorter.train(dtype=dtype)
        np.testing.assert_allclose(losses[:, i], naive_losses(state, problem, t), rtol=1e-12)


@pytest.mark.parametrize("batch", [7, 0])
@pytest.mark.parametrize("widths", [SMALL, LARGE], ids=str)
def test_losses_are_right_at_1e_minus_25_of_the_first(widths, batch):
    problem = make_problem(widths, batch, 1, noise=0)
    # An exact fit, off by 1e-13 in one entry; the maps in between keep their digits.
    exact = [np.zeros_like(w) for w in problem.weights]
    for w in exact:
        w[:, range(min(w.shape[1:])), range(min(w.shape[1:]))] = 1
    teacher = np.linalg.lstsq(problem.inputs[0], problem.targets[0], rcond=None)[0].T
    targets = problem.inputs @ teacher.T
    exact[-1][:] = 0
    exact[-1][:, :, : widths[0]] = teacher * (1 + 3e-13)
    problem = replace(problem, weights=exact, targets=targets)
    _, losses = problem.train(records=[0])
    expected = 9e-26 * np.array([np.mean(naive_targets(problem, m) ** 2) for m in range(2)])
    np.testing.assert_allclose(losses[0, 0], expected, rtol=0.01)


def naive_targets(problem, m):
    """Targets of the first batch of member m."""
    _, _, _, targets, order = problem.member(m)
    return targets[order[0, : problem.size[0]]] if problem.size[0] else targets


def test_without_a_test_set_its_losses_are_nan():
    problem = make_problem(SMALL, 1, 2)
    state = State(problem.weights, None, "float64", SGD())
    data = Data(problem.inputs, problem.targets, "float64", False)
    who = np.arange(2)
    train, test = state.train(Draw(data, 0 * who, who, problem.order, problem.size), 2, problem.lr, [0, 2])
    assert np.isfinite(train).all()
    assert np.isnan(test).all()
    assert train.shape == test.shape == (2, 2)


RECORDS = (0, 1, 13, 14, 24)


@pytest.mark.sampled
@tried(["plain", "nesterov", "adam"])
def test_digits_do_not_depend_on_company_order_threads_or_cuts(rule, dtype, widths, monkeypatch):
    for batch, bias in [(1, False), (7, True), (0, True)]:
        problem = make_problem(widths, batch, 24, members=19, bias=bias, datasets=3, streams=5, lr=0.001)
        monkeypatch.setenv("DLN_THREADS", "1")
        state, losses = problem.train(RULES[rule], dtype, records=RECORDS)
        reference = everything(state)
        assert np.isfinite(reference).all()
        assert np.isfinite(losses).all()
        monkeypatch.setenv("DLN_THREADS", "3")
        for members, cuts in [(range(19), (1, 13, 14)), (range(18, -1, -1), ()), ([18], (12,)), ([5, 17, 2], ())]:
            state, others = problem.train(RULES[rule], dtype, members, cuts, RECORDS)
            assert np.array_equal(everything(state), reference[list(members)])
            assert np.array_equal(others, losses[:, :, list(members)])


@tried(RULES)
def test_rates_of_every_update_are_those_of_updates_one_by_one(rule, dtype, widths):
    problem = make_problem(widths, 7, 12, members=5)
    rates = np.random.default_rng(1).uniform(0, 0.002, (12, 5))
    data, who = Data(problem.inputs, problem.targets, dtype, False), np.arange(5)
    together, apart = (State(problem.weights, None, dtype, RULES[rule]) for _ in range(2))
    draw = Draw(data, 0 * who, who, problem.order, problem.size)
    together.train(draw, 12, rates)
    for s in range(12):
        apart.train(draw.at(s), 1, rates[s])
    assert np.array_equal(everything(together), everything(apart))
    assert not np.array_equal(everything(together), everything(problem.train(RULES[rule], dtype)[0]))


@settings(max_examples=15)
@given(
    data=st.data(),
    widths=st.one_of(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.just(list(LARGE))),
    batch=st.integers(0, 13),
    bias=st.booleans(),
    rule=st.sampled_from(["plain", "adam"]),
)
def test_any_company_leaves_the_same_digits(data, widths, batch, bias, rule):
    members = data.draw(st.integers(1, 20))
    problem = make_problem(widths, batch, 9, members, bias, data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 8))))
    some = data.draw(st.lists(st.integers(0, members - 1), min_size=1, max_size=members))
    records = sorted(data.draw(st.sets(st.integers(0, 9))))
    alone, losses = problem.train(RULES[rule], records=records)
    together, others = problem.train(RULES[rule], members=some, cuts=cuts, records=records)
    assert np.array_equal(everything(together), everything(alone)[some], equal_nan=True)  # some diverge
    assert np.array_equal(others, losses[:, :, some], equal_nan=True)


@pytest.mark.parametrize(("rule", "dtype"), [("plain", "float32"), ("adam", "float64")])
@pytest.mark.parametrize("batch", [1, 7, 0])
@pytest.mark.parametrize("widths", [SMALL, LARGE], ids=str)
def test_a_diverged_member_leaves_the_others_untouched(widths, batch, rule, dtype, monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "1")  # one thread: every member uses the same scratch
    problem = make_problem(widths, batch, 30, members=5, bias=True, datasets=5, lr=0.001)
    reference, losses = problem.train(RULES[rule], dtype, records=[0, 29])
    problem.lr[1] = 1e200
    problem.targets[2] = np.nan
    state, others = problem.train(RULES[rule], dtype, records=[0, 29])
    assert np.isfinite(digits(state)).all(1).tolist() == [True, False, False, True, True]
    assert not np.isfinite(others[:, 1, 1:3]).any()
    rest = [0, 3, 4]
    assert np.array_equal(everything(state)[rest], everything(reference)[rest])
    assert np.array_equal(others[:, :, rest], losses[:, :, rest])


@pytest.mark.parametrize("widths", [SMALL, LARGE], ids=str)
def test_adam_without_eps_keeps_its_padding_out_of_the_weights(widths):
    problem = make_problem(widths, 4, 50, members=3, lr=0.001)
    rule = Adam(eps=0.0)
    state, losses = problem.train(rule, records=[50])
    assert np.isfinite(digits(state)).all()
    assert np.isfinite(losses).all()
    expected = torch_digits(problem, 2, rule)
    assert np.linalg.norm(digits(state)[2] - expected) <= 1e-10 * np.linalg.norm(expected)


@pytest.mark.parametrize("widths", [SMALL, LARGE], ids=str)
def test_weights_come_back_as_they_went_in(widths):
    problem = make_problem(widths, 1, 1, members=19, bias=True)
    state = State(problem.weights, problem.biases, "float64", SGD())
    new = make_problem(widths, 1, 1, members=19, bias=True, seed=1)
    state.replace(17, [w[3] for w in new.weights], [b[3] for b in new.biases])
    weights, biases = state.weights()
    for arrays, before, other in ((weights, problem.weights, new.weights), (biases, problem.biases, new.biases)):
        for got, a, b in zip(arrays, before, other, strict=True):
            assert np.array_equal(got[17], b[3])
            assert np.array_equal(np.delete(got, 17, 0), np.delete(a, 17, 0))
    weights[0][:] = np.nan
    assert np.isfinite(digits(state)).all()


@pytest.mark.parametrize("widths", [SMALL, LARGE], ids=str)
def test_a_copied_or_selected_state_goes_on_alike(widths):
    rule = RULES["adam"]
    problem = make_problem(widths, 7, 10, members=19)
    data = Data(problem.inputs, problem.targets, "float64", False)

    def go_on(state, members):
        who = np.asarray(members)
        state.train(Draw(data, 0 * who, who, problem.order, problem.size), 5, problem.lr[who])
        return everything(state)

    state = State(problem.weights, None, "float64", rule)
    go_on(state, range(19))
    kept = state.copy()
    few = state.select([18, 0, 7])
    reference = go_on(state, range(19))
    assert np.array_equal(go_on(few, [18, 0, 7]), reference[[18, 0, 7]])
    assert np.array_equal(go_on(kept, range(19)), reference)


def test_threads_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("DLN_THREADS", "many")
    with pytest.raises(ConfigError, match="DLN_THREADS"):
        thread_count()
    monkeypatch.delenv("DLN_THREADS")
    assert thread_count() >= 1


def test_read_only_and_strided_arrays_need_no_compilation_of_their_own():
    problem = make_problem(SMALL, 4, 3)
    reference, losses = problem.train(records=[3])
    compiled = len(training.train.signatures)
    strided = replace(problem, order=np.repeat(problem.order, 2, axis=1)[:, ::2], inputs=problem.inputs[::1, ::1])
    for array in (strided.order, strided.size, strided.inputs, strided.lr):
        array.setflags(write=False)
    state, others = strided.train(records=[3])
    assert len(training.train.signatures) == compiled
    assert np.array_equal(everything(state), everything(reference))
    assert np.array_equal(others, losses)


def test_too_few_batches_are_an_error():
    problem = make_problem(SMALL, 4, 3)
    state = State(problem.weights, None, "float64", SGD())
    data = Data(problem.inputs, problem.targets, "float64", False)
    who = np.arange(2)
    for updates, records in [(5, ()), (4, (4,))]:
        with pytest.raises(ValueError, match="batches are needed"):
            state.train(Draw(data, 0 * who, who, problem.order, problem.size), updates, problem.lr, records)
