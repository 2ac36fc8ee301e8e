"""The network: initial weights, own weights, checkpoints."""

import numpy as np
import pytest
import torch

from dln.errors import ConfigError
from dln.model import DeepLinearNetwork, load_weights, product, save_weights
from tests import naive


def arrays(model):
    return [w.detach().numpy() for w in model.weights]


def test_initial_weights_are_the_streams_draws():
    model = DeepLinearNetwork(3, 8, 2, 4, gamma=1.5, model_seed=5, dtype=torch.float64)
    for w, expected in zip(arrays(model), naive.initial_weights([3, 8, 8, 4], 1.5, 5), strict=True):
        np.testing.assert_array_equal(w, expected)


def test_gamma_only_rescales_the_same_draws():
    small, large = (DeepLinearNetwork(hidden_dim=16, gamma=g, dtype=torch.float64) for g in (2.0, 0.5))
    for a, b in zip(arrays(small), arrays(large), strict=True):
        np.testing.assert_allclose(b / a, 16 ** (0.75), rtol=1e-13)


def test_the_end_to_end_scale_is_that_of_theory():
    """E||W||_F^2 = d_in d_out h^(L - 1 - gamma L) (theory.md item 11), averaged over 400 seeds."""
    h, layers, gamma = 20, 3, 1.2
    squares = [
        torch.linalg.norm(DeepLinearNetwork(3, h, layers - 1, 4, gamma=gamma, model_seed=s).end_to_end()).item() ** 2
        for s in range(400)
    ]
    expected = 3 * 4 * h ** (layers - 1 - gamma * layers)
    assert abs(np.mean(squares) / expected - 1) < 5 * np.std(squares) / expected / np.sqrt(len(squares))


def test_layers_of_different_width_keep_the_variance_of_what_passes_through():
    """With gamma = 1 every layer after the first has variance 1 / (width it reads), whatever the widths."""
    w = arrays(DeepLinearNetwork(5, [400, 50], 2, 300, gamma=1.0))
    for weight, width in zip(w, (400, 400, 50), strict=True):
        assert abs(weight.std() * width**0.5 - 1) < 0.1


def test_float32_sees_the_float64_draws_rounded():
    double, single = (DeepLinearNetwork(dtype=t) for t in (torch.float64, torch.float32))
    for a, b in zip(arrays(double), arrays(single), strict=True):
        np.testing.assert_array_equal(a.astype(np.float32), b)


def test_making_a_model_leaves_torchs_global_generator_alone():
    before = torch.get_rng_state()
    DeepLinearNetwork(bias=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_biases_start_at_zero_and_do_not_change_the_weights():
    with_bias, without = DeepLinearNetwork(bias=True), DeepLinearNetwork()
    assert [b.abs().sum().item() for b in with_bias.biases] == [0.0] * 4
    assert without.biases == []
    assert all(np.array_equal(a, b) for a, b in zip(arrays(with_bias), arrays(without), strict=True))


def test_a_linear_map_without_hidden_layers():
    model = DeepLinearNetwork(3, 10, 0, 2, gamma=1.0)
    assert [tuple(w.shape) for w in model.weights] == [(2, 3)]


def test_from_weights_copies_and_multiplies_in_order():
    w1, w2 = np.arange(6.0).reshape(3, 2), np.arange(12.0).reshape(4, 3)
    model = DeepLinearNetwork.from_weights([w1, w2], [np.ones(3), np.zeros(4)])
    np.testing.assert_array_equal(model.end_to_end().detach(), w2 @ w1)
    x = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(model(torch.from_numpy(x)).detach(), (x @ w1.T + 1) @ w2.T)
    w1[:] = 0
    assert model.weights[0].abs().sum() > 0


def test_product_of_an_ensemble_is_that_of_its_members():
    rng = np.random.default_rng(0)
    weights = [torch.from_numpy(rng.standard_normal(s)) for s in ((7, 4, 3), (7, 2, 4))]
    for r in range(7):
        torch.testing.assert_close(product(weights)[r], product([w[r] for w in weights]))


@pytest.mark.parametrize(
    ("weights", "biases", "named"),
    [
        ([], None, "do not make a network"),
        ([np.ones((2, 3)), np.ones((2, 3))], None, r"W2 \[2, 3\] cannot follow W1 \[2, 3\]"),
        ([np.ones(3)], None, "W1 has shape"),
        ([np.ones((2, 3))], [np.ones(3)], "b1 has shape"),
        ([np.full((2, 3), np.nan)], None, "NaN"),
    ],
)
def test_weights_that_make_no_network_are_refused(weights, biases, named):
    with pytest.raises(ConfigError, match=named):
        DeepLinearNetwork.from_weights(weights, biases)


@pytest.mark.parametrize("bias", [False, True])
def test_a_checkpoint_holds_the_weights_bit_for_bit(tmp_path, bias):
    model = DeepLinearNetwork(bias=bias)
    save_weights(model, tmp_path / "a" / "w.npz")
    weights, biases = load_weights(tmp_path / "a" / "w.npz")
    again = DeepLinearNetwork.from_weights(weights, biases)
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["w.npz"]


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", X=np.ones(2))
    np.savez(tmp_path / "gap.npz", W1=np.ones((1, 1)), W3=np.ones((1, 1)))
    for name, reason in {"none": "no file", "text": "not an", "other": "no arrays", "gap": "'W2'"}.items():
        with pytest.raises(ConfigError, match=reason):
            load_weights(tmp_path / f"{name}.npz")
