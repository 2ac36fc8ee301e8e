"""Metrics: plain numpy definitions, symmetries of the equations, and one value whether alone or in an ensemble."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dln
from dln import MetricConfig, linear_teacher, run_experiment
from dln.config import COSTS
from dln.errors import ConfigError, ExtensionError
from dln.ingredients.edge import Optimizer
from dln.measure.data_quantities import Later, constants
from dln.measure.quantities import scaled
from dln.measure.supply import PairSupply, Supply, needs
from dln.metrics import (
    COMPARATIVE_METRICS,
    MODEL_METRICS,
    Metric,
    MetricData,
    build_metrics,
    comparative_metric,
    model_metric,
)
from dln.model import DeepLinearNetwork
from dln.results.run import load_run

BUILT_IN = [e.name for e in MODEL_METRICS if e.function.__module__.startswith("dln.")]
BUILT_IN_PAIRS = [e.name for e in COMPARATIVE_METRICS if e.function.__module__.startswith("dln.")]
BATCHED = [e.name for e in [*MODEL_METRICS, *COMPARATIVE_METRICS] if e.marks.get("batched")]

DATA = linear_teacher(4, 3, {"matrix": "low_rank", "rank": 3}, train_samples=20, noise_std=0.3, dtype=torch.float64)
BATCH = 8
RATE, MOMENTUM = 0.08, 0.5


def network(seed=0, bias=False, **kwargs):
    """A float64 network with the gradient of the loss on the first samples, as at a record."""
    model = DeepLinearNetwork(4, 6, 2, 3, model_seed=seed, dtype=torch.float64, bias=bias, **kwargs)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for b in model.biases:
            b.copy_(torch.from_numpy(rng.standard_normal(b.shape)))
    return with_gradient(model)


def with_gradient(model):
    model.zero_grad()
    torch.nn.functional.mse_loss(model(DATA.train_inputs[:BATCH]), DATA.train_targets[:BATCH]).backward()
    return model


def numbers(model, gradient=False):
    return [(p.grad if gradient else p.detach()).numpy() for p in model.parameters()]


OTHERS = {"start": 100, "previous": 200, "earlier": 300}
"""What else a record supplies that has weights, and the seed of a network that stands for it."""


def others_of(model):
    """Other networks of the same shapes, with their gradients."""
    return {name: network(seed, bool(getattr(model, "biases", ()))) for name, seed in OTHERS.items()}


def supply(model, others=None, lead=(), replacement=False, noise=0.0, sets=DATA):
    """What a record supplies for a model, or for a stand-in with leading dimensions."""
    data = MetricData.of(DATA.train_inputs[:BATCH], DATA.train_targets[:BATCH], torch.nn.MSELoss(), DATA)
    batch = scaled(data.inputs, data.targets, bool(getattr(model, "biases", ())))
    size = torch.full(lead, float(BATCH), dtype=torch.float64)
    given = {
        name: Later(lambda c=c: c.find()[0].expand((*lead, *c.find()[0].shape)))
        for name, c in constants([sets]).items()
    }
    given |= {
        "model": model,
        "data": data,
        "batch": Later(lambda: tuple(part.expand((*lead, *part.shape)) for part in batch)),
        "batch_size": size,
        "replacement": replacement,
        "fresh_noise": torch.full(lead, noise, dtype=torch.float64),
        "lr": torch.full(lead, RATE, dtype=torch.float64),
        "time": torch.full(lead, 3 * RATE, dtype=torch.float64),
        "optimizer": Optimizer("SGD", {"momentum": MOMENTUM}),
        **(others or others_of(model)),
    }
    return Supply(given)


def supplied(*models, **more):
    sides = [supply(model, **more) for model in models]
    return sides[0] if len(sides) == 1 else PairSupply(*sides)


def columns(name, supply, **params):
    """A metric's columns as arrays."""
    registry = COMPARATIVE_METRICS if name in COMPARATIVE_METRICS else MODEL_METRICS
    metric = Metric(registry, MetricConfig(name, params))
    return metric.batched_columns(metric(supply))


