"""Every run's own reference as the baseline: what a comparison has recorded of lane a, beside lane b."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from dln.errors import StorageError

if TYPE_CHECKING:
    import numpy as np

    from dln.studies.curves import Sample
    from dln.studies.statistics import Moments
    from dln.studies.stored_runs import StoredRuns

REFERENCE = "reference"
"""What the baseline is called."""

_OF_B = re.compile(r"_b(?=$|[.\[])")
"""What the names of lane b's columns have in them."""


def with_references(runs: StoredRuns, of: Sequence[str] | None) -> dict[str, str]:
    """Return columns of lane b, each with that of lane a.

    Args:
        runs: The runs.
        of: Which columns, by their names in lane b or in a run of its own; None: all of numbers.

    Raises:
        StorageError: There is no such column, or the runs have no references.
    """
    known = runs.curve_names()
    if of is None:
        found = {name: _OF_B.sub("_a", name, 1) for name in known if _OF_B.search(name)}
        found = {name: other for name, other in found.items() if other in known}
    else:
        named = [_of_lane_b(runs, name) for name in of]
        found = {name: _OF_B.sub("_a", name, 1) for name in named}
        for other in found.values():
            runs.check_curve(other)
    if not found:
        raise StorageError(
            f"runs of {runs.name} have no reference: no curve test_loss_a beside test_loss_b; name another baseline, "
            "or train them with reference={...}"
        )
    return found


def _of_lane_b(runs: StoredRuns, name: str) -> str:
    """Return what a column is called in lane b."""
    if _OF_B.search(name):
        runs.check_curve(name)
        return name
    for called in _in_lane_b(name):
        try:
            runs.check_curve(called)
            return called
        except StorageError:
            continue
    raise StorageError(f"runs of {runs.name} have no {name!r} beside that of a reference, {name}_a and {name}_b")


def _in_lane_b(name: str) -> Iterator[str]:
    """Yield what a column may be called in lane b.

    >>> [*_in_lane_b("norms.first[2]")]
    ['norms.first_b[2]', 'norms_b.first[2]']
    """
    head, bracket, entry = name.partition("[")
    yield f"{head}_b{bracket}{entry}"
    for i in (i for i, letter in enumerate(head) if letter == "."):
        yield f"{head[:i]}_b{head[i:]}{bracket}{entry}"


class Against(Protocol):
    """What runs of one condition are compared with."""

    def moments_at(self, name: str, steps: np.ndarray) -> Moments:
        """See `Sample`, and so the others."""
        ...

    def aligned(self, name: str, steps: np.ndarray) -> np.ndarray:
        """Return a curve's values at some steps."""
        ...

    def resolution(self, name: str) -> float:
        """Return what part of a value may be rounding."""
        ...


class OwnReference:
    """Lane a of some runs, whose columns are called as lane b's are: exact where it is one trajectory for all."""

    def __init__(self, sample: Sample, twins: Mapping[str, str]) -> None:
        """Take runs, and the columns of lane b, each with that of lane a."""
        self._sample, self._twins = sample, twins

    def moments_at(self, name: str, steps: np.ndarray) -> Moments:
        """See `Sample`."""
        return self._sample.moments_at(self._twins[name], steps)

    def aligned(self, name: str, steps: np.ndarray) -> np.ndarray:
        """See `Sample`."""
        return self._sample.aligned(self._twins[name], steps)

    def resolution(self, name: str) -> float:
        """See `Sample`."""
        return self._sample.resolution(self._twins[name])

    def shared(self, name: str) -> np.ndarray | None:
        """Return the covariance of lane b and lane a at each step; None where only sums of each are kept."""
        return (
            self._sample.covariance(name, self._twins[name]) if self._sample.has_pair(name, self._twins[name]) else None
        )
