"""Runs on a GPU say what runs on the cpu say. Where there is none, the same tests run on a device that is pretended.

The pretended device computes on the cpu, so there only the places of tensors are tested.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import dln
from dln import model_metric
from dln.errors import ConfigError
from dln.metrics import MODEL_METRICS
from dln.model import load_weights
from dln.results.frames import load_sweep
from dln.sweeps.driver import run_sweep
from tests import second_device
from tests.sweeps.test_driver import plan_of
from tests.test_metrics import BUILT_IN_PAIRS

pytestmark = pytest.mark.long

EXACT = {"dtype": "float64", "engine": "autograd"}
SMALL = {**EXACT, "model": {"hidden_dim": 6, "num_hidden": 2}}
SEEN = {"training": {"batch_size": 5, "lr": 0.01}}


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """The name of a device that is not the cpu; what uses it does so inside `there`."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here: torch.cuda.is_available() is False")
    return second_device.NAME if request.param == "pretended" else "cuda"


@pytest.fixture
def there(device):
    return second_device.SecondDevice() if device == second_device.NAME else nullcontext()


@pytest.fixture
def steps(device):
    """Enough for rounding to grow; where there is none to grow, enough for every kind of step."""
    return 20 if device == second_device.NAME else 500


def both(config, device, there, **options):
    """The same run on the cpu and on the device."""
    config = {**(EXACT if "shared" in config else SMALL), **config}
    cpu = dln.run_experiment(config, **options)
    with there:
        gpu = dln.run_experiment({**config, "device": device}, **options)
    return cpu, gpu


def assert_agree(gpu, cpu, tolerance=1e-10):
    assert gpu.names == cpu.names
    assert gpu.events == cpu.events
    for name in cpu.names:
        size = np.nanmax(np.abs(cpu[name]), initial=1e-300)
        np.testing.assert_allclose(gpu[name], cpu[name], rtol=tolerance, atol=tolerance * size, err_msg=name)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"training": {"batch_size": 7, "lr": 0.01}, "model": {"hidden_dim": 5, "bias": True}},
        {"training": {"batch_size": 7}, "data": {"online": True, "noise_std": 0.1}},
        {"training": {"optimizer": "SGD", "optimizer_params": {"momentum": 0.9, "nesterov": True}}},
        {"training": {"optimizer": "Adam", "lr": 0.01}},
        {"training": {"optimizer": "RMSprop", "criterion": "L1Loss", "batch_size": 20}},
        {"training": {"lr": 10.0}},
    ],
    ids=["full batch", "batches, biases", "online", "Nesterov", "Adam", "RMSprop, L1", "diverges"],
)
def test_training(device, there, steps, change):
    cpu, gpu = both({**change, "max_steps": steps}, device, there)
    assert_agree(gpu, cpu)


def test_callbacks(device, there, steps):
    acts = [
        {"name": "switch_batch_size", "params": {"step": 4, "batch_size": 3}},
        {"name": "weight_noise", "params": {"std": 0.01, "interval": 5}},
        {"name": "kick", "params": {"step": 7, "size": 0.1, "direction": "gradient"}},
        {"name": "lr_decay", "params": {"factor": 0.5, "interval": 5}},
        {"name": "stop_at_loss", "params": {"target": 1e-9, "loss": "test"}},
        {"name": "stop_at_gradient", "params": {"norm": 1e-9}},
    ]
    cpu, gpu = both({"callbacks": acts, "max_steps": steps}, device, there)
    assert_agree(gpu, cpu)


@pytest.mark.sampled
@pytest.mark.parametrize("bias", [False, True])
def test_every_metric(device, there, bias):
    names = [entry.name for entry in MODEL_METRICS if entry.marks.get("cost")]
    config = {**SEEN, "metrics": "heavy", "max_steps": 4, "evaluate_every": 2, "model": {"hidden_dim": 4, "bias": bias}}
    cpu, gpu = both(config, device, there)
    assert len({name.partition(".")[0] for name in cpu.names}) > 0.8 * len(names)
    assert_agree(gpu, cpu, 1e-8)


def test_a_metric_of_ones_own_sees_the_device(device, there):
    @model_metric("test_where_everything_is")
    def where(model, data, end_to_end, teacher):
        places = [model.weights[0], model.weights[0].grad, data.inputs, data.train_inputs]
        assert {p.device.type for p in places} == {device}
        assert {p.device.type for p in (end_to_end, teacher)} == {"cpu"}
        return model.weights[0].square().sum()

    with there:
        config = {**SMALL, **SEEN, "device": device, "max_steps": 2, "metrics": ["test_where_everything_is"]}
        history = dln.run_experiment(config)
    assert np.isfinite(history["test_where_everything_is"]).all()


def test_checkpoints_and_weights_of_a_file(device, there, steps, tmp_path):
    config = {**SEEN, "max_steps": steps, "checkpoint_every": steps // 2}
    dln.run_experiment({**SMALL, **config}, directory=tmp_path / "cpu")
    with there:
        dln.run_experiment({**SMALL, **config, "device": device}, directory=tmp_path / "there")
    for saved in sorted((tmp_path / "cpu" / "checkpoints").iterdir()):
        cpu, gpu = (load_weights(tmp_path / place / "checkpoints" / saved.name)[0] for place in ("cpu", "there"))
        for own, other in zip(cpu, gpu, strict=True):
            np.testing.assert_allclose(other, own, rtol=1e-9, atol=1e-10)
    again = {"model": {**SMALL["model"], "weights": str(saved)}, "max_steps": 3, **SEEN}
    cpu, gpu = both(again, device, there)
    assert_agree(gpu, cpu)


def test_data_of_ones_own(device, there):
    rng = np.random.default_rng(0)
    data = dln.Dataset.from_arrays(rng.standard_normal((20, 3)), rng.standard_normal((20, 2)))
    config = {"max_steps": 5, "model": {"hidden_dim": 4, "init": "aligned"}, "metrics": "cheap"}
    cpu, gpu = both(config, device, there, dataset=data)
    assert_agree(gpu, cpu, 1e-8)


def test_a_comparison(device, there, steps):
    config = {
        "shared": {"model": {"hidden_dim": 5}},
        "training_b": {"lr": 0.01, "batch_size": 4},
        "comparative_metrics": BUILT_IN_PAIRS,
        "model_metrics": ["weight_norm"],
        "max_steps": steps,
        "evaluate_every": steps // 4,
    }
    cpu, gpu = both(config, device, there)
    assert_agree(gpu, cpu, 1e-8)


def test_a_sweep(device, there, tmp_path):
    def swept(name):
        plan = plan_of("training.lr=0.1,0.2", "max_steps=5", "dtype=float64", "engine=autograd", f"device={name}")
        run_sweep(plan, tmp_path / name)
        return load_sweep(tmp_path / name)

    cpu = swept("cpu")
    with there:
        gpu = swept(device)
    assert gpu["training.lr"].to_list() == cpu["training.lr"].to_list()
    for own, other in zip(cpu["train_loss"], gpu["train_loss"], strict=True):
        np.testing.assert_allclose(other, own, rtol=1e-10)


def test_a_device_that_holds_no_numbers_is_refused():
    with pytest.raises(ConfigError, match="device: 'meta' cannot be used here"):
        dln.run_experiment({**SMALL, "device": "meta"})
