"""Initialisations: each has the property in its name, and is the same start under both engines."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dln import Dataset, factory, register_init, run_experiment
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError, ExtensionError
from dln.factory import check_names
from dln.ingredients.initialisations import INITS, draw_initial, haar
from dln.model import DeepLinearNetwork, save_weights

widths_of_a_net = st.lists(st.integers(1, 7), min_size=2, max_size=6)
seeds = st.integers(0, 50)


def draw(init, widths, **options):
    """Weights of layers from widths[0] inputs to widths[-1] outputs."""
    if len(widths) == 2:
        options = {"hidden_dim": 9, "num_hidden": 0, **options}
    options = {"hidden_dim": widths[1:-1], "num_hidden": len(widths) - 2, **options}
    return draw_initial(in_dim=widths[0], out_dim=widths[-1], init=init, **options)


def product(weights):
    result = np.eye(weights[0].shape[1])
    for w in weights:
        result = w @ result
    return result


def conserved(weights):
    """D_1, ..., D_{L-1}."""
    return [after.T @ after - before @ before.T for before, after in pairwise(weights)]


def close(found, expected, scale=1.0):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)


# --- the property in the name


@given(widths=widths_of_a_net, seed=seeds, scale=st.floats(0.1, 5))
def test_layers_of_orthogonal_are_multiples_of_isometries(widths, seed, scale):
    for w in draw("orthogonal", widths, seed=seed, params={"scale": scale}):
        gram = w @ w.T if w.shape[0] < w.shape[1] else w.T @ w
        close(gram, scale**2 * np.eye(len(gram)), scale**2)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
def test_isometries_are_uniform(shape):
    """Of a uniform one the trace has mean 0, and an entry variance 1 / larger dimension; without care about signs the
    diagonal of LAPACK's Q leans to one side."""
    rng = np.random.default_rng(0)
    draws = np.array([haar(*shape, rng) for _ in range(4000)])
    variance = 1 / max(shape)
    assert (np.abs(draws.mean(0)) < 5 * np.sqrt(variance / len(draws))).all()
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.1)


@given(widths=widths_of_a_net, scale=st.floats(0.1, 5))
def test_identity_passes_the_first_coordinates_on(widths, scale):
    weights = draw("identity", widths, params={"scale": scale})
    kept = min(widths)
    x = np.arange(1.0, widths[0] + 1)
    y = product(weights) @ x
    close(y[:kept], scale ** len(weights) * x[:kept], 10 * scale ** len(weights))
    assert not y[kept:].any()


@given(widths=widths_of_a_net, seed=seeds, norm=st.floats(1e-3, 1e3), gamma=st.floats(0.5, 3))
def test_target_norm_rescales_the_draws_of_gamma_by_one_factor(widths, seed, norm, gamma):
    weights = draw("target_norm", widths, seed=seed, gamma=gamma, params={"norm": norm})
    assert abs(np.linalg.norm(product(weights)) / norm - 1) < 1e-12
    ratios = [w / g for w, g in zip(weights, draw("gamma", widths, seed=seed, gamma=gamma), strict=True)]
    assert all((r > 0).all() and np.ptp(r / ratios[0].flat[0]) < 1e-12 for r in ratios)


@given(widths=widths_of_a_net, seed=seeds, norm=st.none() | st.floats(1e-3, 1e3))
def test_balanced_is_the_map_of_gamma_in_balanced_layers(widths, seed, norm):
    weights = draw("balanced", widths, seed=seed, params={"norm": norm})
    expected = product(draw("gamma", widths, seed=seed))
    if norm is not None:
        expected *= norm / np.linalg.norm(expected)
    size = np.linalg.norm(expected)
    close(product(weights), expected, size)
    for d in conserved(weights):
        close(d, 0, size ** (2 / len(weights)))


