"""Teachers: their spectra, their randomness, their files."""

import numpy as np
import pytest
import torch

from dln.errors import ConfigError, ExtensionError
from dln.ingredients.teachers import MATRICES, input_directions, make_teacher, register_matrix


def teacher(matrix, in_dim=5, out_dim=5, seed=0, rotate=False, **params):
    return make_teacher(in_dim, out_dim, {"matrix": matrix, **params}, seed, rotate).numpy()


def singular_values(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


EXAMPLES = {
    "diagonal": {},
    "file": {},
    "identity": {},
    "low_rank": {"rank": 1},
    "power_law": {},
    "power_law_topk": {"k": 1},
    "random_normal": {},
    "random_orthogonal": {},
    "singular_values": {"values": [2.0]},
}
"""Every teacher with parameters that fit any dimensions; `file` needs a file as well."""


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("dims", [(5, 5), (3, 4), (6, 2), (1, 1)])
def test_every_teacher_is_a_finite_matrix_that_reproduces_scales_and_rotates(name, dims, tmp_path):
    in_dim, out_dim = dims
    if name == "identity" and in_dim != out_dim:
        with pytest.raises(ConfigError, match=r"in_dim.*'diagonal' may be"):
            teacher(name, in_dim, out_dim)
        return
    params = dict(EXAMPLES[name])
    if name == "file":
        np.save(tmp_path / "own.npy", np.random.default_rng(0).standard_normal((out_dim, in_dim)))
        params["path"] = str(tmp_path / "own.npy")
    one = teacher(name, in_dim, out_dim, scale=1.0, **params)
    assert one.shape == (out_dim, in_dim)
    assert np.isfinite(one).all()
    assert np.abs(one).max() > 0
    np.testing.assert_array_equal(one, teacher(name, in_dim, out_dim, scale=1.0, **params))
    np.testing.assert_allclose(teacher(name, in_dim, out_dim, scale=3.0, **params), 3 * one, rtol=1e-12)
    rotated = [teacher(name, in_dim, out_dim, rotate=True, seed=s, scale=1.0, **params) for s in (0, 0, 1)]
    np.testing.assert_allclose(singular_values(rotated[0]), singular_values(one), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(rotated[0], rotated[1])
    if dims != (1, 1):
        assert np.abs(rotated[0] - one).max() > 1e-3
        assert np.abs(rotated[0] - rotated[2]).max() > 1e-3


def test_every_registered_teacher_is_among_the_examples():
    assert {e.name for e in MATRICES if e.function.__module__.startswith("dln.")} == set(EXAMPLES)


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


def test_rotation_is_one_change_of_basis_on_either_side_for_all_teachers_of_a_seed():
    """Of the unit matrix it leaves U V'; U T V' is found again for another T from the images of its entries."""
    u_v = teacher("identity", 3, 3, scale=1.0, rotate=True)
    np.testing.assert_allclose(u_v @ u_v.T, np.eye(3), atol=1e-12)
    modes = [
        teacher("diagonal", 3, 3, scale=1.0, spectrum=[float(i == k) for i in range(3)], rotate=True) for k in range(3)
    ]
    np.testing.assert_allclose(sum(modes), u_v, atol=1e-12)
    together = teacher("diagonal", 3, 3, scale=1.0, spectrum=[3.0, 2.0, 1.0], rotate=True)
    np.testing.assert_allclose(3 * modes[0] + 2 * modes[1] + modes[2], together, atol=1e-12)


def test_a_conjugated_teacher_keeps_its_eigenvalues_and_its_symmetry():
    """Traces of powers are symmetric functions of the eigenvalues, and determine them."""
    for name in ("random_normal", "low_rank", "diagonal"):
        plain, turned, other = (
            make_teacher(5, 5, {"matrix": name, "scale": 1.0}, seed, conjugate=c).numpy()
            for seed, c in ((0, False), (0, True), (1, True))
        )
        for power in range(1, 6):
            traces = [np.trace(np.linalg.matrix_power(each, power)) for each in (plain, turned)]
            np.testing.assert_allclose(*traces, rtol=1e-12, atol=1e-13)
        for one, two in ((plain, turned), (turned, other)):
            assert np.abs(one - two).max() > 1e-2
    np.testing.assert_allclose(turned, turned.T, atol=1e-15)
    assert np.abs(turned - teacher("diagonal", scale=1.0, rotate=True)).max() > 1e-2


@pytest.mark.parametrize("dims", [(5, 5), (6, 2), (3, 4)])
def test_input_directions_are_where_the_teacher_acts_by_falling_strength(dims):
    one = make_teacher(*dims, {"matrix": "random_normal"}, 0, rotate=True)
    directions = input_directions(one)
    np.testing.assert_allclose(directions.T @ directions, np.eye(dims[0]), atol=1e-14)
    images = one.numpy() @ directions
    values = np.pad(singular_values(one), (0, dims[0] - min(dims)))
    np.testing.assert_allclose(images.T @ images, np.diag(values**2), atol=1e-12 * values[0] ** 2)
    np.testing.assert_array_equal(input_directions(make_teacher(*dims, {"matrix": "diagonal"}, 0)), np.eye(dims[0]))


def test_power_law_topk_is_the_best_approximation_of_rank_k():
    full, top = teacher("power_law", 6, 4, alpha=1.5), teacher("power_law_topk", 6, 4, alpha=1.5, k=3)
    assert np.linalg.matrix_rank(top) == 3
    left, values, right = np.linalg.svd(full, full_matrices=False)
    np.testing.assert_allclose(left[:, :3] * values[:3] @ right[:3], top, atol=1e-14)
    np.testing.assert_array_equal(teacher("power_law_topk", 6, 4, alpha=1.5, k=4), full)


@pytest.mark.parametrize("dims", [(5, 5), (7, 3), (3, 7)])
def test_random_orthogonal_has_orthonormal_rows_or_columns(dims):
    q = teacher("random_orthogonal", *dims, scale=2.0) / 2
    gram = q @ q.T if len(q) <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, np.eye(min(dims)), rtol=0, atol=1e-12)


def test_random_orthogonal_is_uniform():
    """Under the Haar measure of O(4) the trace has moments 0, 1, 0, 3 (Diaconis and Shahshahani 1994)."""
    draw, rng = MATRICES.get("random_orthogonal").function, np.random.default_rng(0)
    traces = np.array([np.trace(draw(4, 4, {"scale": 1.0}, rng).numpy()) for _ in range(2000)])
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        samples = traces**power
        assert abs(samples.mean() - moment) < 4 * samples.std() / np.sqrt(len(samples))


@pytest.mark.parametrize("dims", [(6, 4), (4, 6)])
def test_singular_values_are_those_that_are_given(dims):
    one, other = (teacher("singular_values", *dims, seed=s, scale=2.0, values=[3, 0.5, 0.25]) for s in (0, 1))
    np.testing.assert_allclose(singular_values(one), [6, 1, 0.5, 0], rtol=0, atol=1e-12)
    assert np.abs(one - other).max() > 0.1


def test_teachers_from_files(tmp_path):
    matrix = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "one.npy", matrix.astype(np.float32))
    np.savez(tmp_path / "one.npz", anything=matrix)
    np.savez(tmp_path / "two.npz", a=matrix, b=matrix.T)
    for name, key in (("one.npy", {}), ("one.npz", {}), ("one.npz", {"key": "anything"}), ("two.npz", {"key": "a"})):
        np.testing.assert_array_equal(teacher("file", 3, 2, path=str(tmp_path / name), scale=2.0, **key), 2 * matrix)


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("none.npy", {}, r"data.params.path: no file .*none.npy"),
        ("text.npy", {}, r"data.params.path: .*text.npy' is not an .npy or .npz file"),
        ("words.npy", {}, r"data.params.path: .*words.npy'.* not of real numbers"),
        ("nan.npy", {}, r"data.params.path: .*NaN"),
        ("two.npz", {}, r"data.params.key: .*two.npz' has 2 arrays; known: a, b"),
        ("two.npz", {"key": "aa"}, r"data.params.key: .*no array 'aa'; did you mean 'a'"),
        ("two.npz", {"key": "b"}, r"data.params.path: .*\[2, 3\] is needed, but .*\[3, 2\]"),
    ],
)
def test_files_that_hold_no_teacher(name, params, named, tmp_path):
    (tmp_path / "text.npy").write_text("0 1 2", encoding="utf-8")
    np.save(tmp_path / "words.npy", np.array([["a", "b", "c"]] * 2))
    np.save(tmp_path / "nan.npy", np.full((2, 3), np.nan))
    np.savez(tmp_path / "two.npz", a=np.ones((2, 3)), b=np.ones((3, 2)))
    with pytest.raises(ConfigError, match=named):
        teacher("file", 3, 2, path=str(tmp_path / name), **params)


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