def value(name, *models, **params):
    """The value of a metric that fills one column."""
    (column,) = columns(name, supplied(*models), **params).values()
    return column


@pytest.mark.parametrize("bias", [False, True])
def test_norms_are_those_of_all_numbers(bias):
    model = network(bias=bias)
    np.testing.assert_allclose(value("weight_norm", model), np.sqrt(sum((p**2).sum() for p in numbers(model))))
    expected = np.sqrt(sum((g**2).sum() for g in numbers(model, gradient=True)))
    np.testing.assert_allclose(value("gradient_norm", model), expected)


def test_layer_and_end_to_end_metrics_are_their_definitions():
    model = network()
    w1, w2, w3 = numbers(model)
    np.testing.assert_allclose(value("layer_norms", model), [np.linalg.norm(w) for w in (w1, w2, w3)])
    np.testing.assert_allclose(value("end_to_end_norm", model), np.linalg.norm(w3 @ w2 @ w1))
    spectrum = np.linalg.svd(w3 @ w2 @ w1, compute_uv=False)
    np.testing.assert_allclose(value("singular_values", model), spectrum)
    np.testing.assert_allclose(value("singular_values", model, top=2), spectrum[:2])
    gaps = [np.linalg.norm(b.T @ b - a @ a.T) for a, b in ((w1, w2), (w2, w3))]
    np.testing.assert_allclose(value("balancedness", model), gaps)


def test_comparative_metrics_are_their_definitions():
    a, b = network(0), network(1)
    flat_a, flat_b = (np.concatenate([p.ravel() for p in numbers(m)]) for m in (a, b))
    np.testing.assert_allclose(value("param_distance", a, b), np.linalg.norm(flat_a - flat_b))
    cosine = flat_a @ flat_b / np.linalg.norm(flat_a) / np.linalg.norm(flat_b)
    np.testing.assert_allclose(value("param_cosine_sim", a, b), cosine)
    maps = [w3 @ w2 @ w1 for w1, w2, w3 in (numbers(a), numbers(b))]
    np.testing.assert_allclose(value("end_to_end_distance", a, b), np.linalg.norm(maps[0] - maps[1]))


def test_a_model_and_itself_are_at_distance_exactly_zero():
    a = network()
    assert value("param_distance", a, a) == 0
    assert value("end_to_end_distance", a, a) == 0
    assert value("param_cosine_sim", a, a) == 1


def test_scaling_one_model_changes_no_cosine():
    a, b = network(0), network(1)
    scaled = DeepLinearNetwork.from_weights([3 * w for w in numbers(b)])
    np.testing.assert_allclose(value("param_cosine_sim", a, scaled), value("param_cosine_sim", a, b))


def rotated(model, seed=0):
    """The same function with rotated hidden units: W_l -> Q_l W_l Q_{l-1}', Q orthogonal in every hidden layer."""
    rng = np.random.default_rng(seed)
    widths = [w.shape[0] for w in model.weights[:-1]]
    qs = [np.eye(model.weights[0].shape[1])]
    qs += [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in widths] + [np.eye(model.weights[-1].shape[0])]
    turn = [lambda m, i=i: qs[i + 1] @ m @ qs[i].T for i in range(len(qs) - 1)]
    result = DeepLinearNetwork.from_weights([t(w.detach().numpy()) for t, w in zip(turn, model.weights, strict=True)])
    for t, old, new in zip(turn, model.weights, result.weights, strict=True):
        new.grad = torch.from_numpy(t(old.grad.numpy()))
    return result