@given(data=st.data(), seed=seeds, lam=st.floats(-3, 3) | st.just(0.0) | st.just(1e-9), norm=st.none() | st.just(0.2))
def test_lambda_balanced_has_the_lambda_and_the_map_of_balanced(data, seed, lam, norm):
    n_in, n_out = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    most = 9 if lam == 0 else n_out if lam > 0 else n_in
    widths = [n_in, data.draw(st.integers(1, most)), n_out]
    w1, w2 = draw("lambda_balanced", widths, seed=seed, params={"lam": lam, "norm": norm})
    expected = product(draw("balanced", widths, seed=seed, params={"norm": norm}))
    size = np.linalg.norm(expected)
    close(w2 @ w1, expected, 1 + size)
    close(w2.T @ w2 - w1 @ w1.T, lam * np.eye(widths[1]), 1 + size)


def test_where_lambda_needs_more_directions_than_the_map_has_they_are_uniform():
    """lam < 0, 3 outputs, 4 hidden units, 5 inputs: one direction of the inputs is read but does not pass."""
    projections = []
    for seed in range(1000):
        w1, w2 = draw("lambda_balanced", [5, 4, 3], seed=seed, params={"lam": -1.0})
        q = np.linalg.qr(np.hstack([(w2 @ w1).T, w1.T]))[0]
        projections.append(q[:, 3] ** 2)
    mean = np.mean(projections, 0)
    assert np.abs(mean - 1 / 5).max() < 5 * np.std(projections, 0).max() / np.sqrt(1000)


def random_modes(widths, seed):
    """A teacher with distinct singular values, and its modes [k], [out, k], [k, in]."""
    rng = np.random.default_rng(seed)
    k = min(widths[0], widths[-1])
    left, right = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in (widths[-1], widths[0]))
    values = 1.0 + np.arange(k)[::-1]
    return left * values @ right.T, values, left, right.T


@given(widths=widths_of_a_net, seed=seeds, data=st.data())
def test_aligned_has_the_teachers_modes_each_with_its_strength(widths, seed, data):
    teacher, _, left, right = random_modes(widths, seed)
    count = data.draw(st.integers(0, min(widths)))
    strengths = data.draw(st.lists(st.floats(1e-3, 5), min_size=count, max_size=count))
    weights = draw("aligned", widths, seed=seed, teacher=teacher, params={"strength": strengths})
    expected = left[:, :count] * strengths @ right[:count]
    close(product(weights), expected, 10)
    for d in conserved(weights):
        close(d, 0, 10)


def test_one_strength_is_that_of_all_modes_and_a_strength_of_zero_is_none():
    teacher, _, left, right = random_modes([4, 9, 3], 1)
    close(product(draw("aligned", [4, 9, 3], teacher=teacher)), 1e-3 * left @ right)
    some = draw("aligned", [4, 2, 3], teacher=teacher, params={"strength": [0, 0.5, 0.25]})
    close(product(some), left * [0, 0.5, 0.25] @ right)


@pytest.mark.parametrize("turned", [False, True])
def test_aligned_with_equal_modes_is_unambiguous(turned):
    """U V' is the polar factor, whatever basis LAPACK finds; and the layers are the same every time."""
    teacher = 10 * (np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0] if turned else np.eye(5))
    weights = [draw("aligned", [5, 8, 8, 5], teacher=teacher) for _ in range(2)]
    close(product(weights[0]), 1e-4 * teacher)
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


@given(widths=st.lists(st.integers(1, 7), min_size=4, max_size=6), seed=seeds)
def test_each_layer_has_a_stream_of_its_own(widths, seed):
    """Another last width changes the last layer only."""
    for init in ("gamma", "orthogonal", "identity"):
        one, other = (draw(init, [*widths[:-1], last], seed=seed) for last in (widths[-1], widths[-1] + 1))
        assert all(np.array_equal(a, b) for a, b in zip(one[:-1], other[:-1], strict=True))


def test_without_modes_weights_are_zero():
    assert not any(w.any() for w in draw("aligned", [2, 3, 2], teacher=np.eye(2), params={"strength": 0}))


