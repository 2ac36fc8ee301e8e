"""How kernels are compiled, and where their machine code is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit as _njit

from dln.kernels.cache import KernelCache

_SOURCES = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))
"""What machine code comes from: every file of `dln/kernels/`."""


njit: Any = _njit  # whose options type checkers know in part only

_OPTIONS = {"error_model": "numpy", "_nrt": False}
"""Of all that is compiled. Kernels allocate nothing, so no references need be counted: code that does takes a fifth
longer to compile."""


def inner(function: Callable) -> Any:
    """Compile a function that kernels alone call: for Python there is no way in, which would take time to compile."""
    return njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def compiled(function: Callable) -> Any:
    """Compile without the GIL and keep the machine code on disk.

    It is kept beside the source or, where that cannot be written, in the user's cache directory; the environment
    variable NUMBA_CACHE_DIR names another. Where nothing can be written, every process compiles anew.
    """
    dispatcher: Any = njit(**_OPTIONS, nogil=True, no_cfunc_wrapper=True)(function)
    dispatcher._cache = KernelCache(function, _SOURCES)
    return dispatcher
