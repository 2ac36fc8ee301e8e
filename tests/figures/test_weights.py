"""Weights as images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dln import DeepLinearNetwork
from dln.errors import ConfigError, StorageError
from dln.experiment import run_experiment
from dln.plotting import matrix, plot_weights
from tests.figures.histories import overlaps

pytestmark = pytest.mark.sampled(whole_file=True)

W1, W2 = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]]), np.array([[1.0, 0.0, -1.0]])


def images(figure) -> dict:
    return {ax.get_title(): ax.images[0] for ax in figure.axes if ax.images}


@pytest.mark.parametrize(
    "of", [[W1, W2], DeepLinearNetwork.from_weights([W1, W2]), [torch.tensor(W1), torch.tensor(W2)]]
)
def test_the_map_the_teacher_and_the_layers_are_drawn(of):
    figure = plot_weights(of, teacher=[[4.0, -8.0]])
    drawn = images(figure)
    assert list(drawn) == ["end-to-end map", "teacher", "layer 1", "layer 2"]
    np.testing.assert_allclose(drawn["end-to-end map"].get_array(), W2 @ W1)
    np.testing.assert_allclose(drawn["layer 1"].get_array(), W1)
    assert overlaps(figure) == []


def test_zero_is_white_and_scales_are_shared():
    drawn = images(plot_weights([W1, W2], teacher=[[4.0, -8.0]]))
    assert drawn["teacher"].get_clim() == drawn["end-to-end map"].get_clim() == (-8, 8)
    assert drawn["layer 1"].get_clim() == drawn["layer 2"].get_clim() == (-3, 3)
    for image in drawn.values():
        assert min(image.cmap(image.norm(0.0))[:3]) > 0.95


def test_one_layer_is_the_map():
    assert list(images(plot_weights([W2]))) == ["end-to-end map"]


@pytest.mark.parametrize("values", [np.zeros((2, 2)), [[np.nan, 1.0]], np.ones((40, 2)), [1.0, 2.0]])
def test_odd_matrices_are_drawn(values):
    low, high = matrix(values).images[0].get_clim()
    assert low == -high < 0


def test_many_layers_fill_rows():
    figure = plot_weights([np.eye(3)] * 6, style="paper")
    assert len(images(figure)) == 7
    assert figure.get_figwidth() == 6.9
    assert overlaps(figure) == []


def test_a_runs_directory_has_its_last_weights_and_its_teacher(tmp_path):
    overrides = ["max_steps=20", "checkpoint_every=10", "model.num_hidden=1", "model.hidden_dim=6", "training.lr=0.05"]
    history = run_experiment([*overrides, "metrics=[end_to_end_map]"], directory=tmp_path / "run")
    drawn = images(plot_weights(tmp_path / "run"))
    rows = [history.final[f"end_to_end_map.{i}"] for i in range(1, 6)]
    np.testing.assert_allclose(drawn["end-to-end map"].get_array(), rows, rtol=1e-5, atol=1e-6)
    first = images(plot_weights(tmp_path / "run" / "checkpoints" / "step_00000010.npz"))
    assert np.abs(first["end-to-end map"].get_array() - rows).max() > 1e-4


def test_what_has_no_weights_says_what_to_do(tmp_path):
    run_experiment(["max_steps=2"], directory=tmp_path / "run")
    with pytest.raises(StorageError, match="run it with checkpoint_every"):
        plot_weights(tmp_path / "run")
    with pytest.raises(StorageError, match="no run in"):
        plot_weights(tmp_path)
    with pytest.raises(ConfigError, match=r"nothing\.npz"):
        plot_weights(tmp_path / "nothing.npz")
