"""Values that a user gives, in a config or from Python: checked, and converted to what they stand for."""

from __future__ import annotations

import dataclasses
import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from dln.errors import ConfigError

LARGEST = 2**63 - 1
"""The largest whole number: what tables hold."""


def check_plain(key: str, value: Any) -> None:
    """Raise ConfigError unless a value is made of words, booleans, finite numbers, and lists and mappings of them."""
    if isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_plain(f"{key}[{i}]", inner)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            check_plain(f"{key}.{name}", inner)
    elif dataclasses.is_dataclass(value):  # a callback, metric or event
        check_plain(f"{key}.params", getattr(value, "params", None))
    elif isinstance(value, int):
        if not -LARGEST - 1 <= value <= LARGEST:
            said = str(value) if value.bit_length() < 128 else f"one of {value.bit_length()} bits"
            raise ConfigError(f"{key} must be at most {LARGEST}, a number of 64 bits, not {said}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{key} must be a finite number, not {value}")
    elif not isinstance(value, str | None):
        raise ConfigError(f"{key}: {value!r} is nothing that a config holds; it holds words, numbers, lists, mappings")


def plain(value: Any) -> Any:
    """Return a value as a config holds it: numbers and arrays of numpy or torch as Python's own, paths as words.

    >>> import numpy as np
    >>> plain({"lr": np.float64(0.5), "hidden_dim": np.array([4, 3])})
    {'lr': 0.5, 'hidden_dim': [4, 3]}
    """
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value


def whole_number(value: Any, name: str, least: int = 1) -> int:
    """Return `value`, which may be a float without a fraction, as an int; raise ConfigError where it is none.

    >>> whole_number(1e3, "step")
    1000
    """
    try:
        number = None if isinstance(value, bool | str) else int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != value or number < least:
        raise ConfigError(f"{name} must be a whole number, {least} or more, not {value!r}")
    check_plain(name, number)
    return number


def real_number(value: Any, name: str) -> float:
    """Return `value`, which may be of numpy or torch, as a float; raise ConfigError where it is no number.

    >>> real_number(1, "lr")
    1.0
    """
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ConfigError(f"{name} must be a number, not {reprlib.repr(value)}") from None


def check_batch_size(batch_size: Any, samples: int | None, key: str = "batch_size") -> int | None:
    """Return the size of a batch; raise ConfigError where batches of this size cannot be drawn.

    Args:
        batch_size: Samples a step; None is the full batch.
        samples: Size of the training set; None if data are online.
        key: Where the size stands, for messages.
    """
    size = None if batch_size is None else whole_number(batch_size, key)
    if samples is None and size is None:
        raise ConfigError(f"{key} must be a number when data.online is true: there is no full batch")
    if samples is not None and size is not None and size > samples:
        raise ConfigError(
            f"{key} is {size} but there are only {samples} training samples; take fewer, or null for the full batch"
        )
    return size


def check_sampling(replacement: bool, label_noise: float, online: bool, prefix: str = "") -> None:
    """Raise ConfigError where batches cannot be drawn in this way.

    Args:
        replacement: Whether samples of a training set are drawn with replacement.
        label_noise: Standard deviation of fresh noise on the targets of every batch.
        online: Whether there is no training set, but fresh samples for every batch.
        prefix: Where the keys stand, for messages.
    """
    if not 0 <= label_noise < math.inf:
        raise ConfigError(f"{prefix}label_noise must be a finite number, 0 or more, not {label_noise}")
    if online and replacement:
        raise ConfigError(
            f"{prefix}replacement is for a training set; samples that are drawn online are independent already: set it "
            "to false"
        )
    if online and label_noise:
        raise ConfigError(
            f"{prefix}label_noise is for a training set; online targets have fresh noise by data.noise_std"
        )


