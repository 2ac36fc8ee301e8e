"""Configs become trainers; what cannot be built is found by `check_names` before any data is made."""

import numpy as np
import pytest
import torch

from dln import ComparativeTrainer, Trainer, factory
from dln.composing.loader import load_config
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError
from dln.factory import check_names
from dln.model import DeepLinearNetwork, save_weights


def test_every_field_reaches_the_trainer():
    overrides = [
        "model={in_dim: 3, out_dim: 2, num_hidden: 2, hidden_dim: [4, 6], gamma: 0.5, bias: true}",
        "data={train_samples: 30, test_samples: 7, noise_std: 0.1, data_seed: 4}",
        "training={lr: 0.03, batch_size: 5, optimizer: Adam, optimizer_params: {eps: 0.1}, criterion: L1Loss}",
        "training.model_seed=2",
        "max_steps=11",
        "evaluate_every=4",
        "dtype=float64",
        "metrics=[weight_norm, {name: singular_values, params: {top: 1}, label: largest}]",
        "callbacks=[{name: lr_decay, params: {factor: 0.5, interval: 3}}]",
    ]
    trainer = factory.build(load_config(overrides, SingleConfig))
    assert isinstance(trainer, Trainer)
    assert [tuple(w.shape) for w in trainer.model.weights] == [(4, 3), (6, 4), (2, 6)]
    assert len(trainer.model.biases) == 3
    assert trainer.model.weights[0].dtype == torch.float64
    expected = DeepLinearNetwork(3, [4, 6], 2, 2, gamma=0.5, model_seed=2, dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.weights, expected.weights, strict=True))
    data = trainer.dataset
    assert (data.train_inputs.shape, data.test_inputs.shape, data.noise_std) == ((30, 3), (7, 3), 0.1)
    assert (trainer.lr, trainer.batch_size, trainer.max_steps, sorted(trainer.recorded)) == (0.03, 5, 11, [0, 4, 8, 11])
    assert type(trainer.optimizer) is torch.optim.Adam
    assert trainer.optimizer.param_groups[0]["eps"] == 0.1
    assert type(trainer.criterion) is torch.nn.L1Loss
    assert [m.label for m in trainer.metrics] == ["weight_norm", "largest"]
    assert len(trainer.callbacks) == 1


def test_a_comparison_has_two_lanes_on_one_dataset():
    overrides = ["shared.training.lr=0.1", "training_b.lr=0.2", "model_b.hidden_dim=7", "comparative_metrics=[]"]
    pair = factory.build_trainer(load_config(overrides, ComparativeConfig))
    assert isinstance(pair, ComparativeTrainer)
    a, b = pair.lanes.values()
    assert a.dataset is b.dataset
    assert (a.lr, b.lr) == (0.1, 0.2)
    assert (a.model.weights[0].shape[0], b.model.weights[0].shape[0]) == (50, 7)


@pytest.mark.parametrize("bias", [False, True])
def test_a_run_starts_from_the_weights_of_a_file(tmp_path, bias):
    model = DeepLinearNetwork(hidden_dim=6, model_seed=9, bias=bias)
    save_weights(model, tmp_path / "w.npz")
    overrides = ["model.hidden_dim=6", f"model.bias={str(bias).lower()}", f"model.weights={tmp_path / 'w.npz'}"]
    built = factory.build_trainer(load_config(overrides, SingleConfig)).model
    assert all(
        np.array_equal(a.detach(), b.detach()) for a, b in zip(built.parameters(), model.parameters(), strict=True)
    )
    wrong = load_config([*overrides, "model.hidden_dim=7"], SingleConfig)
    for deed in (factory.build, check_names):
        with pytest.raises(ConfigError, match=r"model.weights: .* holds shapes .*6, 5.* describes .*7, 5"):
            deed(wrong)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "override",
    [
        "metrics=[nothing]",
        "callbacks=[{name: nothing}]",
        "data.params.matrix=nothing",
        "data.params.nothing=1",
        "training.optimizer=Nothing",
        "training.criterion=Nothing",
        "training.optimizer_params={nothing: 1}",
        "device=nothing",
        "extensions=[nothing]",
        "model.weights=nothing",
        "model.init=nothing",
        "model.init_params={nothing: 1}",
    ],
)
def test_what_cannot_be_built_is_found_without_building(override):
    config = load_config([override], SingleConfig)
    messages = []
    for deed in (check_names, factory.build):
        with pytest.raises(ConfigError, match=r"(?i)nothing") as error:
            deed(config)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
