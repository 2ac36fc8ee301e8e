"""What metrics are of: the step's batch, the training set, the test set, the population; batches of another size."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import dln
from dln.derivatives.hessian import hessian_autograd
from dln.derivatives.products import half
from dln.errors import ConfigError
from dln.measure.scope import INSTEAD
from dln.measure.supply import Supply
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, build_metrics
from tests.test_metrics import DATA, columns, network, others_of, supplied

ENTRIES = [*MODEL_METRICS, *COMPARATIVE_METRICS]


def able(which, params=()):
    """Names of metrics that can be asked to be of something, and have some other parameters."""
    asked = [e.name for e in ENTRIES if which in e.marks.get("sets", ()) and len(e.marks["sets"]) > 1]
    return [name for name in asked if set(params) <= {*_entry(name).parameters}]


def _entry(name):
    return (MODEL_METRICS if name in MODEL_METRICS else COMPARATIVE_METRICS).get(name)


def models_of(name, bias):
    return [network(seed, bias) for seed in range(1 if name in MODEL_METRICS else 2)]


def assert_same(found, expected):
    for values, others in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(values, others, rtol=1e-9, atol=1e-12 * max(1, np.abs(others).max()))


def gaussian_design(noise):
    """Samples with the moments of N(0, Sigma), and of noise on targets, up to the fourth: a grid of Gauss and Hermite.

    Three points, 0 and +-sqrt(3) with weights 4, 1 and 1, have the Gaussian's moments in each dimension; gradients are
    linear in the noise, of which two points, +-1, have the moments up to the second.
    """
    made = dln.linear_teacher(
        4,
        3,
        {"matrix": "random_normal", "scale": 1.0},
        noise_std=noise,
        inputs="power_law",
        inputs_params={"alpha": 0.7},
        inputs_basis="teacher",
        dtype=torch.float64,
    )
    points = np.array([*itertools.product([0, 0, 0, 0, -(3**0.5), 3**0.5], repeat=4)])
    signs = np.array([*itertools.product([-noise, noise] if noise else [0.0], repeat=3)])
    x = np.repeat(points @ half(made.inputs.covariance).T, len(signs), 0)
    y = x @ made.teacher.numpy().T + np.tile(signs, (len(points), 1))
    return replace(made, train_inputs=torch.from_numpy(x), train_targets=torch.from_numpy(y))


DESIGNS = {noise: gaussian_design(noise) for noise in (0.0, 0.5)}


@pytest.mark.parametrize("name", able("population"))
@pytest.mark.parametrize("bias", [False, True])
def test_the_population_is_a_training_set_with_its_moments(name, bias):
    noise = 0.5 if "noise" in name or "snr" in name else 0.0
    shaken = 0.3 if noise else 0.0
    given = supplied(*models_of(name, bias), replacement=True, noise=shaken, sets=DESIGNS[noise])
    assert_same(columns(name, given, of="population"), columns(name, given, of="train"))


@pytest.mark.parametrize("name", able("test"))
def test_what_is_of_the_test_set_is_so_if_it_is_the_training_set(name):
    swapped = replace(
        DATA,
        train_inputs=DATA.test_inputs,
        train_targets=DATA.test_targets,
        test_inputs=DATA.train_inputs,
        test_targets=DATA.train_targets,
    )
    models = models_of(name, True)
    for ours, theirs in (("test", "train"), ("train", "test")):
        found = columns(name, supplied(*models), of=ours)
        assert_same(found, columns(name, supplied(*models, sets=swapped), of=theirs))


@pytest.mark.parametrize("name", able("batch"))
@pytest.mark.parametrize("bias", [False, True])
def test_the_gradient_on_a_whole_set_is_that_of_one_large_batch(name, bias):
    models = models_of(name, bias)
    found = columns(name, supplied(*models), of="train")
    for model in models:
        model.zero_grad()
        torch.nn.functional.mse_loss(model(DATA.train_inputs), DATA.train_targets).backward()
    assert_same(found, columns(name, supplied(*models)))
    assert_same(
        columns("drift", supplied(models[0])), {"": columns("gradient_norm", supplied(models[0]))["gradient_norm"] ** 2}
    )


@pytest.mark.parametrize("replacement", [False, True])
def test_noise_of_batches_of_any_size_is_that_of_all_there_are(replacement):
    """Whatever the step's own batch: all batches of two among six samples, by autograd."""
    few = replace(DATA, train_inputs=DATA.train_inputs[:6], train_targets=DATA.train_targets[:6])
    model = network(bias=True)

    def slope(value):
        """All derivatives of a number, in the order of `hessian_autograd`."""
        found = torch.autograd.grad(value, [*model.parameters()], retain_graph=True, materialize_grads=True)
        return torch.cat([g.mT.reshape(-1) if g.ndim == 2 else g for g in found])

    pairs = zip(few.train_inputs, few.train_targets, strict=True)
    slopes = torch.stack([slope(torch.nn.functional.mse_loss(model(x[None]), y[None])) for x, y in pairs])
    ways = torch.stack([slope(s) for s in torch.linalg.svdvals(model.end_to_end())])
    batches = itertools.product(range(6), repeat=2) if replacement else itertools.combinations(range(6), 2)
    found = torch.stack([slopes[list(batch)].mean(0) for batch in batches])
    mean = slopes.mean(0)
    spread = found - mean
    hessian = hessian_autograd(model, torch.nn.MSELoss(), few.train_inputs, few.train_targets)
    trace, curved = spread.square().sum(-1).mean(), (spread @ hessian * spread).sum(-1).mean()
    drifts, noises = -ways @ mean, (spread @ ways.T).square().mean(0)
    given, how = supplied(model, sets=few), {"batch_size": 2, "replacement": replacement}
    for name, expected in (
        ("noise_trace", trace),
        ("gradient_snr", mean.square().sum() / trace),
        ("hessian_noise_trace", curved),
        ("mode_noises", noises),
        ("mode_snrs", drifts.square() / noises),
    ):
        np.testing.assert_allclose(columns(name, given, **how)[name], expected)
    np.testing.assert_allclose(columns("layer_noise_traces", given, **how)["layer_noise_traces"].sum(), trace)
    for size in (6, 60):
        assert columns("noise_trace", given, batch_size=size)["noise_trace"] == 0