# --- what theory says of a start


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize(
    ("dims", "hidden"), [((4, 3), []), ((3, 4), [6]), ((4, 4), [5, 20]), ((4, 2), [3, 2, 7]), ((2, 2), [4, 4, 4, 4])]
)
def test_aligned_modes_follow_the_scalar_recursion(engine, dims, hidden):
    """theory.md item 1: on whitened data w <- w + (2 lr / d_out)(s - w^L) w^(L-1) for each mode, w = a^(1/L)."""
    (n_in, n_out), depth, lr, steps = dims, len(hidden) + 1, 0.04, 200
    teacher, values, *_ = random_modes(dims, 5)
    inputs = np.sqrt(50) * np.linalg.qr(np.random.default_rng(6).standard_normal((50, n_in)))[0]
    data = Dataset.from_arrays(inputs, inputs @ teacher.T, dtype=torch.float64)
    strength = 0.03 * np.arange(1, min(dims) + 1)[::-1]
    history = run_experiment(
        {
            "model": {"hidden_dim": hidden or 10, "num_hidden": len(hidden), "init": "aligned"}
            | {"init_params": {"strength": strength.tolist()}},
            "training": {"lr": lr},
            "metrics": ["singular_values"],
            "evaluate_every": 10,
            "max_steps": steps,
            "dtype": "float64",
            "engine": engine,
        },
        dataset=data,
    )
    w = strength ** (1 / depth)
    expected = [w**depth]
    for _ in range(steps):
        w = w + 2 * lr / n_out * (values - w**depth) * w ** (depth - 1)
        expected.append(w**depth)
    assert expected[-1][0] > 0.9 * values[0], "the run should be long enough to learn something"
    np.testing.assert_allclose(history["singular_values"], expected[::10], rtol=1e-10)


# --- under both engines, in any company, at any scale

TEACHER = {"params": {"matrix": "random_normal", "scale": 2.0}, "train_samples": 30, "test_samples": 10}
TWO_LAYERS = {"num_hidden": 1, "hidden_dim": 3}

EXAMPLES = {
    "aligned": [{"init_params": {"strength": 0.01}}, {"init_params": {"strength": [1.0, 0.5]}}],
    "balanced": [{}, {"init_params": {"norm": 0.3}}],
    "fan_in": [{}, {"alpha": 0.5}],
    "gamma": [{}, {"gamma": 1.5}],
    "identity": [{}, {"init_params": {"scale": 0.4}}],
    "lambda_balanced": [
        {**TWO_LAYERS, "init_params": {"lam": 0.5}},
        {**TWO_LAYERS, "init_params": {"lam": -0.5, "norm": 1.0}},
    ],
    "mup": [{}, {"alpha": 0.5}],
    "orthogonal": [{}, {"init_params": {"scale": 0.5}}],
    "target_norm": [{"init_params": {"norm": 1.0}}, {"init_params": {"norm": 0.2}}],
}
"""For every initialisation two settings of batchable keys."""


def test_every_initialisation_has_examples():
    assert list(EXAMPLES) == [e.name for e in INITS if e.function.__module__ == "dln.ingredients.initialisations"]


def config(init, example, engine="compiled", **change):
    model = {"in_dim": 5, "out_dim": 4, "hidden_dim": [12, 7], "num_hidden": 2, "bias": True}
    base = {"data": TEACHER, "training": {"lr": 0.01, "batch_size": 7}, "max_steps": 20, "dtype": "float64"}
    return resolve(
        {**base, "model": {**model, "init": init, **example}, "metrics": ["singular_values"], "engine": engine}
        | change,
        SingleConfig,
    )


def start_of(config):
    return weights_of(factory.build(config))


