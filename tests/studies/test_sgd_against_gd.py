"""The question itself, of real runs: where mean SGD is against gradient descent, and where theory puts it."""

import numpy as np
import pytest
import torch

import dln
from dln.base.arithmetic import uniform
from dln.composing.loader import load_config
from dln.config import SingleConfig
from dln.factory import build_trainer

SEED, SIZE = "training.batch_seed", "training.batch_size"
SAMPLES, BATCH, LR, STEPS = 20, 4, 0.002, 100
NET = ["model.in_dim=3", "model.out_dim=2", "model.num_hidden=1", "model.hidden_dim=4", "data.params.scale=2.0"]
NET += [
    "data.noise_std=0.5",
    f"data.train_samples={SAMPLES}",
    "dtype=float64",
    f"training.lr={LR}",
    f"max_steps={STEPS}",
]


def loss(weights, inputs, targets):
    for weight in weights:
        inputs = inputs @ weight.T
    return (inputs - targets).square().mean()


def noise(weights, inputs, targets):
    """The trace of the covariance of one sample's gradient g_s, mean ||g_s||^2 - ||g||^2; a layer has (B' e) (A x)'."""
    first, second = weights
    hidden = inputs @ first.T
    error = 2 / targets.shape[1] * (hidden @ second.T - targets)
    layers = [(error @ second, inputs), (error, hidden)]
    squares = sum((back.square().sum(1) * forth.square().sum(1)).mean() for back, forth in layers)
    return squares - sum((back.T @ forth / len(inputs)).square().sum() for back, forth in layers)


@uniform()
def path(smoothed):
    """Losses on the test set of gradient descent on L, or on L + lr / 4 times the noise of an epoch's batches."""
    trainer = build_trainer(load_config(NET, SingleConfig))
    data = trainer.dataset
    train, test = (data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets)
    weights = [weight.detach().clone().requires_grad_() for weight in trainer.model.parameters()]
    factor = LR / 4 * (SAMPLES - BATCH) / (BATCH * (SAMPLES - 1)) if smoothed else 0.0
    losses = []
    for step in range(STEPS + 1):
        if step % 25 == 0:
            losses.append(loss(weights, *test).item())
        gradients = torch.autograd.grad(loss(weights, *train) + factor * noise(weights, *train), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= LR * gradient
    return np.array(losses)


@pytest.mark.long
def test_sgd_leaves_gradient_descent_as_theory_says(tmp_path):
    """To first order in lr, at the ends of epochs (Smith et al., arXiv 2101.12176)."""
    dln.run_sweep([*NET, f"{SEED}=0..199", f"{SIZE}=null,{BATCH}", "evaluate_every=25"], directory=tmp_path / "sweep")
    table = dln.aggregate(tmp_path / "sweep", SEED, of=["test_loss"], baseline={SIZE: None})
    sgd = table.filter(**{SIZE: BATCH})[1:]
    gd, theory = path(smoothed=False)[1:], path(smoothed=True)[1:]
    np.testing.assert_allclose(sgd["test_loss baseline"], gd, rtol=1e-10)
    np.testing.assert_allclose(sgd["test_loss mean"] - gd, theory - gd, rtol=0.03)  # 3 % is O(lr): it halves with lr
    np.testing.assert_array_equal(sgd["test_loss side"], np.sign(theory - gd))
    assert (sgd["test_loss ratio"] < 1).all()