ASKED = [
    {"name": "noise_trace", "params": {"batch_size": 3}},
    {"name": "noise_trace", "params": {"of": "population"}},
    {"name": "gradient_snr", "params": {"of": "test", "batch_size": 5, "replacement": True}, "label": "snr"},
    *({"name": name, "params": {"of": of}} for name in ("sharpness", "drift") for of in ("test", "population")),
    {"name": "gradient_norm", "params": {"of": "train"}},
    "gradient_norm",
    "mode_drifts",
    {"name": "mode_snrs", "params": {"batch_size": 3, "top": 2}},
]


def test_both_engines_alone_and_in_company_record_each_in_a_column_of_its_own():
    run = {"max_steps": 20, "evaluate_every": 10, "dtype": "float64", "model": {"hidden_dim": 6}}
    run |= {"data": {"noise_std": 0.3}, "training": {"batch_size": 7}}
    ours, theirs = (dln.run_experiment({**run, "engine": e, "metrics": ASKED}) for e in ("compiled", "autograd"))
    names = {"noise_trace", "population_noise_trace", "snr", "test_sharpness", "population_sharpness"}
    assert names | {"test_drift", "population_drift", "train_gradient_norm", "gradient_norm"} <= {*ours.names}
    for name in ours.names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, err_msg=name)
    known = dln.run_experiment({**run, "metrics": ["population_noise_trace"]})
    np.testing.assert_array_equal(known["population_noise_trace"], ours["population_noise_trace"])
    others = dln.run_experiments([{**run, "metrics": ["sharpness"]}, {**run, "metrics": ASKED}])
    for name in ours.names:
        np.testing.assert_array_equal(others[1][name], ours[name])