def assert_same_columns(found, expected, rtol, atol):
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_allclose(found[name], column, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", BUILT_IN)
def test_model_metrics_do_not_see_rotations_of_hidden_units(name):
    model = network()
    turned = supplied(rotated(model), others={n: rotated(other) for n, other in others_of(model).items()})
    scale = max(np.abs(column).max() for column in columns(name, supplied(model)).values())
    assert_same_columns(columns(name, turned), columns(name, supplied(model)), rtol=1e-11, atol=1e-13 * max(scale, 1))


@pytest.mark.parametrize("name", BUILT_IN_PAIRS)
def test_comparative_metrics_do_not_see_a_rotation_of_both_models(name):
    a, b = network(0), network(1)
    assert_same_columns(
        columns(name, supplied(rotated(a), rotated(b))), columns(name, supplied(a, b)), rtol=1e-12, atol=1e-14
    )


def test_distances_between_parameters_do_see_a_rotation_of_one():
    a = network()
    assert value("param_distance", a, rotated(a)) > 1
    assert value("end_to_end_distance", a, rotated(a)) < 1e-13


def ensemble(models):
    """Stand-in for an ensemble: the models' tensors stacked along a leading dimension."""

    def stack(tensors):
        stacked = torch.stack([t.detach() for t in tensors])
        stacked.grad = torch.stack([t.grad for t in tensors])
        return stacked

    weights = [stack(layer) for layer in zip(*(m.weights for m in models), strict=True)]
    biases = [stack(layer) for layer in zip(*(m.biases for m in models), strict=True)]
    return SimpleNamespace(weights=weights, biases=biases, parameters=lambda: [*weights, *biases])


@functools.cache
def company(bias):
    """Five networks for each of two lanes, and others to go with them; no metric may change one."""
    lanes = [[network(seed + 10 * lane, bias) for seed in range(5)] for lane in range(2)]
    return lanes, {name: [network(seed + r, bias) for r in range(5)] for name, seed in OTHERS.items()}


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("bias", [False, True])
def test_all_members_of_an_ensemble_at_once_are_each_alone(name, bias):
    lanes, others = company(bias)
    lanes = lanes if name in COMPARATIVE_METRICS else lanes[:1]
    stacked = {name: ensemble(models) for name, models in others.items()}
    together = columns(name, supplied(*(ensemble(models) for models in lanes), others=stacked, lead=(5,)))
    for r, members in enumerate(zip(*lanes, strict=True)):
        alone = columns(name, supplied(*members, others={name: models[r] for name, models in others.items()}))
        assert_same_columns({n: c[r] for n, c in together.items()}, alone, rtol=1e-13, atol=1e-13)


def test_float32_weights_are_measured_in_float64():
    single = DeepLinearNetwork(4, 30, 2, 3)
    double = DeepLinearNetwork.from_weights([w.detach() for w in single.weights], dtype=torch.float64)
    others = {n: DeepLinearNetwork(4, 30, 2, 3, model_seed=s, dtype=torch.float64) for n, s in OTHERS.items()}
    names = [
        n
        for n in BATCHED
        if n in MODEL_METRICS and "gradients" not in needs(Metric(MODEL_METRICS, MetricConfig(n)).wants)
    ]
    for name in names:
        found, expected = (columns(name, supplied(model, others=others)) for model in (single, double))
        for column, values in expected.items():
            np.testing.assert_array_equal(found[column], values, err_msg=name)


def test_every_built_in_metric_says_what_it_costs():
    costs = {e.name: e.marks.get("cost") for e in [*MODEL_METRICS, *COMPARATIVE_METRICS] if e.name in BATCHED}
    assert all(cost in COSTS for cost in costs.values()), costs


# --- from a user's function to columns


def test_numbers_lists_arrays_and_dicts_become_columns():
    values = {"number": 1, "array": np.arange(3), "tensor": torch.ones(2), "dict": {"x": 1.0, "y": torch.tensor(2)}}
    for name, v in values.items():
        model_metric(f"test_columns_{name}")(lambda model, v=v: v)
    metrics = build_metrics([MetricConfig(f"test_columns_{name}", label=name) for name in values])
    columns = {}
    for metric in metrics:
        columns |= metric.columns(metric(supplied(network())), "_a")
    assert columns == {
        "number_a": 1.0,
        "array_a": [0.0, 1.0, 2.0],
        "tensor_a": [1.0, 1.0],
        "dict_a.x": 1.0,
        "dict_a.y": 2.0,
    }


SIGNED = {
    "batch_sharpness", "edge_of_stability", "end_to_end_map", "gradient_alignment", "gradient_sharpness",
    "hessian_noise_trace", "hessian_spectrum", "hessian_spectrum_autograd", "mean_batch_sharpness",
    "midpoint_strengths", "mode_drifts", "mode_strengths", "sharpness", "stability", "top_eigenvalues",
    "end_to_end_cosine", "gradient_cosine", "layer_cosines", "param_cosine_sim",
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in [*BUILT_IN, *BUILT_IN_PAIRS] if n not in SIGNED])
@pytest.mark.parametrize("bias", [False, True])
def test_what_is_no_less_than_zero_by_definition_is_never_negative(name, bias):
    for a in (network(bias=bias), at_a_minimum(bias)):
        models = (a, at_a_minimum(bias)) if name in COMPARATIVE_METRICS else (a,)
        others = dict.fromkeys(OTHERS, a)
        for column in columns(name, supplied(*models, others=others)).values():
            assert not np.signbit(column[~np.isnan(column)]).any()


