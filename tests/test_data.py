"""Datasets, batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dln.base.streams import stream
from dln.batches import OfflineBatches, OnlineBatches, make_batches
from dln.data import Dataset, linear_teacher
from dln.errors import ConfigError
from tests import naive
from tests.ingredients.test_inputs import INPUTS_OF_FOUR


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


def test_a_rotated_teacher_changes_targets_and_nothing_else():
    plain, turned = (dataset(params={"matrix": "diagonal"}, rotate=r, noise_std=0.5) for r in (False, True))
    for name in ("train_inputs", "test_inputs"):
        assert torch.equal(getattr(plain, name), getattr(turned, name)), name
    noise = [d.train_targets - d.train_inputs @ d.teacher.T for d in (plain, turned)]
    torch.testing.assert_close(*noise)
    torch.testing.assert_close(turned.test_targets, turned.test_inputs @ turned.teacher.T)
    assert (turned.teacher - plain.teacher).abs().max() > 0.1


@pytest.mark.parametrize("inputs", INPUTS_OF_FOUR)
@pytest.mark.parametrize("d_active", [None, 2])
@pytest.mark.parametrize("samples", [4, 300])
def test_whitened_training_inputs_have_covariance_exactly_one(inputs, d_active, samples):
    params = dict(INPUTS_OF_FOUR[inputs])
    if inputs == "spectrum" and d_active:
        params["values"] = params["values"][:d_active]
    how = {"inputs": inputs, "inputs_params": params, "d_active": d_active, "train_samples": samples}
    plain, white = (dataset(whiten=w, **how) for w in (False, True))
    x = white.train_inputs.numpy()
    expected = np.diag([1.0] * (d_active or 4) + [0.0] * (4 - (d_active or 4)))
    np.testing.assert_allclose(x.T @ x / samples, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(white.train_targets, white.train_inputs @ white.teacher.T)
    for name in ("test_inputs", "test_targets", "teacher"):
        assert torch.equal(getattr(plain, name), getattr(white, name)), name


@pytest.mark.parametrize("whiten", [False, True])
def test_inputs_along_the_teachers_directions_excite_its_first_modes_alone(whiten):
    """What is drawn is the same, in the basis of the teacher's right singular vectors."""
    how = {"rotate": True, "inputs": "power_law", "whiten": whiten, "d_active": 2, "train_samples": 40}
    plain, along = (dataset(inputs_basis=basis, **how) for basis in ("coordinates", "teacher"))
    right = np.linalg.svd(along.teacher.numpy())[2]
    assert torch.equal(plain.teacher, along.teacher)
    for name in ("train_inputs", "test_inputs"):
        there = getattr(along, name).numpy() @ right.T
        np.testing.assert_allclose(np.abs(there), getattr(plain, name).abs().numpy(), atol=1e-13)
        assert np.abs(there[:, 2:]).max() < 1e-13
    torch.testing.assert_close(along.test_targets, along.test_inputs @ along.teacher.T)
    covariance = right @ along.inputs.covariance @ right.T
    np.testing.assert_allclose(covariance, plain.inputs.covariance, atol=1e-14)
    moments = along.train_inputs.numpy().T @ along.train_inputs.numpy() / 40
    if whiten:
        np.testing.assert_allclose(moments, right[:2].T @ right[:2], atol=1e-13)


def test_whitening_moves_gaussian_inputs_as_little_as_it_must():
    """X is sqrt(N) Q R with R = I + O(sqrt(d / N))."""
    for samples in (1_000, 16_000):
        x, white = (dataset(train_samples=samples, whiten=w).train_inputs for w in (False, True))
        assert (white - x).square().mean().sqrt() < 2 * np.sqrt(4 / samples)


def test_whitening_refuses_inputs_that_do_not_fill_their_space():
    with pytest.raises(ConfigError, match=r"data.whiten.*fewer than 4 dimensions"):
        dataset(whiten=True, inputs="spectrum", inputs_params={"values": [1.0, 0.0, 1.0, 1.0]})


def test_float32_data_are_the_float64_data_rounded():
    double, single = dataset(noise_std=0.5), dataset(noise_std=0.5, dtype=torch.float32)
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        assert torch.equal(getattr(double, name).float(), getattr(single, name))


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ((np.ones((3, 2)), np.ones((4, 1))), "3 train_inputs but 4 train_targets"),
        ((np.ones((3, 1, 1)), np.ones((3, 1))), "train_inputs must be"),
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


@given(n=st.integers(2, 40), data=st.data())
def test_with_replacement_every_sample_is_drawn_from_the_whole_set(n, data):
    """The stream's whole numbers one by one, however many a batch has; the size may change on the way."""
    sizes = data.draw(st.lists(st.integers(1, n), min_size=1, max_size=5))
    x = torch.arange(n, dtype=torch.float64)[:, None]
    batches = OfflineBatches(x, 10 * x, None, batch_seed=3, replacement=True)
    assert batches.draw()[0] is x
    drawn = []
    for size in sizes:
        batches.batch_size = size
        inputs, targets = batches.draw()
        assert torch.equal(targets, 10 * inputs)
        drawn += inputs[:, 0].tolist()
    rng = stream(3, "batch draws")
    assert drawn == [rng.integers(n) for _ in drawn]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_label_noise_is_fresh_at_every_step_and_changes_nothing_else(dtype):
    x = torch.arange(6, dtype=dtype)[:, None]
    bare, noisy = (make_batches(Dataset(x, 10 * x, None, None), 4, 3, x, label_noise=std) for std in (0.0, 0.5))
    rng = stream(3, "label noise")
    for size in (4, 2, 4, 2):
        (inputs, targets), (same, shaken) = bare.draw(), noisy.draw()
        assert torch.equal(inputs, same)
        assert torch.equal(shaken, targets + torch.from_numpy(0.5 * rng.standard_normal((size, 1))).to(dtype))


def test_online_batches_are_fresh_draws_whose_digits_do_not_depend_on_the_batch_size():
    data = dataset(online=True, noise_std=0.5)
    one, many = (OnlineBatches(data, size, batch_seed=1, dtype=torch.float64) for size in (1, 8))
    rows = [one.draw() for _ in range(8)]
    inputs, targets = many.draw()
    assert torch.equal(torch.cat([x for x, _ in rows]), inputs)
    assert torch.equal(torch.cat([y for _, y in rows]), targets)
    assert not torch.isin(many.draw()[0], inputs).any()
    with pytest.raises(ConfigError, match="no full batch"):
        one.batch_size = None