def test_lanes_have_theirs():
    run = {"max_steps": 2, "model_metrics": [{"name": "drift", "params": {"of": "test"}}]}
    run["comparative_metrics"] = [{"name": "gradient_cosine", "params": {"of": "population"}}]
    for engine in ("compiled", "autograd"):
        history = dln.run_experiment({**run, "engine": engine, "training_b": {"model_seed": 1}})
        assert {"test_drift_a", "test_drift_b", "population_gradient_cosine"} <= {*history.names}


@pytest.mark.parametrize("name", able("population"))
def test_data_of_ones_own_have_no_population(name):
    registry = MODEL_METRICS if name in MODEL_METRICS else COMPARATIVE_METRICS
    (metric,) = build_metrics([dln.MetricConfig(name, {"of": "population"})], registry)
    with pytest.raises(ConfigError, match=f"'{name}': it speaks of the population, and these data come without one"):
        metric.check_setting(dln.Dataset.from_arrays(np.eye(3), np.eye(3)))


def test_online_data_have_a_population_where_they_have_no_training_set():
    run = {"max_steps": 2, "data": {"online": True}, "training": {"batch_size": 3}}
    with pytest.raises(ConfigError, match="come without one; of=population is there for online data"):
        dln.run_experiment({**run, "metrics": ["noise_trace"]})
    history = dln.run_experiment({**run, "metrics": [{"name": "noise_trace", "params": {"of": "population"}}]})
    assert (history["population_noise_trace"] > 0).all()


@pytest.mark.parametrize(
    ("metric", "training", "words"),
    [
        (
            {"name": "ntk_spectrum", "params": {"of": "population"}},
            {},
            "takes 'train' or 'test' here, not 'population'",
        ),
        ({"name": "sharpness", "params": {"of": "batch"}}, {}, "takes 'train' or 'test' or 'population' here"),
        ({"name": "gradient_norm", "params": {"of": "test"}}, {"criterion": "L1Loss"}, "MSELoss only"),
        ({"name": "noise_trace", "params": {"batch_size": 0}}, {}, r"metrics\[0\]\.params\.batch_size"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(metric, training, words):
    with pytest.raises(ConfigError, match=words):
        dln.run_experiment({"max_steps": 2, "metrics": [metric], "training": training})


def test_a_metric_of_ones_own_may_be_of_all_these_too():
    if "test_second_moment" not in MODEL_METRICS:
        mark = dln.model_metric("test_second_moment", batched=True, sets=("test", "population"))
        mark(lambda train_inputs: train_inputs.square().mean((-2, -1)))
    found = columns("test_second_moment", supplied(network()))
    np.testing.assert_allclose(found["test_second_moment"], DATA.test_inputs.square().mean())
    with pytest.raises(ConfigError, match="'tset' is none; did you mean 'test'"):
        dln.model_metric("test_third_moment", sets=["tset"])
    with pytest.raises(ConfigError, match="of=population has no samples to count, and it needs train_inputs"):
        build_metrics([dln.MetricConfig("test_second_moment", {"of": "population"})])


def test_what_is_the_same_of_all_is_found_once():
    given = supplied(network(), others=others_of(network()))
    assert isinstance(given, Supply)
    scope = build_metrics([dln.MetricConfig("sharpness", {"of": "test"})])[0]._scope
    assert given.within(scope)["weights"] is given["weights"]
    assert given.within(scope)["sigma"] is given.within(scope)["sigma"] is not given["sigma"]


def test_everything_that_takes_a_place_is_known():
    known = {*MODEL_METRICS.supplied, ""}
    for table in INSTEAD.values():
        assert {*table.keys(), *table.values()} <= known