def at_a_minimum(bias):
    """The network of least squares, of rank 2, with what is left to rounding."""
    inputs = np.hstack([DATA.train_inputs.numpy(), np.ones((len(DATA.train_inputs), int(bias)))])
    fit = np.linalg.lstsq(inputs, DATA.train_targets.numpy())[0].T
    weights = [np.eye(6, 4), np.eye(6), np.hstack([fit[:, :4], np.zeros((3, 2))])]
    biases = [np.zeros(6), np.zeros(6), fit[:, 4]] if bias else None
    return with_gradient(DeepLinearNetwork.from_weights(weights, biases, dtype=torch.float64))


@pytest.mark.parametrize("name", [*BUILT_IN, *BUILT_IN_PAIRS])
def test_parameters_out_of_bounds_are_refused_before_anything_runs(name):
    """Every number that a built-in metric takes has bounds."""
    registry = COMPARATIVE_METRICS if name in COMPARATIVE_METRICS else MODEL_METRICS
    for parameter in registry.get(name).parameters:
        for bad in [
            -1,
            -0.5,
            "x",
            [1],
            1 if parameter in ("relative", "replacement") else True,
            *([0] if parameter == "top" else []),
        ]:
            with pytest.raises(ConfigError, match=rf"metrics\.params\.{parameter}"):
                Metric(registry, MetricConfig(name, {parameter: bad}))


def test_a_value_that_is_no_number_is_refused():
    model_metric("test_words")(lambda model: "words")
    (metric,) = build_metrics(["test_words"])
    with pytest.raises(ExtensionError, match="returned 'words'"):
        metric.columns(metric(supplied(network())))


def varying(kind):
    """A metric whose values are of another shape from step 4 on."""
    later = {"longer": [1.0, 2.0, 3.0], "number": 1.0, "keys": {"y": 1.0}, "nested": [[1.0, 2.0]]}[kind]
    if f"test_{kind}" not in MODEL_METRICS:

        @model_metric(f"test_{kind}")
        def varies(model):
            varies.calls += 1
            return ({"x": 1.0} if kind == "keys" else [1.0, 2.0]) if varies.calls <= varies.good else later

        comparative_metric(f"test_{kind}")(lambda model_a, model_b: varies(model_a))
    function = MODEL_METRICS.get(f"test_{kind}").function
    function.calls = 0
    return function


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["longer", "number", "keys", "nested"])
@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_a_metric_whose_shape_varies_is_named_at_its_record(kind, engine, tmp_path):
    name = f"test_{kind}"
    lanes = {"metrics": [name]}, {"model_metrics": [name]}, {"comparative_metrics": [name]}
    for i, lists in enumerate(lanes):
        varying(kind).good = 2 * (1 + ("model_metrics" in lists))  # at steps 0 and 2
        config = {"max_steps": 10, "evaluate_every": 2, "engine": engine, **lists}
        with pytest.raises(ExtensionError, match=f"{name}' at step 4: its values must all be of one shape"):
            dln.run_experiment(config, directory=tmp_path / str(i))
        assert load_run(tmp_path / str(i))["step"].tolist() == [0, 2]
    varying(kind).good = 2
    with pytest.raises(ExtensionError, match=f"{name}' at step 4: its values must all be of one shape"):
        dln.run_experiments([{"max_steps": 10, "evaluate_every": 2, "engine": engine, "metrics": [name]}])


