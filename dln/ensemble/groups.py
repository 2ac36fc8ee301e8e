"""Members of a lane by batch size, each group trained in one call of the kernels; and what is kept of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dln.data import Dataset
from dln.ensemble.batches import MemberBatches
from dln.kernels.batches import Data, Draw
from dln.kernels.layout import Layout
from dln.kernels.state import State

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


@dataclass
class Group:
    """Members of a lane with the same batch size, in the same place of their epochs."""

    members: Int[np.ndarray, " r"]
    state: State
    batches: MemberBatches
    batch_size: int | None

    def select(self, places: Int[np.ndarray, " r"]) -> Group:
        """Return some of the members, to go on apart from these."""
        of = {"state": self.state.select(places), "batches": self.batches.select(places)}
        return replace(self, members=self.members[places], **of)

    def resized(self, batch_size: int | None) -> Group:
        """Return the members with batches of another size: a new epoch."""
        return replace(self, batches=self.batches.resized(batch_size), batch_size=batch_size)

    def learning_from(self, datasets: Sequence[Dataset], dataset: Int[np.ndarray, " R"], data: Data | None) -> Group:
        """Return the members with targets of other teachers; see `MemberBatches.learning_from`."""
        return replace(self, batches=self.batches.learning_from(datasets, dataset[self.members], data))

    def split(self, sizes: Mapping[int, int | None]) -> Iterator[Group]:
        """Yield the groups that this one becomes when some of its members get these batch sizes.

        Those that still agree stay together; a member that is given the size it has starts a new epoch.
        """
        wanted = [(m in sizes, sizes.get(m)) for m in self.members.tolist()]
        for new, size in dict.fromkeys(wanted):
            places = np.array([place for place, own in enumerate(wanted) if own == (new, size)])
            some = self if len(places) == len(wanted) else self.select(places)
            yield some.resized(size) if new else some

    def reseeded(self, seeds: Mapping[int, int], fresh: Callable[..., MemberBatches]) -> Iterator[Group]:
        """Yield the groups that this one becomes when some of its members get these batch seeds.

        Args:
            seeds: By member.
            fresh: Returns batches of some members, of these seeds and of one size, from the beginning of their streams.
        """
        new = np.array([m in seeds for m in self.members.tolist()])
        if not new.all():
            yield self.select(np.flatnonzero(~new)) if new.any() else self
        if new.any():
            some = self if new.all() else self.select(np.flatnonzero(new))
            yield replace(some, batches=fresh(some.members, [seeds[m] for m in some.members.tolist()], some.batch_size))


@dataclass(frozen=True)
class Kept:
    """The weights of a group's members at several records, as they lie in memory."""

    members: Int[np.ndarray, " r"]
    layout: Layout
    weights: np.ndarray
    """[T, G, P] or [T, G, P, V]."""
    draw: Draw
    offsets: Int[np.ndarray, " T"]
    """Which batch of the draw is each record's [T]."""
    lr: Float64[np.ndarray, "T r"]
    """Learning rates."""
    time: Float64[np.ndarray, "T r"]
    """What training has taken so far, NaN where nobody asks."""
    past: Sequence[Sequence[np.ndarray]] = ()
    """Where they are wanted: the weights, unpacked, one step before each record, and two [T, r, ...]."""

    def at(self, records: slice | Int[np.ndarray, " t"]) -> Kept:
        """Return some of the records."""
        past = [[a[records] for a in arrays] for arrays in self.past]
        of = {"weights": self.weights[records], "offsets": self.offsets[records], "lr": self.lr[records]}
        return replace(self, past=past, time=self.time[records], **of)

    def unpacked(self) -> list[np.ndarray]:
        """Return the weights of all layers and then, if there are any, the biases, each [T, r, ...]."""
        return self.layout.take_all(self.weights, len(self.members))