def weights_of(runner):
    """Copies of the weights and biases that a run has by now."""
    if hasattr(runner, "ensemble"):
        weights, biases = runner.ensemble.weights()
        return [w[0] for w in weights], [b[0] for b in biases or ()]
    return tuple([p.detach().numpy().copy() for p in of] for of in (runner.model.weights, runner.model.biases))


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("init", EXAMPLES)
def test_both_engines_start_alike_and_run_alike(init, dtype):
    for example in EXAMPLES[init]:
        runs = [factory.build(config(init, example, engine, dtype=dtype)) for engine in ("compiled", "autograd")]
        (ours, our_biases), (theirs, their_biases) = map(weights_of, runs)
        assert all(np.array_equal(a, b) and a.dtype == b.dtype == dtype for a, b in zip(ours, theirs, strict=True))
        assert not any(b.any() for b in (*our_biases, *their_biases))
        assert len(our_biases) == len(their_biases) == len(ours)
        one, other = (run.run() for run in runs)
        rtol = 1e-9 if dtype == "float64" else 1e-3
        for name in other.names:
            np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=rtol * np.abs(other[name]).max())


@pytest.mark.parametrize("init", EXAMPLES)
def test_float32_starts_are_the_float64_ones_rounded(init):
    for example in EXAMPLES[init]:
        double, single = (start_of(config(init, example, dtype=d))[0] for d in ("float64", "float32"))
        assert all(np.array_equal(a.astype("float32"), b) for a, b in zip(double, single, strict=True))


@pytest.mark.sampled
@pytest.mark.parametrize("init", EXAMPLES)
def test_a_run_is_the_same_in_company_of_other_parameters_seeds_scales_and_teachers(init):
    configs = [
        config(
            init,
            {**example, "alpha": alpha},
            training={"lr": 0.01, "batch_size": 7, "model_seed": seed},
            data={**TEACHER, "data_seed": data_seed},
        )
        for example in EXAMPLES[init]
        for alpha in (1.0, 0.8)
        for seed in (0, 1)
        for data_seed in (0, 1)
    ]
    ensemble = factory.build_ensemble(configs)
    starts, _ = ensemble.weights()
    ensemble.run()
    for member, alone in enumerate(map(factory.build, configs)):
        assert all(np.array_equal(w[member], own) for w, own in zip(starts, weights_of(alone)[0], strict=True))
        assert ensemble.history(member).records == alone.run().records
    assert len({repr(ensemble.history(member).records) for member in range(len(configs))}) >= 8


def test_who_is_aligned_to_another_teacher_starts_elsewhere_and_whoever_is_not_does_not():
    for init, params, same in (("aligned", {"strength": 1.0}, False), ("balanced", {}, True)):
        configs = [config(init, {"init_params": params}, data={**TEACHER, "data_seed": s}) for s in (0, 1)]
        first, second = (product([w[m] for w in factory.build_ensemble(configs).weights()[0]]) for m in (0, 1))
        assert np.array_equal(first, second) == same


