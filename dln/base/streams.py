"""Named streams of random numbers: every draw of a run comes from one of them, and from nothing global.

A stream is keyed by the *hash of its name* together with a seed. Schemes that add a number to the seed instead
(`seed + 1` for the test set) make streams of neighbouring seeds coincide; here two streams are independent as soon as
their name or their seed differs.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return the generator of the stream called `name` under `seed`.

    Args:
        seed: A non-negative integer.
        name: Words that name the stream, e.g. `"weights", 2` for the second layer's initial weights.

    >>> a, b, c = (stream(1, "teacher"), stream(1, "teacher"), stream(2, "teacher"))
    >>> a.random() == b.random() != c.random()
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=_key("\0".join(map(str, name))))))


_WORD = (1 << 64) - 1


def position(rng: np.random.Generator) -> np.ndarray:
    """Return where a stream stands, as six words.

    Raises:
        ValueError: It is none of `stream`.

    >>> rng, same = stream(0, "weights"), stream(0, "weights")
    >>> first = rng.random()
    >>> go_on(same, position(rng))
    >>> rng.random() == same.random()
    True
    """
    state: Any = rng.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise ValueError(f"expected a generator of kind PCG64, not {state['bit_generator']}")
    words = [word for name in ("state", "inc") for word in divmod(state["state"][name], _WORD + 1)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def go_on(rng: np.random.Generator, position: np.ndarray) -> None:
    """Let a stream go on from where another one stood."""
    high, low, increment_high, increment_low, kept, half = map(int, position)
    wide = {"state": (high << 64) | low, "inc": (increment_high << 64) | increment_low}
    rng.bit_generator.state = {"bit_generator": "PCG64", "state": wide, "has_uint32": kept, "uinteger": half}


@functools.lru_cache
def _key(name: str) -> list[int]:
    return np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u4").tolist()


@contextlib.contextmanager
def seeded_torch(rng: np.random.Generator) -> Iterator[None]:
    """Run a block with torch's global generator seeded from `rng` and float64 as the default dtype; undo both after.

    For users' functions that call `torch.randn` and the like: they reproduce, and nobody else's draws are touched.
    """
    import torch

    dtype = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        seed = int(rng.integers(2**63))
        other_devices = torch.cuda.is_available() or torch.backends.mps.is_available()
        # Where there are none, torch.manual_seed keeps every seed for ever, with the stack that it was called from.
        (torch if other_devices else torch.default_generator).manual_seed(seed)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
