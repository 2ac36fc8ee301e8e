"""What theory says of SGD against ensembles of the compiled engine."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from dln import linear_teacher, train_ensemble
from dln.data import Dataset
from dln.theory import Problem
from dln.theory.sde import sde
from dln.theory.sgd_mean import sgd_mean
from tests.theory.problems import problem


def net(lr: float, batch: int, sampling: str) -> Problem:
    return problem((3, 4, 3, 2), samples=16, lr=lr, batch_size=batch, sampling=sampling, noise=0.3, seed=5)


def whole_losses(run: Problem, steps: np.ndarray, members: int) -> np.ndarray:
    """Losses [members, steps] on the whole training set, or the population, of an ensemble that differs in seeds."""
    weights = [np.repeat(w, members, 0) for w in run.layers]
    of = {"lr": run.lr[0], "batch_size": run.batch_size, "batch_seeds": range(members), "max_steps": int(steps[-1])}
    of |= {"evaluate_at": steps.tolist()}
    if run.sampling == "online":
        std = float(run.noise_std[0])
        data = linear_teacher(3, 2, {"matrix": "random_normal"}, online=True, noise_std=std)
        data = replace(data, teacher=torch.from_numpy(run.sigma_yx[0]))
        found = train_ensemble(weights, data, metrics=["population_loss"], **of).curves()["population_loss"] + std**2
    else:
        x, y = torch.from_numpy(run.inputs[0]), torch.from_numpy(run.targets[0])
        data = Dataset(x, y, x, y)
        found = train_ensemble(weights, data, replacement=run.sampling == "replacement", **of).curves()["test_loss"]
    return found[:, -len(steps) :]


def compared(run: Problem, steps: np.ndarray, members: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relative errors of E L - L_GD with their standard errors, and of the standard deviation."""
    found, losses = sgd_mean(run, steps), whole_losses(run, steps, members)
    gd, excess, spread = (found.columns[name][0] for name in ("train_loss_gd", "excess_loss", "train_loss_std"))
    error = (losses.mean(0) - gd) / excess - 1
    return error, losses.std(0) / np.sqrt(members) / np.abs(excess), losses.std(0) / spread - 1


def mid_epoch(lr: float, times, batch: int) -> np.ndarray:
    """Steps near flow times, in the middle of epochs of 16 samples."""
    epoch = 16 // batch
    return np.array([int(t / lr) // epoch * epoch + epoch // 2 for t in times])


def test_the_mean_loss_and_the_band_of_an_ensemble():
    error, margin, spread = compared(net(0.01, 4, "replacement"), np.array([200, 400, 600]), 1500)
    assert (np.abs(error) < 0.05 + 4 * margin).all()
    assert (np.abs(spread[1:]) < 0.15).all()


def test_batches_in_epochs_spread_much_less_than_independent_ones():
    epochs, independent = net(0.01, 4, "epochs"), net(0.01, 4, "replacement")
    steps = np.array([62, 64, 102, 104])  # the middle of an epoch and its end, twice
    theory = [sgd_mean(run, steps).columns["train_loss_std"][0] for run in (independent, epochs)]
    truth = [whole_losses(run, steps, 400).std(0) for run in (independent, epochs)]
    for predicted, measured in zip(theory, truth, strict=True):
        np.testing.assert_allclose(predicted[[0, 2]], measured[[0, 2]], rtol=0.15)
        np.testing.assert_allclose(predicted, measured, rtol=0.4)
    middle, end = np.divide(*truth)[[0, 2]], np.divide(*truth)[[1, 3]]
    assert (middle > 5).all()
    assert (end > 50).all()


@pytest.mark.long
@pytest.mark.parametrize("sampling", ["replacement", "epochs", "online"])
@pytest.mark.parametrize("batch", [2, 4])
def test_its_error_against_ensembles_falls_as_the_learning_rate(sampling, batch):
    found = []
    for lr in (0.04, 0.02, 0.01):
        steps = mid_epoch(lr, (3, 4, 5.5), batch)
        error, margin, _ = compared(net(lr, batch, sampling), steps, 8000)
        found.append((np.abs(error), margin))
    for (wide, _), (narrow, margin) in itertools.pairwise(found):
        assert (narrow < 0.65 * wide + 3 * margin).all()
    assert (found[-1][0] < 0.06 + 3 * found[-1][1]).all()


@pytest.mark.long
def test_gaussian_noise_is_enough_for_the_mean_and_finite_steps_matter():
    run, steps, members = net(0.04, 2, "replacement"), np.array([25, 37, 50, 75, 125]), 6000
    losses = whole_losses(run, steps, members)
    ratios = []
    for substeps in (1, 8):
        found = sde(run, steps, substeps, members).columns
        spread = np.hypot(losses.std(0), found["train_loss_std"][0]) / np.sqrt(members)
        ratios.append((found["train_loss"][0] - losses.mean(0)) / spread)
    assert (np.abs(ratios[0]) < 4).all()
    assert np.abs(ratios[1]).max() > 5