def test_a_batched_metric_keeps_leading_dimensions():
    if "test_forgets" not in MODEL_METRICS:

        @model_metric("test_forgets", batched=True)
        def forgets(end_to_end):
            return end_to_end.sum()

    with pytest.raises(ExtensionError, match=r"'test_forgets' at step 0: .*with batched=True it keeps them"):
        dln.run_experiment({"max_steps": 2, "engine": "compiled", "metrics": ["test_forgets"]})


@pytest.mark.parametrize("deed", ["weights", "gradient", "backward", "no gradient"])
def test_a_metric_that_writes_is_refused(deed):
    def meddle(model):
        with torch.no_grad():
            if deed == "weights":
                model.weights[0].mul_(2)
            elif deed == "gradient":
                model.weights[0].grad.zero_()
        if deed == "backward":
            with torch.enable_grad():
                model.end_to_end().sum().backward()
        if deed == "no gradient":
            model.zero_grad()
        return 0.0

    model_metric(f"test_meddle_{deed}")(meddle)
    (metric,) = build_metrics([f"test_meddle_{deed}"])
    with pytest.raises(ExtensionError, match="must not change the trajectory"):
        metric(supplied(network()))


DEEDS = {
    "weights": lambda model, data: model.weights[0].mul_(2),
    "weights by data": lambda model, data: model.weights[-1].data.mul_(2),
    "weights by numpy": lambda model, data: np.negative(w := model.weights[0].detach().numpy(), out=w),
    "another parameter": lambda model, data: setattr(
        model.layers[0], "weight", torch.nn.Parameter(model.weights[0].clone())
    ),
    "gradient by data": lambda model, data: model.weights[0].grad.data.zero_(),
    "frozen": lambda model, data: model.requires_grad_(False),
    "batch": lambda model, data: data.inputs.mul_(2),
    "train inputs": lambda model, data: data.train_inputs.mul_(2),
    "train targets by data": lambda model, data: data.train_targets.data.mul_(2),
    "test inputs by numpy": lambda model, data: np.negative(x := data.test_inputs.numpy(), out=x),
}


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
@pytest.mark.parametrize("deed", DEEDS)
def test_a_metric_that_changes_a_run_is_an_error_under_both_engines(deed, engine):
    name = f"test_changes_{deed}".replace(" ", "_")
    if name not in MODEL_METRICS:

        @model_metric(name)
        def changes(model, data):
            DEEDS[deed](model, data)
            return 0.0

    config = {"max_steps": 4, "evaluate_every": 2, "metrics": [name], "engine": engine, "dtype": "float64"}
    with pytest.raises(ExtensionError, match=rf"{name}' at step 0: it changed .* must not change the trajectory"):
        run_experiment(config)


