"""What results were made with: the processor and its linear algebra, the libraries, the state of the source."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

from dln import __version__

LIBRARIES = ("numpy", "torch", "numba")

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def provenance() -> dict[str, Any]:
    """Return what this process makes results with; found out once, so ask before the source may change.

    `commit` is None outside a git checkout, and `modified` says whether tracked files differed from it. `blas` names
    numpy's linear algebra and, where it tells, the kernels it has chosen for the processor; the last digits of metrics
    depend on them.

    >>> list(provenance())
    ['dln', 'commit', 'modified', 'python', 'numpy', 'torch', 'numba', 'processor', 'blas']
    """
    commit, modified = commit_of(ROOT)
    return {
        "dln": __version__,
        "commit": commit,
        "modified": modified,
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "processor": processor(),
        "blas": linear_algebra(),
    }


def commit_of(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit that a git checkout is at and whether tracked files differ from it; None, None without git."""
    if not (root / ".git").exists():  # installed; a repository further up would be somebody else's
        return None, None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # git is to write nothing
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=quiet).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None, None
    return told.removesuffix("-dirty"), told.endswith("-dirty")


def processor(about: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, or its architecture where the system tells no name."""
    try:
        lines = about.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def linear_algebra() -> str:
    """Name numpy's linear algebra and, where it tells, the kernels it has chosen for this processor."""
    import numpy  # noqa: F401  # which loads it

    loaded = ThreadpoolController().select(user_api="blas").info()
    # A wheel of numpy brings its own; scipy's comes beside it once numba has loaded that.
    own = [lib for lib in loaded if "numpy" in lib["filepath"]] or loaded
    told = [(lib["internal_api"], lib["version"], lib.get("architecture")) for lib in own]
    return ", ".join(sorted({" ".join(filter(None, names)) for names in told})) or "unknown"


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:  # built in place, or put together by hand
        return None
