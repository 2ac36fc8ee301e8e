"""Arrays of the user's own, from .npy and .npz files."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from dln.errors import ConfigError


def load_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz archive by name; that of an .npy file is called "".

    Args:
        path: Where they are.
        names: Read only those of these names; others may be there and be anything.

    Raises:
        ConfigError: There is no such file, or what is wanted is not real numbers.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"": loaded}
        else:
            with loaded as file:
                arrays = {name: file[name] for name in file.files if names is None or name in names}
    except FileNotFoundError:
        raise ConfigError(f"no file {str(path)!r}") from None
    except Exception as error:
        raise ConfigError(f"{str(path)!r} is not an .npy or .npz file of numbers ({error})") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ConfigError(f"{str(path)!r}: {name or 'the array'} is of type {array.dtype}, not of real numbers")
    return arrays


def count_samples(path: str) -> int:
    """Return the length of an archive's `train_inputs`; a file is read again only if it changed.

    Raises:
        ConfigError: There is no such archive, or no such array.
    """
    try:
        about = os.stat(path)
    except OSError:
        raise ConfigError(f"no file {path!r}") from None
    return _count(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache
def _count(path: str, *version: int) -> int:
    arrays = load_arrays(path, ["train_inputs"])
    if "train_inputs" not in arrays or arrays["train_inputs"].ndim == 0:
        raise ConfigError(f"{path!r} has no array train_inputs [N, in]")
    return len(arrays["train_inputs"])
