"""Maximal update: its rates and starts, their equality with what they are in other words, and transfer across width."""

import numpy as np
import pytest

import dln
from dln.base.values import mup_factors
from dln.blueprint import Blueprint
from dln.composing.compose import resolve
from dln.config import SingleConfig
from dln.errors import ConfigError


def experiment(model=None, training=None, **change):
    config = {"max_steps": 40, "dtype": "float64", "metrics": ["singular_values"], **change}
    config["model"] = {"in_dim": 3, "out_dim": 4, "hidden_dim": [8, 16], "num_hidden": 2, **(model or {})}
    config["training"] = {"lr": 0.05, "batch_size": 10, **(training or {})}
    return dln.run_experiment({**config, "data": {"params": {"matrix": "diagonal", "scale": 2.0}}})


def test_the_word_stands_for_numbers():
    for engine in ("compiled", "autograd"):
        by_word, by_hand = (experiment(training={"lr_factors": f}, engine=engine) for f in ("mup", [8 / 3, 2.0, 0.25]))
        for name in by_hand.names:
            np.testing.assert_array_equal(by_word[name], by_hand[name])
    assert mup_factors([3, 8, 16, 4], "Adam", "") == [1 / 3, 1 / 8, 1 / 16]


@pytest.mark.parametrize("width", [8, 32])
def test_of_sgd_it_is_gamma_one_at_one_rate_for_all_layers(width):
    """Layers c W at rates c^2 lr go as layers W at rates lr: here c is the root of n_out / n_in.

    The product of all c, sqrt(d_out / d_in), is 1 here, so the maps are the same at every step.
    """
    model = {"hidden_dim": width, "in_dim": 4, "gamma": 1.0}
    ours = experiment({**model, "init": "mup"}, {"lr_factors": "mup"}, engine="autograd")
    theirs = experiment(model, engine="autograd")
    for name in theirs.names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_first_steps_change_every_layers_output_alike_at_all_widths(optimizer):
    """||dW_l|| / sqrt(n_out / n_in), spectral norms, of the first step: it neither grows nor vanishes with width."""
    sizes = []
    for width in (16, 64, 256):
        model = {"in_dim": 4, "out_dim": 4, "hidden_dim": width, "num_hidden": 2, "init": "mup"}
        training = {"lr_factors": "mup", "optimizer": optimizer, "lr": 0.01}
        config = resolve({"model": model, "training": training, "max_steps": 1, "dtype": "float64"}, SingleConfig)
        blueprint = Blueprint(config)
        start, _ = blueprint.start("")
        net, factors = dln.DeepLinearNetwork.from_weights(start), config.lanes[""].lr_factors
        how = {"optimizer": optimizer, "lr": 0.01, "lr_factors": factors, "max_steps": 1}
        dln.Trainer(net, blueprint.dataset, **how).run()
        changes = [w.detach().numpy() - s for w, s in zip(net.weights, start, strict=True)]
        sizes.append([np.linalg.norm(c, 2) / np.sqrt(c.shape[0] / c.shape[1]) for c in changes])
    assert (np.max(sizes, 0) < 3 * np.min(sizes, 0)).all()


def test_the_best_rate_is_the_same_at_all_widths_and_falls_with_width_in_the_standard_parametrisation():
    rates, best = 2.0 ** np.arange(-6.5, -0.5), {}
    for init, factors in (("mup", "mup"), ("fan_in", None)):
        for width in (32, 128):
            base = {"max_steps": 25, "evaluate_at": [], "data": {"params": {"matrix": "diagonal", "scale": 3.0}}}
            base["model"] = {"hidden_dim": width, "num_hidden": 2, "init": init}
            runs = [{**base, "training": {"lr": float(lr), "lr_factors": factors}} for lr in rates]
            losses = [r["train_loss"][-1] if r.diverged_at is None else np.inf for r in dln.run_experiments(runs)]
            best[init, width] = rates[np.nanargmin(losses)]
    assert best["mup", 32] == best["mup", 128]
    assert best["fan_in", 32] >= 2 * best["fan_in", 128]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"training": {"lr_factors": "mup", "optimizer": "LBFGS"}}, r"lr_factors=mup is known of SGD, .* LBFGS"),
        ({"training": {"lr_factors": "mup"}, "model": {"bias": True}}, r"set model\.bias=false"),
        ({"training": {"lr_factors": "mop"}}, r"training\.lr_factors"),
        ({"model": {"alpha": "mup"}}, r"model\.alpha"),
    ],
)
def test_what_it_is_not_known_of_is_refused(change, told):
    with pytest.raises(ConfigError, match=told):
        dln.run_experiment({"max_steps": 2, **change})
