"""Teachers, datasets, batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dln.data import MATRICES, Dataset, OfflineBatches, OnlineBatches, linear_teacher, make_teacher, register_matrix
from dln.errors import ConfigError, ExtensionError
from tests import naive


def teacher(matrix, in_dim=5, out_dim=5, seed=0, **params):
    return make_teacher(in_dim, out_dim, {"matrix": matrix, **params}, seed).numpy()


def singular_values(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


# --- teachers


@pytest.mark.parametrize("name", MATRICES.names())
@pytest.mark.parametrize("dims", [(5, 5), (3, 4), (6, 2), (1, 1)])
def test_every_teacher_is_a_finite_matrix_that_reproduces_and_scales(name, dims):
    in_dim, out_dim = dims
    if name == "identity" and in_dim != out_dim:
        with pytest.raises(ConfigError, match=r"in_dim.*'diagonal' may be"):
            teacher(name, in_dim, out_dim)
        return
    params = {"rank": 1} if name == "low_rank" else {}
    one = teacher(name, in_dim, out_dim, scale=1.0, **params)
    assert one.shape == (out_dim, in_dim)
    assert np.isfinite(one).all()
    assert np.abs(one).max() > 0
    np.testing.assert_array_equal(one, teacher(name, in_dim, out_dim, scale=1.0, **params))
    np.testing.assert_allclose(teacher(name, in_dim, out_dim, scale=3.0, **params), 3 * one, rtol=1e-12)


def test_diagonal_spectra():
    np.testing.assert_allclose(teacher("diagonal", scale=10.0), np.diag([10.0, 8, 6, 4, 2]))
    rectangular = teacher("diagonal", 2, 3, scale=2.0, spectrum=[1, 0.5])
    np.testing.assert_allclose(rectangular, [[2, 0], [0, 1], [0, 0]])
    assert singular_values(teacher("diagonal", scale=1.0, spectrum=[3.0])).tolist() == [3, 0, 0, 0, 0]


def test_power_law_spectrum():
    np.testing.assert_allclose(np.diag(teacher("power_law", scale=50.0, alpha=2.0)), 50 / np.arange(1, 6) ** 2)


def test_low_rank_has_the_spectrum_it_says_in_random_directions():
    one, other = (teacher("low_rank", 6, 4, seed=s, rank=3, scale=9.0) for s in (0, 1))
    np.testing.assert_allclose(singular_values(one), [9, 6, 3, 0], atol=1e-12)
    assert np.abs(one - other).max() > 0.1


def test_random_normal_outputs_have_standard_deviation_scale():
    entries = np.concatenate([teacher("random_normal", 50, 40, seed=s, scale=7.0).ravel() for s in range(5)])
    assert abs(entries.std() * np.sqrt(50) / 7 - 1) < 0.03


def test_a_teacher_that_draws_from_torchs_generator_reproduces():
    """The seed's contract: f(in_dim, out_dim, params), free to call torch.randn."""

    @register_matrix("test_torch_randn")
    def create(in_dim: int, out_dim: int, params: dict) -> torch.Tensor:
        return params["size"] * torch.randn(out_dim, in_dim)

    torch.manual_seed(0)
    first = teacher("test_torch_randn", seed=3, size=2.0)
    torch.manual_seed(1)
    np.testing.assert_array_equal(first, teacher("test_torch_randn", seed=3, size=2.0))
    assert np.abs(first - teacher("test_torch_randn", seed=4, size=2.0)).max() > 0
    assert not np.array_equal(first, first.astype(np.float32)), "drawn in float64"


def test_a_teacher_of_the_wrong_shape_or_that_raises_is_named():
    @register_matrix("test_transposed")
    def transposed(in_dim: int, out_dim: int, params: dict) -> torch.Tensor:
        return torch.ones(in_dim, out_dim)

    @register_matrix("test_raises")
    def raises(in_dim: int, out_dim: int, params: dict) -> torch.Tensor:
        raise ZeroDivisionError

    with pytest.raises(ExtensionError, match=r"'test_transposed'.*\[3, 2\].*not one of shape \[2, 3\]"):
        teacher("test_transposed", 2, 3)
    with pytest.raises(ExtensionError, match="'test_raises' failed"):
        teacher("test_raises")


# --- datasets


def dataset(**kwargs):
    return linear_teacher(
        4, 3, kwargs.pop("params", {"matrix": "random_normal"}), **{"dtype": torch.float64, "data_seed": 2, **kwargs}
    )