@pytest.mark.parametrize("init", EXAMPLES)
def test_alpha_multiplies_the_weights_and_nothing_else(init):
    for example in EXAMPLES[init]:
        one, scaled = (start_of(config(init, {**example, "alpha": a}))[0] for a in (1.0, 0.3))
        assert all(np.array_equal(0.3 * a, b) for a, b in zip(one, scaled, strict=True))
        np.testing.assert_allclose(product(scaled), 0.3 ** len(one) * product(one), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_alpha_multiplies_the_weights_of_a_file_but_not_its_biases(engine, tmp_path):
    rng = np.random.default_rng(0)
    shapes = [(12, 5), (7, 12), (4, 7)]
    saved = DeepLinearNetwork.from_weights(
        [rng.standard_normal(s) for s in shapes], [rng.standard_normal(s[0]) for s in shapes]
    )
    save_weights(saved, tmp_path / "w.npz")
    weights, biases = start_of(config("gamma", {"weights": str(tmp_path / "w.npz"), "alpha": 0.3}, engine))
    assert all(np.array_equal(0.3 * s.detach().numpy(), w) for s, w in zip(saved.weights, weights, strict=True))
    assert all(np.array_equal(s.detach().numpy(), b) for s, b in zip(saved.biases, biases, strict=True))


def test_the_default_start_is_that_of_the_class():
    """model.init=gamma, alpha=1: the draws that DeepLinearNetwork documents (tests/test_model.py)."""
    weights, _ = start_of(resolve({"training": {"model_seed": 4}, "model": {"gamma": 1.2}}, SingleConfig))
    expected = DeepLinearNetwork(gamma=1.2, model_seed=4).weights
    assert all(np.array_equal(a, b.detach()) for a, b in zip(weights, expected, strict=True))


def test_lanes_have_initialisations_of_their_own():
    pair = {
        "shared": {"model": {"init": "target_norm", "init_params": {"norm": 0.5}}},
        "model_b": {"init": "balanced"},
        "comparative_metrics": ["end_to_end_distance"],
        "model_metrics": ["end_to_end_norm", "balancedness"],
        "max_steps": 3,
        "dtype": "float64",
    }
    history = run_experiment(pair)
    np.testing.assert_allclose([history[f"end_to_end_norm_{lane}"][0] for lane in "ab"], 0.5, rtol=1e-12)
    assert history["end_to_end_distance"][0] < 1e-12
    assert history["balancedness_b"][0].max() < 1e-12 < 1e-3 < history["balancedness_a"][0].min()


def test_aligned_to_arrays_without_a_teacher_takes_their_least_squares_map():
    rng = np.random.default_rng(1)
    teacher, _, left, right = random_modes([4, 3], 2)
    x = rng.standard_normal((20, 4)) @ rng.standard_normal((4, 4))
    residual = rng.standard_normal((20, 3))
    residual -= x @ np.linalg.solve(x.T @ x, x.T @ residual)  # noise that no linear map explains
    data = Dataset.from_arrays(x, x @ teacher.T + residual, dtype=torch.float64)
    model = {"in_dim": 4, "out_dim": 3, "init": "aligned", "init_params": {"strength": [3, 2, 1]}}
    for engine in ("compiled", "autograd"):
        run = resolve({"model": model, "dtype": "float64", "engine": engine}, SingleConfig)
        runner = factory.build(run, data)
        weights = [w[0] for w in runner.ensemble.weights()[0]] if engine == "compiled" else runner.model.weights
        found = product([np.asarray(w if isinstance(w, np.ndarray) else w.detach()) for w in weights])
        np.testing.assert_allclose(found, left * [3, 2, 1] @ right, atol=1e-11)


# --- what cannot be

REFUSED = [
    ("orthogonal", {"init_params": {"scale": 0.0}}, "model.init=orthogonal: scale must be greater than 0"),
    ("identity", {"init_params": {"scale": -1.0}}, "model.init=identity: scale must be"),
    ("target_norm", {"init_params": {"norm": 0.0}}, "model.init=target_norm: norm must be greater than 0"),
    ("target_norm", {"init_params": {}}, "model.init_params.norm: .* needs"),
    ("balanced", {"init_params": {"norm": -1}}, "model.init=balanced: norm must be"),
    ("balanced", {"init_params": {"nrom": 1}}, "model.init_params.nrom: .*'norm'"),
    ("lambda_balanced", {"init_params": {"lam": 1.0}}, "num_hidden=1 instead of 2"),
    ("lambda_balanced", {"num_hidden": 0, "hidden_dim": 5, "init_params": {"lam": 1.0}}, "num_hidden=1 instead of 0"),
    ("lambda_balanced", {**TWO_LAYERS, "hidden_dim": 5, "init_params": {"lam": 1.0}}, "out_dim, 5 is more than 4"),
    ("lambda_balanced", {**TWO_LAYERS, "hidden_dim": 6, "init_params": {"lam": -1.0}}, "in_dim, 6 is more than 5"),
    ("aligned", {"hidden_dim": [3, 9]}, "4 modes do not pass through a layer of width 3.* list 3"),
    ("aligned", {"init_params": {"strength": [1, 1, 1, 1, 1]}}, "at most 4 numbers"),
    ("aligned", {"init_params": {"strength": -0.1}}, "at least 0"),
    ("aligned", {"init_params": {"strength": [0.1, -0.1]}}, "at least 0"),
    ("aligned", {"init_params": {"strength": [0.1, float("nan")]}}, r"strength\[1\] must be a finite number"),
    ("aligned", {"init_params": {"strength": "big"}}, r"model.init_params.strength: .*'big'"),
    ("gamma", {"init_params": {"scale": 1.0}}, "model.init_params.scale: .* no such parameter"),
    ("gamma", {"gamma": -1e4}, "model.gamma=-10000.0 makes weights too large"),
    ("gamma", {"alpha": 1e308, "gamma": -2}, "model: initial weights are too large for float64; lower model.alpha"),
    ("target_norm", {"gamma": 300, "init_params": {"norm": 1.0}}, "product of the draws is too small.*gamma"),
    ("balanced", {"weights": "w.npz"}, "model.weights and model.init=balanced both say"),
]


@pytest.mark.sampled
@pytest.mark.parametrize(("init", "example", "message"), REFUSED)
def test_what_cannot_be_is_found_before_anything_runs(init, example, message):
    for deed in (check_names, factory.build):
        for engine in ("compiled", "autograd"):
            with pytest.raises(ConfigError, match=message) as caught:
                deed(config(init, example, engine))
            assert "\n" not in str(caught.value)


def test_the_lane_is_named():
    pair = {"model_b": {"init": "aligned", "hidden_dim": 3}}
    with pytest.raises(ConfigError, match=r"model_b\.init=aligned: 5 modes do not pass"):
        check_names(resolve(pair, ComparativeConfig))


def test_data_of_other_dimensions_are_named():
    data = Dataset.from_arrays(np.eye(3), np.eye(3))
    for engine in ("compiled", "autograd"):
        with pytest.raises(ConfigError, match="model maps 5 to 4 but the data map 3 to 3"):
            factory.build(config("aligned", {}, engine), data)


# --- one's own


def test_a_function_receives_what_its_arguments_name():
    @register_init("test_initial_names")
    def names(teacher, stds, shapes, rngs, size: float = 2.0):
        teacher *= 0  # a copy: nobody else's teacher changes
        assert [type(rng) for rng in rngs] == [np.random.Generator] * len(shapes)
        return [np.full(shape, size * std) for shape, std in zip(shapes, stds, strict=True)]

    for engine in ("compiled", "autograd"):
        run = config("test_initial_names", {"init_params": {"size": 3.0}, "gamma": 2.0}, engine)
        expected = [np.full(shape, 3 / w) for shape, w in (((12, 5), 12), ((7, 12), 12), ((4, 7), 7))]
        for found, e in zip(start_of(run)[0], expected, strict=True):
            np.testing.assert_allclose(found, e, rtol=1e-15)
    teacher = np.ones((3, 5))
    draw("test_initial_names", [5, 4, 3], teacher=teacher)
    assert (teacher == 1).all()


def test_one_that_draws_from_torchs_generator_reproduces():
    @register_init("test_initial_torch")
    def xavier(shapes):
        return [torch.nn.init.xavier_uniform_(torch.nn.Parameter(torch.empty(shape))) for shape in shapes]

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = draw("test_initial_torch", [5, 4, 3], seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again, other = (draw("test_initial_torch", [5, 4, 3], seed=s) for s in (3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[0].astype(np.float32)), "drawn in float64"
    assert np.abs(first[0]).max() <= np.sqrt(6 / 9)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda shapes: [np.ones(s) for s in shapes[:-1]], r"shapes \[12, 5\], \[7, 12\], \[4, 7\], not \[12, 5\]"),
        (lambda shapes: [np.ones(s[::-1]) for s in shapes], r"\[4, 7\], not \[5, 12\], \[12, 7\], \[7, 4\]"),
        (lambda shapes: [np.full(s, np.nan) for s in shapes], "but some numbers are not"),
        (lambda shapes: [], "not none"),
        (lambda shapes: None, "failed: TypeError"),
        (lambda shapes: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_one_that_returns_no_weights_is_named(returned, message):
    @register_init("test_initial_wrong")
    def wrong(shapes):
        return returned(shapes)

    for deed in (check_names, factory.build):
        with pytest.raises(ExtensionError, match=f"model.init: .*'test_initial_wrong'.*{message}"):
            deed(config("test_initial_wrong", {}))
