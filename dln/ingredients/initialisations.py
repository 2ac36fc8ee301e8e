"""Initial weights: what a network starts from, by name.

In all formulas W_l is [out, in] of layer l = 1, ..., L, W = W_L ... W_1 the end-to-end map, and
D_l = W_{l+1}' W_{l+1} - W_l W_l', which gradient flow conserves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dln.base.arithmetic import uniform
from dln.base.registry import Registry
from dln.base.streams import seeded_torch, stream
from dln.base.values import hidden_widths
from dln.errors import ConfigError, ExtensionError
from dln.ingredients.random_matrices import haar

if TYPE_CHECKING:
    from jaxtyping import Float64

    Shapes = Sequence[tuple[int, int]]
    Rngs = Sequence[np.random.Generator]
    Weights = list[Float64[np.ndarray, "out in"]]

INITS = Registry("initialisation", supplied=("shapes", "rngs", "stds", "teacher"))


def register_init(name: str, **marks: Any):
    """Register `f(shapes, rngs) -> [W_1, ..., W_L]` as an initialisation: `model.init=name`.

    The function receives what its arguments name: `shapes`, the (out, in) of every layer; `rngs`, one numpy Generator a
    layer, whose draws do not depend on what other layers draw; `stds`, the standard deviation of each layer that
    `model.gamma` stands for; `teacher`, the map to be learned, [out, in], as a float64 array. Further arguments are
    parameters that a config can set under `model.init_params`. One that does not ask for `rngs` may draw from torch's
    global generator instead, and reproduces too. `model.alpha` multiplies what it returns. The mark `source` says where
    it is from.
    """
    return INITS.register(name, **marks)


@register_init("gamma", source="arXiv 2106.15933")
def gamma(shapes: Shapes, rngs: Rngs, stds: Sequence[float]) -> Weights:
    """Independent N(0, width**-gamma) entries; width of the hidden layer that is read (by the first: written to)."""
    return [rng.standard_normal(shape) * std for shape, rng, std in zip(shapes, rngs, stds, strict=True)]


@register_init("fan_in", source="LeCun et al. 1998")
def fan_in(shapes: Shapes, rngs: Rngs) -> Weights:
    """Independent N(0, 1 / n_in) entries, n_in the inputs of the layer: the standard parametrisation.

    >>> weights = fan_in([(500, 4), (2, 500)], [np.random.default_rng(seed) for seed in (0, 1)])
    >>> [round(float(w.std()), 2) for w in weights]
    [0.5, 0.04]
    """
    return gamma(shapes, rngs, [n_in**-0.5 for _, n_in in shapes])


@register_init("mup", source="arXiv 2310.17813")
def mup(shapes: Shapes, rngs: Rngs) -> Weights:
    """The draws of `fan_in` times min(1, sqrt(n_out / n_in)); with `lr_factors: mup` one rate fits all widths.

    >>> weights = mup([(500, 4), (2, 500)], [np.random.default_rng(seed) for seed in (0, 1)])
    >>> [round(float(w.std()), 3) for w in weights]
    [0.5, 0.003]
    """
    return gamma(shapes, rngs, [min(1, n_out / n_in) ** 0.5 * n_in**-0.5 for n_out, n_in in shapes])


@register_init("target_norm")
def target_norm(shapes: Shapes, rngs: Rngs, stds: Sequence[float], norm: float) -> Weights:
    """The draws of `gamma`, all layers times the one factor that makes ||W||_F = `norm`.

    >>> rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    >>> w1, w2 = target_norm([(3, 2), (2, 3)], rngs, [1.0, 1.0], norm=0.5)
    >>> np.allclose(np.linalg.norm(w2 @ w1), 0.5)
    True
    """
    weights = gamma(shapes, rngs, stds)
    factor = _factor(norm, _product(weights)) ** (1 / len(weights))
    return [w * factor for w in weights]


@register_init("orthogonal", source="arXiv 1312.6120")
def orthogonal(shapes: Shapes, rngs: Rngs, scale: float = 1.0) -> Weights:
    """Every layer `scale` times a random (Haar) matrix with orthonormal columns, or rows where those are fewer.

    >>> (w,) = orthogonal([(3, 2)], [np.random.default_rng(0)], scale=2.0)
    >>> np.allclose(w.T @ w, 4 * np.eye(2))
    True
    """
    _positive("scale", scale)
    return [scale * haar(*shape, rng) for shape, rng in zip(shapes, rngs, strict=True)]


@register_init("balanced", source="arXiv 1802.06509")
def balanced(shapes: Shapes, rngs: Rngs, stds: Sequence[float], norm: float | None = None) -> Weights:
    """The W of `gamma`, scaled to ||W||_F = `norm` if that is given, in layers with D_l = 0.

    >>> rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    >>> w1, w2 = balanced([(3, 2), (2, 3)], rngs, [1.0, 1.0])
    >>> np.allclose(w2.T @ w2, w1 @ w1.T)
    True
    """
    left, values, right = _gaussian_modes(shapes, rngs, stds, norm)
    return _balanced(shapes, rngs, left, values, right)


@register_init("lambda_balanced", source="arXiv 2409.14623")
def lambda_balanced(
    shapes: Shapes, rngs: Rngs, stds: Sequence[float], lam: float, norm: float | None = None
) -> Weights:
    """Two layers with W_2'W_2 - W_1W_1' = `lam` I and the W of `balanced`.

    Raises:
        ConfigError: There are not two layers, or `hidden_dim` is larger than `lam` allows.

    >>> rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    >>> w1, w2 = lambda_balanced([(2, 3), (3, 2)], rngs, [1.0, 1.0], lam=0.7)
    >>> np.allclose(w2.T @ w2 - w1 @ w1.T, 0.7 * np.eye(2))
    True
    """
    if len(shapes) != 2:
        raise ConfigError(f"it has two layers: set num_hidden=1 instead of {len(shapes) - 1}")
    (width, n_in), (n_out, _) = shapes
    for sign, dim, name in ((1, n_out, "out_dim"), (-1, n_in, "in_dim")):
        if lam * sign > 0 and width > dim:
            raise ConfigError(
                f"lam={lam} needs hidden_dim <= {name}, {width} is more than {dim}: lam I has rank hidden_dim"
            )
    left, values, right = _gaussian_modes(shapes, rngs, stds, norm)
    s = np.zeros(width)
    s[: len(values)] = values
    # Per mode a^2 - b^2 = lam and a b = s; the smaller of a, b from the larger, without cancellation.
    larger = np.sqrt((abs(lam) + np.hypot(lam, 2 * s)) / 2)
    smaller = np.divide(s, larger, out=np.zeros(width), where=larger > 0)
    b, a = (smaller, larger) if lam > 0 else (larger, smaller)
    reads, writes = min(width, n_in), min(width, n_out)
    hidden = haar(width, max(reads, writes), rngs[0])
    w1 = hidden[:, :reads] * b[:reads] @ _completed(right.T, reads, rngs[0]).T
    w2 = _completed(left, writes, rngs[1]) * a[:writes] @ hidden[:, :writes].T
    return [w1, w2]


@register_init("aligned", source="arXiv 1312.6120")
def aligned(
    shapes: Shapes, rngs: Rngs, teacher: Float64[np.ndarray, "out in"], strength: float | list[float] = 1e-3
) -> Weights:
    """W = U diag(`strength`) V' with the teacher's singular vectors, D_l = 0; a list: one a mode, largest first.

    Raises:
        ConfigError: The strengths are negative, too many, or more than fit through the narrowest layer.

    >>> rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    >>> w1, w2 = aligned([(4, 2), (2, 4)], rngs, np.diag([3.0, 2.0]), strength=[0.5, 0.1])
    >>> np.allclose(w2 @ w1, np.diag([0.5, 0.1]))
    True
    """
    left, _, right = np.linalg.svd(teacher, full_matrices=False)
    modes = len(right)
    strengths = np.full(modes, strength, float) if isinstance(strength, int | float) else np.array(strength, float)
    if len(strengths) > modes or not (np.isfinite(strengths) & (strengths >= 0)).all():
        raise ConfigError(f"strength must be at most {modes} numbers of at least 0, one a mode, not {strength!r}")
    present = np.flatnonzero(strengths)
    narrowest = min(min(shape) for shape in shapes)
    if len(present) > narrowest:
        raise ConfigError(
            f"{len(present)} modes do not pass through a layer of width {narrowest}: "
            f"widen hidden_dim, or list {narrowest} strengths"
        )
    left, right = left[:, present], right[present]
    # A mode is u v' = (-u)(-v)': let v's largest entry be positive, whatever LAPACK chose.
    signs = np.sign(right[np.arange(len(present)), np.abs(right).argmax(1)])
    return _balanced(shapes, rngs, left * signs, strengths[present], right * signs[:, None])


@register_init("identity", source="arXiv 1802.06093")
def identity(shapes: Shapes, scale: float = 1.0) -> Weights:
    """Every layer `scale` times the identity; where it is not square, padded with zeros.

    >>> identity([(2, 3)], scale=2.0)[0].tolist()
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    """
    _positive("scale", scale)
    return [scale * np.eye(*shape) for shape in shapes]


# --- parts they are made of -------------------------------------------------------------------------------------------


def _completed(basis: Float64[np.ndarray, "n k"], columns: int, rng: np.random.Generator) -> np.ndarray:
    """Return that many orthonormal columns: those of `basis`, and then random ones."""
    rows, given = basis.shape
    q, r = np.linalg.qr(np.hstack([basis[:, :columns], rng.standard_normal((rows, max(columns - given, 0)))]))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def _gaussian_modes(
    shapes: Shapes, rngs: Rngs, stds: Sequence[float], norm: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the singular modes [out, k], [k], [k, in] of the W of `gamma`, k being the smallest width."""
    product = _product(gamma(shapes, rngs, stds))
    rank = min(min(shape) for shape in shapes)
    left, values, right = np.linalg.svd(product, full_matrices=False)
    factor = 1.0 if norm is None else _factor(norm, product)
    return left[:, :rank], values[:rank] * factor, right[:rank]


