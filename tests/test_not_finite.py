"""Numbers that are not finite are NaN in the record, whatever the metric, engine or depth, and nothing warns of them.

Whether numpy warns of what is not finite depends on how BLAS is written for a processor. Here floating point errors are
raised wherever they are not ignored, so that a warning which some processor would give is an error on every one.
"""

import functools
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import dln
from dln import ComparativeTrainer, Dataset, DeepLinearNetwork, Trainer, train_ensemble
from dln.base.stacked import decomposed, singular_values_of
from dln.ensemble.engine import Ensemble
from dln.ensemble.lane import Lane
from dln.errors import ConfigError
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, build_metrics

pytestmark = pytest.mark.linalg

ENGINES = ["compiled", "autograd"]


@pytest.fixture(autouse=True)
def _silence(capfd):
    """Errors where a flag is raised, and nothing on either stream, LAPACK's own lines included."""
    with np.errstate(all="raise"):
        yield
    told = capfd.readouterr()
    assert "compiling" in told.err or told.err == ""
    assert told.out == ""


def built_in(registry, *setting):
    """The names of all metrics of this package that have a value for some models and data."""
    names = []
    for entry in registry:
        if entry.function.__module__.startswith("dln."):
            try:
                build_metrics([entry.name], registry, "metrics", *setting)
            except ConfigError:
                continue
            names.append(entry.name)
    assert len(names) > 5
    return names


# --- the door for decompositions

DECOMPOSITIONS = {
    "svd": np.linalg.svd,
    "qr": np.linalg.qr,
    "eigh": np.linalg.eigh,
    "singular values": lambda m: (np.linalg.svd(m, compute_uv=False),),
    "eigenvalues": lambda m: (np.linalg.eigvalsh(m),),
}


@pytest.mark.parametrize("name", DECOMPOSITIONS)
@pytest.mark.parametrize("lost", [[], [1], [0, 2], [0, 1, 2, 3]])
def test_matrices_that_are_not_finite_leave_their_neighbours_alone(name, lost):
    stack = np.random.default_rng(0).standard_normal((4, 5, 5))
    alone = [DECOMPOSITIONS[name](m[None]) for m in stack]
    for i, value in zip(lost, (np.nan, np.inf, -np.inf, np.nan), strict=False):
        stack[i, i % 5, 2] = value
    for k, part in enumerate(decomposed(stack.reshape(2, 2, 5, 5), DECOMPOSITIONS[name])):
        for i, found in enumerate(part.reshape(4, *part.shape[2:])):
            expected = np.full_like(found, np.nan) if i in lost else alone[i][k][0]
            np.testing.assert_array_equal(found, expected)


def test_a_finite_matrix_for_which_lapack_gives_up_is_no_number_either():
    def gives_up(matrices):
        if (matrices == 7).any():
            raise np.linalg.LinAlgError
        return np.linalg.svd(matrices)

    stack = np.random.default_rng(0).standard_normal((3, 2, 2))
    alone = np.linalg.svd(stack)
    stack[1, 0, 0] = 7
    for found, expected in zip(decomposed(stack, gives_up), alone, strict=True):
        assert np.isnan(found[1]).all()
        np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])


def test_no_matrices_have_no_decompositions():
    assert [part.shape for part in decomposed(np.zeros((0, 3, 2)), np.linalg.svd)] == [(0, 3, 3), (0, 2), (0, 2, 2)]


def test_singular_values_at_the_ends_of_the_range_are_right():
    for size in (1e-300, 1e300):
        matrix = torch.from_numpy(size * np.diag([3.0, 2.0, 1.0]))
        with np.errstate(under="ignore"):
            np.testing.assert_allclose(singular_values_of(matrix), size * np.array([3.0, 2.0, 1.0]), rtol=1e-14)


# --- runs that diverge


def diverging(depth, engine, **more):
    config = {
        "model": {"in_dim": 3, "hidden_dim": 4, "num_hidden": depth, "out_dim": 2, "bias": depth == 2},
        "data": {"train_samples": 6, "test_samples": 4},
        "training": {"lr": 3.0 if depth else 1e6, "batch_size": 4},
        "max_steps": 400,
        "dtype": "float64",
        "engine": engine,
    }
    return {**config, **more}


@pytest.mark.sampled
@pytest.mark.parametrize("depth", range(4))
def test_a_run_that_diverges_says_the_same_of_every_metric_under_both_engines(depth):
    shapes = DeepLinearNetwork(3, 4, depth, 2, bias=depth == 2).shapes
    data = dln.linear_teacher(3, 2, {"matrix": "diagonal"}, train_samples=6)
    metrics = built_in(MODEL_METRICS, [shapes], data, torch.nn.MSELoss())
    watching = [{"name": "stop_at_gradient", "params": {"norm": 0}}, {"name": "stop_at_loss", "params": {"target": -1}}]
    compiled, autograd = (
        dln.run_experiment(diverging(depth, engine, metrics=metrics, callbacks=watching)) for engine in ENGINES
    )
    assert 2 < compiled.diverged_at < 400
    assert_same(compiled, autograd)