def test_training_data_are_the_streams_draws_through_the_teacher():
    data = dataset(train_samples=30, noise_std=0.3)
    x, y = naive.teacher_data(data.teacher.numpy(), 30, 0.3, 2)
    np.testing.assert_array_equal(data.train_inputs, x)
    np.testing.assert_allclose(data.train_targets, y, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(data.test_targets, data.test_inputs @ data.teacher.T, rtol=1e-13, atol=1e-13)


def test_noise_changes_training_targets_and_nothing_else():
    clean, noisy, noisier = (dataset(noise_std=s) for s in (0.0, 1.0, 2.0))
    for name in ("train_inputs", "test_inputs", "test_targets", "teacher"):
        assert torch.equal(getattr(clean, name), getattr(noisy, name)), name
    noise = noisy.train_targets - clean.train_targets
    torch.testing.assert_close(noisier.train_targets - clean.train_targets, 2 * noise)
    assert abs(noise.std().item() - 1) < 0.15


def test_the_test_set_does_not_depend_on_the_number_of_training_samples():
    few, many = dataset(train_samples=5), dataset(train_samples=50)
    assert torch.equal(few.test_inputs, many.test_inputs)
    assert torch.equal(few.train_inputs, many.train_inputs[:5])


def test_training_inputs_of_a_seed_are_not_the_next_seeds_test_inputs():
    for offset in (-1, 0, 1):
        train = dataset(data_seed=5).train_inputs.numpy()
        assert not np.isin(train, dataset(data_seed=5 + offset).test_inputs.numpy()).any()


def test_float32_data_are_the_float64_data_rounded():
    double, single = dataset(noise_std=0.5), dataset(noise_std=0.5, dtype=torch.float32)
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        assert torch.equal(getattr(double, name).float(), getattr(single, name))


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ((np.ones((3, 2)), np.ones((4, 1))), "3 train_inputs but 4 train_targets"),
        ((np.ones(3), np.ones((3, 1))), "train_inputs must be"),
        ((np.full((3, 2), np.inf), np.ones((3, 1))), "train_inputs contains NaN"),
        ((np.ones((3, 2)), None), "train_targets is missing"),
        ((np.ones((3, 2)), np.ones((3, 1)), np.ones((2, 2))), "test_targets is missing"),
        ((np.ones((3, 2)), np.ones((3, 1)), np.ones((2, 4)), np.ones((2, 1))), "train_inputs have 2 .* test_inputs 4"),
    ],
)
def test_arrays_that_make_no_dataset_are_refused(arrays, named):
    with pytest.raises(ConfigError, match=named):
        Dataset.from_arrays(*arrays)


# --- batches


@given(n=st.integers(2, 40), data=st.data())
def test_batches_of_an_epoch_are_a_permutation_cut_into_pieces(n, data):
    size = data.draw(st.integers(1, n - 1))
    x = torch.arange(n, dtype=torch.float64)[:, None]
    batches = OfflineBatches(x, 10 * x, size, batch_seed=3)
    per_epoch = -(-n // size)
    for expected in naive.batch_indices(n, size, 3, 3 * per_epoch):
        inputs, targets = batches.draw()
        assert inputs[:, 0].tolist() == expected.tolist()
        assert torch.equal(targets, 10 * inputs)


def test_the_full_batch_is_the_training_set_in_order_and_draws_nothing():
    x = torch.arange(6.0)[:, None]
    for size in (None, 6):
        batches = OfflineBatches(x, x, size, batch_seed=3)
        for _ in range(3):
            assert batches.draw()[0] is x
        batches.batch_size = 2
        assert batches.draw()[0][:, 0].tolist() == naive.batch_indices(6, 2, 3, 1)[0].tolist()


def test_switching_starts_a_new_epoch_from_the_same_stream():
    x = torch.arange(6.0)[:, None]
    batches = OfflineBatches(x, x, 2, batch_seed=0)
    batches.draw()
    batches.batch_size = 3
    both = [sorted(torch.cat([batches.draw()[0] for _ in range(2)])[:, 0].tolist()) for _ in range(2)]
    assert both == [[0, 1, 2, 3, 4, 5]] * 2
    with pytest.raises(ConfigError, match="only 6 training samples"):
        batches.batch_size = 7


def test_online_batches_are_fresh_draws_whose_digits_do_not_depend_on_the_batch_size():
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 5)))
    one, many = (OnlineBatches(matrix, 0.5, size, batch_seed=1, dtype=torch.float64) for size in (1, 8))
    rows = [one.draw() for _ in range(8)]
    inputs, targets = many.draw()
    assert torch.equal(torch.cat([x for x, _ in rows]), inputs)
    assert torch.equal(torch.cat([y for _, y in rows]), targets)
    assert not torch.isin(many.draw()[0], inputs).any()
    with pytest.raises(ConfigError, match="no full batch"):
        one.batch_size = None