def layer_factors(value: Any, layers: int, key: str) -> list[float]:
    """Return a factor for each layer.

    Args:
        value: One number for all, or a list with one a layer.
        layers: How many there are.
        key: Where the value stands, for messages.

    Raises:
        ConfigError: There are not as many numbers as layers, or one is negative or not finite.

    >>> layer_factors(2, 3, "model.alpha"), layer_factors([1, 0.5], 2, "model.alpha")
    ([2.0, 2.0, 2.0], [1.0, 0.5])
    """
    if isinstance(value, list | tuple) and len(value) != layers:
        raise ConfigError(f"{key} lists {len(value)} numbers, but there are {layers} layers")
    given = value if isinstance(value, list | tuple) else [value] * layers
    factors = [real_number(number, key) for number in given]
    if not all(0 <= factor < math.inf for factor in factors):
        raise ConfigError(f"{key} must be finite and 0 or more, not {value}")
    return factors


MUP = "mup"
"""In place of factors on the learning rate: those with which the best rate does not depend on the width."""

_OF_GRADIENTS = ("SGD", "ASGD")
_OF_SIGNS = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop")


def mup_factors(widths: Sequence[int], optimizer: str, key: str) -> list[float]:
    """Return factors on the learning rate of layers of n_in inputs and n_out outputs: n_out / n_in, or 1 / n_in.

    The latter where steps do not grow with the gradient, as those of Adam. A layer's step then changes what it hands
    on as much as its weights' own scale is (maximal update: arXiv 2203.03466, 2310.17813).

    Args:
        widths: Units of every layer, inputs and outputs included.
        optimizer: Its name in torch.optim.
        key: Where "mup" stands, for messages.

    Raises:
        ConfigError: It is not known how steps of this optimizer grow.

    >>> mup_factors([5, 50, 50, 5], "SGD", "lr_factors"), mup_factors([5, 50, 5], "Adam", "lr_factors")
    ([10.0, 1.0, 0.1], [0.2, 0.02])
    """
    if optimizer not in (*_OF_GRADIENTS, *_OF_SIGNS):
        raise ConfigError(f"{key}=mup is known of {', '.join((*_OF_GRADIENTS, *_OF_SIGNS))}, not of {optimizer}")
    return [(after if optimizer in _OF_GRADIENTS else 1) / before for before, after in pairwise(widths)]


def rate_factors(value: Any, widths: Sequence[int], optimizer: str, key: str) -> list[float]:
    """Return a factor on the learning rate for each layer, as `layer_factors` and `mup_factors` do.

    Raises:
        ConfigError: What these raise; or all layers are frozen.
    """
    if value == MUP:
        return mup_factors(widths, optimizer, key)
    factors = layer_factors(value, len(widths) - 1, key)
    if not any(factors):
        raise ConfigError(f"{key} freezes all layers; leave one to be trained")
    return factors


def hidden_widths(hidden_dim: Any, num_hidden: int, prefix: str = "model.") -> list[int]:
    """Return the widths of the hidden layers, one a layer.

    Args:
        hidden_dim: One width for all, or a list with one a hidden layer.
        num_hidden: Number of hidden layers.
        prefix: Where the keys stand, for messages.

    Raises:
        ConfigError: The widths are not positive whole numbers, or not as many as there are hidden layers.

    >>> hidden_widths(50, 3), hidden_widths([4, 3], 2)
    ([50, 50, 50], [4, 3])
    """
    is_list = isinstance(hidden_dim, list | tuple)
    if is_list and not hidden_dim:
        raise ConfigError(f"{prefix}hidden_dim must be a number where there is no hidden layer: it sets the scale")
    widths = list(hidden_dim) if is_list else [hidden_dim] * max(num_hidden, 1)
    for width in widths:
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise ConfigError(f"{prefix}hidden_dim must be a positive integer or a list of them, not {hidden_dim!r}")
    if is_list and len(widths) != num_hidden:
        raise ConfigError(
            f"{prefix}hidden_dim lists {len(widths)} widths but {prefix}num_hidden is {num_hidden}; "
            f"set {prefix}num_hidden={len(widths)}"
        )
    return widths[:num_hidden]