def _balanced(shapes: Shapes, rngs: Rngs, left: np.ndarray, values: np.ndarray, right: np.ndarray) -> Weights:
    """Return W_l = U_l S^(1/L) U_{l-1}', whose product is U_L S U_0', with random U_1, ..., U_{L-1}."""
    roots = values ** (1 / len(shapes))
    hidden = [haar(width, len(values), rng) for (width, _), rng in zip(shapes[:-1], rngs, strict=False)]
    return [after * roots @ before.T for before, after in pairwise([right.T, *hidden, left])]


def _product(weights: Weights) -> Float64[np.ndarray, "out in"]:
    product = reduce(lambda below, w: w @ below, weights)
    if not np.isfinite(product).all():
        raise ConfigError("the product of the draws is too large for any precision; raise gamma")
    return product


def _factor(norm: float, matrix: np.ndarray) -> float:
    """Return what makes a matrix one of Frobenius norm `norm`."""
    _positive("norm", norm)
    size = float(np.linalg.norm(matrix))
    if size == 0:
        raise ConfigError("the product of the draws is too small to be rescaled; lower gamma")
    return norm / size


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} must be greater than 0, not {value}")


# --- from a config to weights -----------------------------------------------------------------------------------------


def asks_for_teacher(init: str, key: str) -> bool:
    """Whether an initialisation depends on the teacher; `key` is the config section to name in an error."""
    return "teacher" in INITS.get(init, f"{key}.init").asks_for