ROUNDED = (
    "relative_rank",
    "learning_coefficient",
    "saddle_index",
    "effective_rank",
    "mode_alignments",
    "mode_angles",
    "update_angle",
)
"""What rounding decides of nearly singular matrices: of these only the places without a number are compared."""


def assert_same(compiled, autograd):
    """Both say the same, to the rounding that an exploding run makes larger, and no number is infinite."""
    assert compiled.events == autograd.events
    assert compiled.names == autograd.names
    for name in autograd.names:
        assert_near(compiled[name], autograd[name], 1e-6 if not name.startswith(ROUNDED) else np.inf, name)


@np.errstate(all="ignore")
def assert_near(found, expected, tolerance, name):
    """Numbers are where the others are, and as large, relative to the largest of their record."""
    assert found.shape == expected.shape
    assert not np.isinf(found).any(), name
    assert not np.isinf(expected).any(), name
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=name)
    found, expected = (np.nan_to_num(x.reshape(len(x), -1).astype(float)) for x in (found, expected))
    scale = np.abs(expected).max(1, keepdims=True, initial=1e-3)
    worst = (np.abs(found - expected) / scale).max(initial=0)
    assert worst <= tolerance, name


@pytest.mark.sampled
@pytest.mark.parametrize("depth", range(4))
def test_pairs_of_which_one_diverges_say_the_same_under_both_engines(depth):
    shapes = DeepLinearNetwork(3, 4, depth, 2).shapes
    data = dln.linear_teacher(3, 2, {"matrix": "diagonal"}, train_samples=6)
    metrics = built_in(COMPARATIVE_METRICS, [shapes, shapes], data)

    def pair(engine):
        run = diverging(depth, engine, max_steps=60, comparative_metrics=metrics, evaluate_every=2)
        model, training = run.pop("model"), run.pop("training")
        lanes = {"training_a": {"lr": 0.01}, "training_b": training, "shared": {"model": {**model, "bias": False}}}
        return dln.run_experiment({**run, **lanes})

    compiled, autograd = (pair(engine) for engine in ENGINES)
    assert list(compiled.events) == ["diverged_at_b"]
    assert_same(compiled, autograd)


def test_one_run_that_diverges_costs_no_other_its_result():
    """The case that lost all: finite weights whose products are not, whose singular values were asked for."""
    lrs = (0.001, 1.0, 3.0, 0.002)
    configs = [
        {"dtype": "float64", "training": {"lr": lr}, "metrics": ["moderate"], "max_steps": 12, "evaluate_every": 3}
        for lr in lrs
    ]
    together = dln.run_experiments(configs)
    assert [history.diverged_at is None for history in together] == [True, False, False, True]
    for config, history in zip(configs, together, strict=True):
        alone = dln.run_experiment(config)
        assert history.events == alone.events
        for name in alone.names:
            np.testing.assert_array_equal(history[name], alone[name], err_msg=name)


# --- weights that are finite, and what is made of them is not


def lopsided(depth, size):
    """Weights of an ordinary map whose first layer is `size` times an ordinary one, and the last as much less."""
    rng = np.random.default_rng(depth)
    widths = [3, *[4] * depth, 2]
    weights = [rng.standard_normal((n_out, n_in)) for n_in, n_out in pairwise(widths)]
    weights[0] *= size
    weights[-1] /= size if depth else 1
    return weights


DATA = Dataset.from_arrays(
    *(np.random.default_rng(9).standard_normal((6, n)) for n in (3, 2, 3, 2)), dtype=torch.float64
)


@functools.cache
def measured(depth):
    """How networks of a depth are measured, at once or one by one: options of either engine."""
    metrics = built_in(MODEL_METRICS, [DeepLinearNetwork(3, 4, depth, 2).shapes], DATA, torch.nn.MSELoss())
    return {"max_steps": 0, "lr": 0.0, "metrics": metrics, "batch_size": 4}


@functools.cache
def measured_alone(depth, size):
    """What the compiled engine says of one network alone, and what the autograd engine says."""
    weights, options = lopsided(depth, size), measured(depth)
    alone = train_ensemble([w[None] for w in weights], DATA, **options).history(0)
    return alone, Trainer(DeepLinearNetwork.from_weights(weights, dtype=torch.float64), DATA, **options).run()


SIZES = {0: [1e100, 1e150]} | {depth: [1e100, 1e200, 1e300] for depth in (1, 2, 3)}
"""By depth; a larger map of one layer has an infinite loss."""


@pytest.mark.sampled
@pytest.mark.parametrize(("depth", "size"), [(depth, size) for depth, sizes in SIZES.items() for size in sizes])
def test_metrics_of_finite_weights_are_right_or_no_number_and_neighbours_stay_as_they_are(depth, size):
    members = [lopsided(depth, s) for s in (1.0, size, 2.0)]
    together = train_ensemble([np.stack(layer) for layer in zip(*members, strict=True)], DATA, **measured(depth))
    for r, s in enumerate((1.0, size, 2.0)):
        ours = together.history(r)
        alone, theirs = measured_alone(depth, s)
        for name in theirs.names:
            np.testing.assert_array_equal(ours[name], alone[name], err_msg=name)
            assert_near(ours[name], theirs[name], 1e-9 if not name.startswith(ROUNDED) else np.inf, name)