def test_the_loss_a_metric_receives_is_not_the_one_that_is_trained_on():
    @model_metric("test_meddles_with_the_loss")
    def meddles(model, data):
        data.criterion.reduction = "sum"
        return 0.0

    names = ([], ["test_meddles_with_the_loss"])
    runs = [run_experiment({"max_steps": 4, "metrics": metrics, "engine": "autograd"}) for metrics in names]
    assert np.array_equal(runs[0]["train_loss"], runs[1]["train_loss"])


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_a_batched_metric_that_writes_is_an_error_too(engine):
    name = "test_writes_to_a_quantity"
    if name not in MODEL_METRICS:

        @model_metric(name, batched=True)
        def writes(weights):
            return weights[0].mul_(2).sum((-2, -1))

    with pytest.raises(ExtensionError, match=rf"{name}' at step 0: it changed"):
        run_experiment({"max_steps": 2, "metrics": [name], "engine": engine, "dtype": "float64"})


def test_a_metric_may_differentiate():
    @model_metric("test_differentiates")
    def differentiates(model):
        with torch.enable_grad():
            return torch.autograd.grad(model.end_to_end().sum(), model.weights[0])[0].norm()

    (metric,) = build_metrics(["test_differentiates"])
    assert metric(supplied(network())).item() > 0


def test_parameters_and_labels():
    @comparative_metric("test_powers")
    def powers(model_a, model_b, exponent: float = 1.0):
        return 2.0**exponent

    configs = [MetricConfig("test_powers"), MetricConfig("test_powers", {"exponent": 3}, "cubed")]
    one, cubed = build_metrics(configs, COMPARATIVE_METRICS)
    assert (one.columns(one(supplied(network(), network())))) == {"test_powers": 2.0}
    assert cubed.columns(cubed(supplied(network(), network()))) == {"cubed": 8.0}
    with pytest.raises(ConfigError, match="two metrics are called 'test_powers'"):
        build_metrics([configs[0], configs[0]], COMPARATIVE_METRICS)
    with pytest.raises(ConfigError, match="label"):
        build_metrics([MetricConfig("test_powers", label="train_loss")], COMPARATIVE_METRICS)


def test_models_of_different_shape_have_maps_to_compare_but_no_parameters():
    narrow, wide = DeepLinearNetwork(hidden_dim=4), DeepLinearNetwork(hidden_dim=8, num_hidden=1)
    assert value("end_to_end_distance", narrow, wide) > 0
    for metric in build_metrics(["param_distance", "param_cosine_sim"], COMPARATIVE_METRICS):
        metric.check_fit(wide.shapes, wide.shapes)
        with pytest.raises(ConfigError, match="different shapes"):
            metric.check_fit(narrow.shapes, wide.shapes)


@pytest.mark.parametrize("bias", [False, True])
def test_all_eigenvalues_are_asked_of_networks_that_are_not_too_large_only(bias, monkeypatch):
    metrics = build_metrics(["hessian_spectrum", "saddle_index"])
    shapes = DeepLinearNetwork(5, 900, 3, 5, bias=bias).shapes
    for metric in metrics:
        metric.check_fit(DeepLinearNetwork(5, 100, 3, 5, bias=bias).shapes)
        with pytest.raises(ConfigError, match=r"dimensions.*top_eigenvalues finds a few"):
            metric.check_fit(shapes)
    assert "saddle_index" not in [m.label for m in build_metrics("heavy", shapes=[shapes], dataset=DATA)]


def test_of_several_faults_the_same_is_told_whatever_the_hashes():
    """It needs a teacher too; the first in the order of the constants counts."""
    arrays = np.eye(3), np.eye(3)
    (metric,) = build_metrics(["population_noise_trace"])
    with pytest.raises(ConfigError, match="'population_noise_trace': it speaks of the population"):
        metric.check_setting(dln.Dataset.from_arrays(*arrays))


def test_one_layer_has_no_pairs_to_be_balanced():
    (metric,) = build_metrics(["balancedness"])
    metric.check_fit(DeepLinearNetwork(num_hidden=1, bias=True).shapes)
    with pytest.raises(ConfigError, match="two layers"):
        metric.check_fit(DeepLinearNetwork(num_hidden=0, bias=True).shapes)