@uniform()
def draw_initial(
    in_dim: int,
    hidden_dim: int | Sequence[int],
    num_hidden: int,
    out_dim: int,
    *,
    gamma: float = 1.0,
    init: str = "gamma",
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    teacher: Float64[np.ndarray, "out in"] | None = None,
    key: str = "model",
) -> Weights:
    """Draw initial weights in float64, one stream a layer.

    Args:
        in_dim: Input dimension.
        hidden_dim: Width of all hidden layers, or a list; without hidden layers, the number that sets the scale.
        num_hidden: Number of hidden layers.
        out_dim: Output dimension.
        gamma: Exponent of the scale, for initialisations that have one.
        init: Registered name.
        params: Its parameters.
        seed: `model_seed`.
        teacher: The map to be learned, for initialisations that ask for it.
        key: The config section to name in an error.

    Raises:
        ConfigError: The name, its parameters or the widths do not fit.
        ExtensionError: A user's function raised, or returned something else than finite matrices of the right shapes.

    >>> wide, narrow = (draw_initial(2, 4, 1, 2, gamma=gamma) for gamma in (0, 2))  # std 1 and 4**-1
    >>> np.allclose(wide[0], 4 * narrow[0])
    True
    """
    hidden = hidden_widths(hidden_dim, num_hidden, f"{key}.")
    shapes = [(n_out, n_in) for n_in, n_out in pairwise([in_dim, *hidden, out_dim])]
    entry = INITS.get(init, f"{key}.init")
    entry.check(params or {}, f"{key}.init_params")
    if teacher is not None and teacher.shape != (out_dim, in_dim):
        raise ConfigError(f"{key} maps {in_dim} to {out_dim} but the data map {teacher.shape[1]} to {teacher.shape[0]}")
    given = {
        "shapes": shapes,
        "rngs": [stream(seed, "weights", layer) for layer in range(1, len(shapes) + 1)],
        "stds": _stds([hidden[0], *hidden] if hidden else [hidden_dim], gamma, key),
        "teacher": None if teacher is None else teacher.copy(),
    }
    asked = entry.asks_for
    if "teacher" in asked and teacher is None:
        raise ConfigError(f"{key}.init={init} needs a teacher")
    named = {**{name: given[name] for name in asked}, **(params or {})}
    # Seeding torch takes longer than drawing from numpy, so only those pay for it that may need it.
    with contextlib.nullcontext() if "rngs" in asked else seeded_torch(stream(seed, "weights")):
        what, where = f"{key}.init: initialisation {init!r}", f"{key}.init={init}"
        weights = entry.call(what, named=named, read=_as_arrays, where=where)
    found = [w.shape for w in weights]
    if found != shapes or not all(np.isfinite(w).all() for w in weights):
        fault = f"not {_spell(found)}" if found != shapes else "but some numbers are not"
        raise ExtensionError(
            f"{key}.init: initialisation {init!r} must return finite matrices of shapes {_spell(shapes)}, {fault}"
        )
    return weights


def _as_arrays(drawn: Any) -> list[np.ndarray]:
    """Return matrices of whatever kind as arrays of numpy, in float64."""
    return [np.asarray(w.detach().cpu() if isinstance(w, torch.Tensor) else w, dtype=float) for w in drawn]


def _spell(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes) or "none"


def _stds(widths: Sequence[Any], gamma: float, key: str) -> list[float]:
    """Return each layer's standard deviation width**(-gamma / 2)."""
    try:
        return [width ** (-gamma / 2) for width in widths]
    except OverflowError:
        raise ConfigError(f"{key}.gamma={gamma} makes weights too large for any precision; raise it") from None