@pytest.mark.parametrize("size", [1e100, 1e200, 1e300])
@pytest.mark.parametrize("metric", ["param_cosine_sim", "layer_cosines", "end_to_end_cosine", "end_to_end_distance"])
def test_pairs_of_finite_weights_are_compared_rightly_or_not_at_all(size, metric):
    """A cosine of overflowing lengths would be 0: all lanes point the same way here."""
    models = [DeepLinearNetwork.from_weights(lopsided(2, size), dtype=torch.float64) for _ in range(2)]
    lanes = [Trainer(model, DATA, max_steps=0) for model in models]
    ensemble = Ensemble(
        {key: Lane([w[None] for w in lopsided(2, size)], None, [DATA], max_steps=0) for key in ("_a", "_b")},
        comparative_metrics=[metric],
    )
    for history in (ComparativeTrainer(*lanes, [metric]).run(), ensemble.run().history(0)):
        expected, found = 0.0 if "distance" in metric else 1.0, history[metric]
        wrong = found[np.abs(found - expected) > 1e-15]
        assert len(wrong) == 0
        assert np.isfinite(found).all() or size > 1e150


@pytest.mark.parametrize("engine", ENGINES)
def test_data_too_large_for_their_precision_diverge_or_are_refused(engine):
    """As float32 they are infinite: there is no loss, and no map that could be fitted to them."""
    large = Dataset.from_arrays(1e40 * DATA.train_inputs, DATA.train_targets, dtype=torch.float64)
    run = {"engine": engine, "metrics": ["moderate"], "max_steps": 2, "model": {"hidden_dim": 4}}
    history = dln.run_experiment(run, dataset=large)
    assert (len(history), history.diverged_at) == (0, 0)
    with pytest.raises(ConfigError, match="too large for float32"):
        dln.run_experiment({**run, "model": {"init": "aligned", "hidden_dim": 4}}, dataset=large)


@pytest.mark.parametrize("init", ["balanced", "target_norm"])
def test_draws_whose_product_is_too_large_are_refused(init):
    model = {"gamma": -200, "init": init, "init_params": {"norm": 1.0}}
    with pytest.raises(ConfigError, match=f"model.init={init}.*too large.*raise gamma"):
        dln.run_experiment({"model": model, "dtype": "float64", "max_steps": 1})


# --- silence, wherever numbers of a run are computed

COMPUTING = [
    *("derivatives/products", "derivatives/hessian", "derivatives/hessian_range", "derivatives/lanczos"),
    *("derivatives/gradient_noise", "derivatives/tangent_kernel", "base/stacked", "ingredients/random_matrices"),
    *("ingredients/teachers", "ingredients/inputs", "ingredients/initialisations"),
    *("measure/quantities", "measure/data_quantities", "metrics", "measure/instruments/curvature"),
    *("measure/instruments/gradient", "measure/instruments/layers", "measure/instruments/modes"),
    *("measure/instruments/noise", "measure/instruments/pairs", "kernels/batches", "kernels/state"),
    *("kernels/summary", "ensemble/views", "ensemble/probe", "ensemble/batches", "ensemble/lane"),
]


def loud(function):
    """Return the functions of `COMPUTING` that were called while numpy would have warned."""
    files = {str(Path(dln.__file__).parent / f"{name}.py") for name in COMPUTING}
    seen, found = set(), set()

    def look(frame, event, _):
        if event == "call" and frame.f_code.co_filename in files:
            name = f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"
            seen.add(name)
            if set(np.geterr().values()) != {"ignore"}:
                found.add(name)

    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    assert seen
    return found


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ENGINES)
def test_all_numbers_of_a_run_are_computed_in_silence(engine, monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "1")  # profiles are of a thread; tests/base/test_parallel.py looks at the others
    callbacks = [{"name": "kick", "params": {"step": 1, "size": 0.1, "direction": "gradient"}}]
    stops = [{"name": f"stop_at_{what}", "params": {key: -1 + (what == "gradient")}} for what, key in WATCHED]
    run = {"metrics": ["heavy"], "callbacks": [*callbacks, *stops], "max_steps": 3, "engine": engine}
    for data in ({"rotate": True, "whiten": True}, {"online": True, "inputs": "power_law"}):
        online = {"callbacks": callbacks[:0]} if "online" in data else {}
        config = {**run, "data": data, "model": {"hidden_dim": 6, "init": "balanced"}, **online}
        config["training"] = {"batch_size": 5}
        assert loud(lambda config=config: dln.run_experiment(config)) == ALLOWED
    pair = {"comparative_metrics": ["heavy"], "model_metrics": ["cheap"], "max_steps": 2, "engine": engine}
    assert loud(lambda: dln.run_experiment({**pair, "training_b": {"lr": 0.1}})) == ALLOWED


WATCHED = [("gradient", "norm"), ("loss", "target")]
ALLOWED: set[str] = set()
