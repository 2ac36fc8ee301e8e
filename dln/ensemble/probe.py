"""Metrics of all members at many records: the built-in ones in blocks, a user's one member at a time."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.blame import as_runs, for_each
from dln.base.parallel import run_blocks, thread_count
from dln.data import Dataset
from dln.ensemble.groups import Kept
from dln.ensemble.lane import Lane
from dln.ensemble.views import SAMPLES, Sight
from dln.ensemble.whole_sets import WholeSets
from dln.kernels.summary import pair_quantities
from dln.lockstep import naming
from dln.measure.data_quantities import Later, constants
from dln.measure.quantities import IN_KERNELS, PAIR_IN_KERNELS
from dln.measure.supply import PairSupply, Supply
from dln.metrics import Metric, Value, keeps_time, looks_back

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Probe:
    """Evaluates the metrics of lanes and of pairs of them."""

    def __init__(
        self, lanes: Mapping[str, Lane], metrics: Mapping[str, Sequence[Metric]], pair_metrics: Sequence[Metric]
    ) -> None:
        """Take lanes by suffix, the metrics of each, and those of pairs."""
        self.lanes, self.metrics, self.pair_metrics = lanes, metrics, pair_metrics
        everyone = [*itertools.chain.from_iterable(metrics.values()), *pair_metrics]
        self.needed = bool(everyone) or any(lane.theories for lane in lanes.values())
        """Whether there is anything to measure."""
        self.one_by_one = not all(metric.batched for metric in everyone)
        """Whether a user's code is to be called for each member at each record."""
        batched = [metric for metric in everyone if metric.batched]
        known = (*IN_KERNELS, *PAIR_IN_KERNELS)
        self.wanted = {name for metric in batched for name in metric.needs_beyond(known)}
        """What batched metrics need, as far as kernels do not find it from something else."""
        if any(theory.wants_maps for lane in lanes.values() for theory in lane.theories):
            self.wanted.add("end_to_end")
        self.looks_back = looks_back(everyone)
        """Whether any needs weights of steps before the record's."""
        for lane in lanes.values():
            lane.keeps_time = keeps_time(everyone)
        self._given: dict[str, tuple[Sequence[Dataset], dict[str, Later]]] = {}

    def measure(
        self,
        kept: Mapping[str, Sequence[Kept]],
        members: Mapping[str, Int[np.ndarray, " R"]],
        steps: Sequence[int],
        own: Bool[np.ndarray, " R"],
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return the columns of all runs [T, R, ...], lane by lane, and last those of "pairs".

        What has diverged is not looked at: its values are NaN, and where nothing is left there are no columns.

        Args:
            kept: Every lane's weights at the records, group by group; at a single record if `one_by_one`.
            members: Every run's member of each lane.
            steps: The records' steps.
            own: Which runs have a record of their own at the first of them: nothing is evaluated one by one for others.

        Raises:
            DlnError: What the first metric raises that fails; `runs` are those for which it fails by itself.
        """
        names = [name for name in IN_KERNELS if name in self.wanted]
        sights = {key: Sight(self.lanes[key], parts, steps, names, self._constants(key)) for key, parts in kept.items()}
        step = steps[0]  # for messages
        columns: dict[str, dict[str, np.ndarray]] = {}
        for key, sight in sights.items():
            everyone = np.arange(len(sight.lane))
            metrics = self.metrics[key]
            wanted = set(members[key][own].tolist())
            solos = sight.solos.items() if self._looped(metrics) else ()
            rows = {m: (supply,) for m, supply in solos if m in wanted}
            with as_runs(members[key].tolist(), own.tolist()):
                found = self._evaluate(metrics, [sight], [everyone], rows, step, key)
                found |= self._predicted(sight, steps, key)
            columns[key] = {name: values[:, members[key]] for name, values in found.items()}
        return columns | {"pairs": self._compare(sights, members, step, own) if self.pair_metrics else {}}

    @staticmethod
    def _predicted(sight: Sight, steps: Sequence[int], suffix: str) -> dict[str, np.ndarray]:
        """Return the columns [T, R, ...] of what theories say of a lane."""
        found: dict[str, np.ndarray] = {}
        for theory in sight.lane.theories:
            with naming(f"theory {theory.theory.label!r}", steps[0]):
                found |= theory.columns(steps, suffix, sight.quantities.get("end_to_end"))
        return found

    def _constants(self, key: str) -> dict[str, Later]:
        """Return what is the same at all records of a lane, until its datasets become others."""
        sets = self.lanes[key].sets
        if key not in self._given or self._given[key][0] is not sets.datasets:
            self._given[key] = sets.datasets, _of_members(sets)
        return self._given[key][1]

    def _compare(
        self,
        sights: Mapping[str, Sight],
        members: Mapping[str, Int[np.ndarray, " R"]],
        step: int,
        own: Bool[np.ndarray, " R"],
    ) -> dict[str, np.ndarray]:
        of, rows = [members[key] for key in sights], {}
        if self._looped(self.pair_metrics):
            ours, theirs = (sight.solos for sight in sights.values())
            pairs = enumerate(zip(*(m.tolist() for m in of), strict=True))
            rows = {r: (ours[i], theirs[j]) for r, (i, j) in pairs if own[r] and i in ours and j in theirs}
        return self._evaluate(self.pair_metrics, [*sights.values()], of, rows, step)

    @staticmethod
    def _looped(metrics: Sequence[Metric]) -> bool:
        return not all(metric.batched for metric in metrics)

    def _evaluate(
        self,
        metrics: Sequence[Metric],
        sights: Sequence[Sight],
        members: Sequence[np.ndarray],
        rows: Mapping[int, tuple[Supply, ...]],
        step: int,
        suffix: str = "",
    ) -> dict[str, np.ndarray]:
        """Return the columns [T, R, ...] of metrics of one lane, or of pairs of two lanes' members.

        Args:
            metrics: The metrics.
            sights: Of the one lane, or of both.
            members: The R members of each lane.
            rows: What there is of each run alone, for metrics that are evaluated one by one.
            step: The first record's step, for messages.
            suffix: Of the columns' names.
        """
        count = len(members[0])
        columns: dict[Metric, dict[str, np.ndarray]] = {}
        alive = np.logical_and.reduce([sight.alive[:, of] for sight, of in zip(sights, members, strict=True)])
        if not alive.any():
            return {}
        known = self._pair_quantities(sights, members) if len(sights) == 2 else {}
        everyone = alive.all()
        records, runs = (slice(None), slice(None)) if everyone else np.nonzero(alive)
        sides = [sight.whole(records, of[runs]) for sight, of in zip(sights, members, strict=True)]
        whole = _joint(sides, {name: values[records, runs] for name, values in known.items()})
        for metric in metrics:
            if metric.of_quantities:
                with naming(metric.called, step):
                    shape = alive.shape if everyone else (int(alive.sum()),)
                    found = metric.batched_columns(metric(whole), suffix, shape)
                columns[metric] = found if everyone else {name: _placed(v, alive) for name, v in found.items()}
            elif not metric.batched:
                columns[metric] = stacked(self._one_by_one(metric, rows, step, suffix), count)
        columns |= self._in_blocks(metrics, sights, members, alive, known, step, suffix)
        return {name: values for metric in metrics for name, values in columns[metric].items()}

    @staticmethod
    def _one_by_one(
        metric: Metric, rows: Mapping[int, tuple[Supply, ...]], step: int, suffix: str
    ) -> dict[int, dict[str, Value]]:
        """Return the columns of a metric that is evaluated one by one, by run."""

        def columns(r: int) -> dict[str, Value]:
            with naming(metric.called, step):
                return metric.plain(metric(_joint(rows[r])), suffix)

        found = for_each(rows, columns)
        with naming(metric.called, step):
            for row in found.values():
                metric.check_columns(row, suffix)  # a shape is odd beside others: no single run's fault
        return found

    @staticmethod
    def _in_blocks(
        metrics: Sequence[Metric],
        sights: Sequence[Sight],
        members: Sequence[np.ndarray],
        alive: Bool[np.ndarray, "T R"],
        known: Mapping[str, Tensor],
        step: int,
        suffix: str,
    ) -> dict[Metric, dict[str, np.ndarray]]:
        """Return the columns [T, R, ...] of batched metrics that need weights, found in blocks that fit the cache."""
        rest = [metric for metric in metrics if metric.batched and not metric.of_quantities]
        if not rest:
            return {}
        records, runs = np.nonzero(alive)
        size = len(runs)

        def needed(some: Sequence[Metric]) -> set[str]:
            return {name for metric in some for name in metric.needs_beyond(IN_KERNELS)}

        def block(some: Sequence[Metric], first: int, last: int) -> list[dict[str, np.ndarray]]:
            gradients = "gradients" in needed(some)
            t, r = records[first:last], runs[first:last]
            sides = [sight.block(t, of[r], gradients) for sight, of in zip(sights, members, strict=True)]
            supply = _joint(sides, {name: values[t, r] for name, values in known.items()})
            found = []
            for metric in some:
                with naming(metric.called, step):
                    found.append(metric.batched_columns(metric(supply), suffix, (last - first,)))
            return found

        columns: dict[Metric, dict[str, np.ndarray]] = {}
        for heavy in (False, True):
            some = [metric for metric in rest if metric.heavy == heavy]
            if not some:
                continue
            samples = needed(some).intersection(SAMPLES)
            cut = min(sight.at_once(samples) for sight in sights)
            if heavy:  # numpy's work more than Python's, so that threads pay
                blocks = run_blocks(partial(block, some), size, min(cut, -(-size // thread_count())))
            else:
                blocks = [block(some, first, min(first + cut, size)) for first in range(0, size, cut)]
            for metric, found in zip(some, zip(*blocks, strict=True), strict=True):
                columns[metric] = {n: _placed(np.concatenate([part[n] for part in found]), alive) for n in found[0]}
        return columns

    def _pair_quantities(self, sights: Sequence[Sight], members: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return the quantities of pairs [T, R, ...] that are wanted, group of a by group of b."""
        columns: dict[str, np.ndarray] = {}
        (a, b), (member_a, member_b) = sights, members
        for k, j in itertools.product(a.kept, b.kept) if self.wanted.intersection(PAIR_IN_KERNELS) else ():
            runs = np.flatnonzero(np.isin(member_a, k.members) & np.isin(member_b, j.members))
            if len(runs):
                places = (_places(of[runs], part.members) for of, part in ((member_a, k), (member_b, j)))
                for name, values in pair_quantities(k.layout, k.weights, j.weights, *places).items():
                    columns.setdefault(name, np.empty((len(values), len(member_a), *values.shape[2:])))[:, runs] = (
                        values
                    )
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}


