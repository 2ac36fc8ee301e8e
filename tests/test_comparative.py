"""Two lanes in lockstep: each goes as it would alone, and the pair is measured at equal steps."""

import numpy as np
import pytest
import torch

from dln import ComparativeTrainer, DeepLinearNetwork, Trainer, linear_teacher, run_experiment
from dln.config import ComparativeConfig
from dln.errors import ConfigError
from dln.metrics import model_metric
from dln.timeline import acting_at
from tests.sweeps.test_plan import planner

PAIR = ["param_distance", "param_cosine_sim", "end_to_end_distance"]
DATA = linear_teacher(4, 3, {"matrix": "random_normal", "scale": 2.0}, train_samples=20, noise_std=0.3)


def lane(model_seed=0, lr=0.02, max_steps=40, **kwargs):
    model = DeepLinearNetwork(4, 6, 2, 3, model_seed=model_seed)
    return Trainer(model, DATA, **{"lr": lr, "max_steps": max_steps, "batch_size": 7, **kwargs})


def compare(a, b, metrics=PAIR):
    return ComparativeTrainer(lane(**a), lane(**b), metrics).run()


def test_a_against_a_is_at_distance_exactly_zero_through_a_whole_minibatch_run():
    history = compare({"metrics": ["weight_norm"]}, {"metrics": ["weight_norm"]})
    assert len(history) == 41
    assert (history["param_distance"] == 0).all()
    assert (history["end_to_end_distance"] == 0).all()
    assert (history["param_cosine_sim"] == 1).all()
    for name in ("train_loss", "test_loss", "weight_norm"):
        assert np.array_equal(history[f"{name}_a"], history[f"{name}_b"])


@pytest.mark.sampled
@pytest.mark.parametrize("b", [{"model_seed": 1}, {"batch_seed": 1}, {"batch_size": None}, {"lr": 0.01}])
def test_each_lane_goes_as_it_would_alone(b):
    history = compare({}, b)
    for suffix, kwargs in (("_a", {}), ("_b", b)):
        alone = lane(**kwargs).run()
        for name in ("train_loss", "test_loss"):
            assert np.array_equal(history[name + suffix], alone[name])
    assert history["param_distance"][-1] > 0


def test_swapping_lanes_swaps_the_columns():
    one, other = compare({}, {"model_seed": 1}), compare({"model_seed": 1}, {})
    for name in ("train_loss", "test_loss"):
        assert np.array_equal(one[f"{name}_a"], other[f"{name}_b"])
        assert np.array_equal(one[f"{name}_b"], other[f"{name}_a"])
    for name in PAIR:
        assert np.array_equal(one[name], other[name])


def test_lanes_of_equal_seed_and_size_see_identical_batches():
    batches = {0: [], 1: []}

    @model_metric("test_batches")
    def collects(model, data, lane: int):
        batches[lane].append(data.inputs.clone())
        return 0.0

    from dln import MetricConfig

    metrics = [[MetricConfig("test_batches", {"lane": i})] for i in range(2)]
    compare({"metrics": metrics[0]}, {"metrics": metrics[1], "model_seed": 3, "lr": 0.001})
    assert len(batches[0]) == 41
    assert all(torch.equal(a, b) for a, b in zip(*batches.values(), strict=True))


def test_distances_are_between_the_weights_of_equal_steps():
    history = compare({}, {"model_seed": 1, "lr": 0.01})
    a, b = lane(max_steps=25), lane(model_seed=1, lr=0.01, max_steps=25)
    a.run(), b.run()
    square = sum(
        np.square((p - q).detach().double().numpy()).sum()
        for p, q in zip(a.model.weights, b.model.weights, strict=True)
    )
    assert history["param_distance"][25] == pytest.approx(np.sqrt(square), rel=1e-6)


