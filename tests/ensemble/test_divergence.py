"""Where a run diverges: the same under both engines, alone and in company, whatever is recorded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dln import factory, register_callback
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig
from dln.kernels.rules import RULES
from dln.metrics import model_metric
from dln.timeline import acting_at

BASE = {
    "model": {"in_dim": 4, "out_dim": 3, "hidden_dim": 5, "num_hidden": 1},
    "data": {"params": {"matrix": "random_normal", "scale": 2.0}, "train_samples": 20, "test_samples": 9},
    "training": {"lr": 0.05},
    "max_steps": 30,
}
LARGEST = {"float32": 38, "float64": 308}


def merged(base, *changes):
    for change in changes:
        nested = {k: merged(base[k], v) for k, v in change.items() if isinstance(base.get(k), dict)}
        base = {**base, **change, **nested}
    return base


def config(*changes, schema=SingleConfig):
    return resolve(merged(BASE, *changes), schema)


def run(*changes, engine="compiled"):
    return factory.build(config(*changes, {"engine": engine})).run()


def acts(*listed):
    return [{"name": name, "params": params} for name, params in listed]


def assert_same(ours, theirs):
    """Equal events and steps, and losses that overflow at the same of them."""
    assert ours.events == theirs.events
    assert ours["step"].tolist() == theirs["step"].tolist()
    for name in theirs.names:
        assert np.isfinite(ours[name]).tolist() == np.isfinite(theirs[name]).tolist(), name


FAST = [{"optimizer": "SGD"}, {"optimizer": "Adam"}]
"""Rules whose kernels other tests compile in both precisions."""


@st.composite
def shapes(draw):
    """What members of an ensemble share."""
    online = draw(st.booleans())
    size = draw(st.sampled_from([1, 3, 9] if online else [None, 1, 3, 7, 13]))
    optimizer = draw(st.sampled_from([{"optimizer_params": {"momentum": 0.9}}, *({"optimizer": o} for o in RULES)]))
    return {
        "model": {"num_hidden": draw(st.integers(0, 3)), "bias": draw(st.booleans())},
        "data": {"online": online},
        "dtype": draw(st.sampled_from(["float32", "float64"])) if optimizer in FAST else "float64",
        "training": {"batch_size": size, **optimizer},
        "evaluate_every": draw(st.sampled_from([1, 7, 1000])),
    }


@st.composite
def members(draw, shape):
    """One run: a rate below or beyond the edge, and interventions of any size."""
    steps, exponent = st.integers(0, BASE["max_steps"]), LARGEST[shape["dtype"]]
    size = draw(st.floats(0, exponent * 0.75).map(lambda e: 10**e))
    kick, (target, interval) = (
        draw(steps),
        draw(st.tuples(st.sampled_from([1e-30, 1.0, 1e30]), st.sampled_from([1, 4]))),
    )
    chosen = draw(st.lists(st.sampled_from(["kick", "back", "stop", "growth", "switch", "noise"]), max_size=3))
    listed = {
        "kick": ("kick", {"step": kick, "size": size}),
        "back": ("kick", {"step": min(kick + 1, BASE["max_steps"]), "size": -size}),
        "stop": ("stop_at_loss", {"target": target, "interval": interval, "loss": "test"}),
        "growth": ("lr_decay", {"factor": draw(st.sampled_from([0.5, 2.0, 100.0])), "interval": 2}),
        "switch": ("switch_batch_size", {"step": draw(steps), "batch_size": draw(st.sampled_from([2, 11]))}),
        "noise": ("weight_noise", {"std": size, "interval": 9, "start": 5}),
    }
    rate = draw(st.one_of(st.floats(-2, 1.5), st.floats(1, exponent)).map(lambda e: 10**e))
    return {"training": {"lr": rate}, "callbacks": acts(*(listed[name] for name in chosen))}


@settings(max_examples=10)
@given(data=st.data())
def test_what_is_said_of_a_run_depends_on_neither_engine_nor_company_nor_recording(data):
    shape = data.draw(shapes())
    others = data.draw(st.lists(members(shape), min_size=1, max_size=3))
    ensemble = factory.build_ensemble([config(shape, own) for own in others]).run()
    for m, own in enumerate(others):
        truth = run(shape, own, engine="autograd")
        assert_same(ensemble.history(m), truth)
        assert ensemble.history(m).records == run(shape, own).records
        assert run(shape, own, {"evaluate_every": 5}).events == truth.events


@pytest.mark.parametrize("evaluate_every", [1, 100, 1000])
def test_a_linear_model_beyond_the_edge_diverges_where_float32_cannot_sum_its_loss(evaluate_every):
    """The sum of squares overflows before it is divided by their number."""
    change = {"model": {"num_hidden": 0}, "training": {"lr": 3.0}, "data": {"train_samples": 500}, "max_steps": 400}
    stop = {"callbacks": acts(("stop_at_loss", {"target": 1e-30})), "evaluate_every": evaluate_every}
    expected = run(change, engine="autograd").events
    assert 50 < expected["diverged_at"] < 300
    assert run(change, stop).events == run(change, {"evaluate_every": evaluate_every}).events == expected


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_losses_just_below_the_limit_do_not_diverge(dtype, batch_size):
    """Kicks of rising size, on the last step too: whether a sum overflows is the same for both engines."""
    found = []
    for size in (10.0 ** (LARGEST[dtype] / 2 + np.arange(-2, 2, 0.5))).tolist():
        change = {"dtype": dtype, "model": {"num_hidden": 0}, "training": {"batch_size": batch_size, "lr": 1e-9}}
        change |= {"callbacks": acts(("kick", {"step": 8, "size": size})), "max_steps": 8, "evaluate_every": 3}
        ours, theirs = run(change), run(change, engine="autograd")
        assert_same(ours, theirs)
        found.append(theirs.diverged_at)
    assert set(found) == {None, 8}
    assert found[0] is None
    assert found[-1] == 8


def test_a_kick_that_the_next_takes_back_is_a_divergence():
    change = {"callbacks": acts(("kick", {"step": 10, "size": 1e25}), ("kick", {"step": 11, "size": -1e25}))}
    for engine in ("compiled", "autograd"):
        assert run(change, {"evaluate_every": 1000}, engine=engine).events == {"diverged_at": 10}


def test_weights_that_a_callback_mends_have_not_diverged():
    """Callbacks come before the loss: what they put right at a step was never seen."""

    @register_callback("test_divergence_mends")
    def mends():
        def callback(step, trainer):
            for w in trainer.model.weights:
                w.data.fill_(0.1)

        return acting_at([6], callback)

    change = {"training": {"lr": 1e30}, "callbacks": acts(("test_divergence_mends", {}))}
    assert run(change).events == run(change, engine="autograd").events == {"diverged_at": 1}
    change = {"callbacks": acts(("kick", {"step": 6, "size": 1e30}), ("test_divergence_mends", {}))}
    assert run(change).events == run(change, engine="autograd").events == {}


@pytest.mark.parametrize("schema", [SingleConfig, ComparativeConfig])
def test_a_run_that_is_over_does_not_diverge_while_others_go_on(schema):
    """Weights that were stopped near the limit have a loss on one sample and none on another."""

    @register_callback("test_divergence_stops")
    def stops(step: int):
        return acting_at([step], lambda s, trainer: trainer.stop())

    stop = ("test_divergence_stops", {"step": 3})
    sizes = (10.0 ** np.arange(18, 20.5, 0.25)).tolist()
    listed = [acts(("kick", {"step": 3, "size": size}), stop) for size in sizes]
    one = {"training": {"batch_size": 1}, "model": {"num_hidden": 0}}
    if schema is SingleConfig:
        changes = [merged(one, {"callbacks": own}) for own in [*listed, []]]
    else:
        pair = {f"{part}{lane}": {**BASE[part], **one[part]} for part in one for lane in ("_a", "_b")}
        changes = [{**pair, "callbacks_a": own, "callbacks_b": acts(stop)} for own in listed] + [pair]
    base = {k: v for k, v in BASE.items() if schema is SingleConfig or k not in ("model", "training")}
    configs = [[resolve(merged(base, c, {"engine": e}), schema) for c in changes] for e in ("compiled", "autograd")]
    ensemble = factory.build_ensemble(configs[0]).run()
    expected = [factory.build(c).run() for c in configs[1]]
    for r, theirs in enumerate(expected):
        assert_same(ensemble.history(r), theirs)
    assert {h.diverged_at for h in expected} == {None, 3}
    lane = next(iter(ensemble.lanes.values()))
    assert len({int(s) for s in lane.diverged_at}) > 2, "none was seen to diverge after its end: try other sizes"


@pytest.mark.parametrize("split", ["train", "test"])
def test_losses_that_callbacks_ask_for_overflow_as_torchs_do(split):
    seen = {}

    @register_callback(f"test_divergence_asks_{split}")
    def asks(engine: str):
        def callback(step, trainer):
            seen.setdefault(engine, []).append(trainer.evaluate(split))

        return acting_at([12], callback)

    for size in (1e15, 1e17, 1e19, 1e21):
        for engine in ("compiled", "autograd"):
            listed = acts(("kick", {"step": 12, "size": size}), (f"test_divergence_asks_{split}", {"engine": engine}))
            run({"model": {"num_hidden": 0}, "callbacks": listed}, engine=engine)
    assert seen["compiled"] == pytest.approx(seen["autograd"], rel=1e-5)
    assert np.isfinite(seen["autograd"]).tolist() == [True, True, False, False]


def test_the_weights_of_a_diverged_run_are_those_it_diverged_with():
    change = {"training": {"lr": 1.5}, "dtype": "float64", "evaluate_every": 1000}
    trainer = factory.build(config(change, {"engine": "autograd"}))
    assert 3 < trainer.run().diverged_at < 30
    configs = [config(change), config(change, {"training": {"lr": 0.01}})]
    together, _ = factory.build_ensemble(configs).run().weights()
    alone, _ = factory.build_ensemble(configs[:1]).run().weights()
    for ours, own, theirs in zip(together, alone, trainer.model.weights, strict=True):
        assert np.array_equal(ours[0], own[0])
        np.testing.assert_allclose(ours[0], theirs.detach(), rtol=1e-6)


def test_a_metric_is_not_asked_about_a_run_that_has_diverged():
    """The loss overflows while the weights are numbers: no record, and a metric that would raise is not called."""

    @model_metric("test_divergence_refuses")
    def refuses(model):
        if model.weights[0].abs().max() > 1e15:
            raise ValueError("too large")
        return 0.0

    change = {"model": {"num_hidden": 0}, "callbacks": acts(("kick", {"step": 10, "size": 1e25}))}
    change |= {"metrics": ["test_divergence_refuses"]}
    for engine in ("compiled", "autograd"):
        assert run(change, engine=engine).events == {"diverged_at": 10}