def _of_members(sets: WholeSets) -> dict[str, Later]:
    """Return what is the same at all records, for all members of a lane [R, ...]."""
    dataset = sets.dataset

    def later(constant: Later) -> Later:
        return Later(functools.cache(lambda: constant.find()[dataset]))

    return {name: later(constant) for name, constant in constants(sets.datasets).items()}


def _joint(sides: Sequence[Supply], known: Mapping[str, Any] | None = None) -> Supply | PairSupply:
    return sides[0] if len(sides) == 1 else PairSupply(sides[0], sides[1], known)


def _placed(values: Float[np.ndarray, "K ..."], alive: Bool[np.ndarray, "T R"]) -> Float[np.ndarray, "T R ..."]:
    """Return values of what is alive as a column of all, NaN for the others."""
    column = np.full((*alive.shape, *values.shape[1:]), np.nan)
    column[alive] = values
    return column


def _places(members: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return where each of `members` stands in `among`."""
    order = np.argsort(among)
    return order[np.searchsorted(among, members, sorter=order)]


def stacked(rows: Mapping[int, Mapping[str, Any]], members: int) -> dict[str, np.ndarray]:
    """Return {column: [1, R, ...]} of values found member by member at one record, NaN for members without."""
    columns: dict[str, np.ndarray] = {}
    for member, row in rows.items():
        for name, value in row.items():
            if name not in columns:
                columns[name] = np.full((1, members, *np.shape(value)), np.nan)
            columns[name][0, member] = value
    return columns