def test_a_lane_that_diverges_leaves_the_other_untouched():
    history = compare({}, {"lr": 1e3})
    alone = lane().run()
    diverged = history.events["diverged_at_b"]
    assert history.diverged_at == diverged
    assert np.array_equal(history["train_loss_a"], alone["train_loss"])
    assert np.isfinite(history["train_loss_b"][:diverged]).all()
    for name in ("train_loss_b", *PAIR):
        assert np.isnan(history[name][diverged:]).all()
    assert len(history) == 41


def test_the_run_ends_when_both_lanes_have_diverged():
    history = compare({"lr": 1e3}, {"lr": 1e3, "model_seed": 2})
    assert set(history.events) == {"diverged_at_a", "diverged_at_b"}
    assert len(history) == max(history.events.values())


def test_a_stopped_lane_keeps_its_weights_while_the_other_goes_on():
    stop = {"callbacks": [acting_at([10], lambda step, trainer: trainer.stop())]}
    history = compare({}, stop)
    assert history.events == {"stopped_at_b": 10}
    assert len(history) == 41
    assert np.array_equal(history["test_loss_b"][10:], np.full(31, history["test_loss_b"][10]))
    assert (history["param_distance"][:11] == 0).all()
    assert (np.diff(history["param_distance"][10:20]) > 0).all()
    both = compare(stop, stop)
    assert both["step"].tolist() == list(range(11))


def test_lanes_out_of_step_are_refused():
    for name, value in (("max_steps", 5), ("evaluate_every", 3)):
        with pytest.raises(ConfigError, match=f"need the same {name}"):
            ComparativeTrainer(lane(), lane(**{name: value}))
    with pytest.raises(ConfigError, match="or evaluate_at"):
        ComparativeTrainer(lane(), lane(evaluate_at=[2]))
    ComparativeTrainer(lane(evaluate_at=[2, 1]), lane(evaluate_at=[1, 2], evaluate_every=3))


def test_shared_callbacks_do_what_the_same_in_both_lanes_do():
    """Each lane has its own: this one remembers losses. In a sweep they are one axis."""
    stop = [{"name": "stop_at_plateau", "params": {"patience": 5, "tolerance": 0.5}}]
    base = {"max_steps": 200, "training_b": {"lr": 0.01}}
    both = run_experiment({**base, "shared": {"callbacks": stop}})
    assert both.ends != {}
    assert both.records == run_experiment({**base, "callbacks_a": stop, "callbacks_b": stop}).records
    switches = [f"[{{name: switch_batch_size, params: {{step: 2, batch_size: {size}}}}}]" for size in (1, 2)]
    plan = planner(ComparativeConfig)[0](["max_steps=5", f"shared.callbacks={','.join(switches)}"])
    assert len(plan) == 2
    assert plan.varying() == {"callbacks_a", "callbacks_b"}
    for cell in range(2):
        alike = [lane.callbacks[0].params["batch_size"] for lane in plan.config(cell).lanes.values()]
        assert alike == [cell + 1, cell + 1]


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_a_metric_of_one_lane_alone_fills_one_column_and_is_what_both_would_record(engine):
    def run(change):
        return run_experiment(change, comparative=True)

    base = {"max_steps": 6, "evaluate_every": 2, "engine": engine, "training_b": {"lr": 0.01}}
    both = run({**base, "model_metrics": ["weight_norm", "gradient_norm"]})
    one = run({**base, "model_metrics": ["weight_norm"], "metrics_a": ["gradient_norm"]})
    other = run({**base, "metrics_b": ["layer_norms"], "events": ["plateaus"]})
    assert set(both.names) - set(one.names) == {"gradient_norm_b"}
    assert all(np.array_equal(one[name], both[name]) for name in one.names)
    assert {name for name in other.names if name.startswith("layer_norms")} == {"layer_norms_b"}
    for twice in ({"model_metrics": ["weight_norm"], "metrics_b": ["weight_norm"]}, {"metrics_a": "no_such"}):
        with pytest.raises(ConfigError, match=r"metrics_[ab]"):
            run({**base, **twice})
    with pytest.raises(ConfigError, match=r"mode_escapes.*add it to the metrics"):
        run({**base, "metrics_a": ["mode_strengths"], "events": ["mode_escapes"]})
