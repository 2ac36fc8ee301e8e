"""What conditions are compared with: other conditions of the same sweep, those of another one, or one history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dln.errors import StorageError
from dln.history import History
from dln.studies.curves import Sample
from dln.studies.opening import open_runs
from dln.studies.stored_runs import CONDITION, StoredRuns

if TYPE_CHECKING:
    import polars

    from dln.studies.opening import Results

    Baseline = Mapping[str, Any] | History | Results


class Baselines:
    """The baselines of a sweep's conditions: found, before anything is read, for each that is none itself."""

    def __init__(
        self,
        baseline: Baseline,
        runs: StoredRuns,
        conditions: polars.DataFrame,
        by: Sequence[str],
        over: Sequence[str],
        columns: Sequence[str],
    ) -> None:
        """Find them.

        Args:
            baseline: As `dln.aggregate` takes it.
            runs: Those of the conditions.
            conditions: Of `StoredRuns.conditions`.
            by: The keys that tell conditions apart.
            over: The keys in which the runs of a condition differ.
            columns: The curves that will be read.

        Raises:
            StorageError: A condition has none, the message says which; or there is no such key or curve.
        """
        self.columns = columns
        own = _selected(baseline, runs, by) if isinstance(baseline, Mapping) else {}
        self.runs = runs.where(own) if isinstance(baseline, Mapping) else open_runs(baseline)
        self.by = [key for key in by if key not in own and (own or self._tells(key, conditions))]
        self.over = [key for key in over if key in self.runs.keys]
        for name in columns:
            self.runs.check_curve(name)
        self.conditions = self.runs.conditions(self.by, self.over)
        self.of = self._found(conditions, by, own)
        """By the number of a condition, that of its baseline."""
        if not self.of:
            raise StorageError(f"all runs of {runs.name} are the baseline: there is nothing to compare with it")

    def _found(self, conditions: polars.DataFrame, by: Sequence[str], own: Mapping[str, Any]) -> dict[int, int]:
        known = {tuple(row): number for number, *row in self.conditions.select(CONDITION, *self.by).iter_rows()}
        found: dict[int, int] = {}
        for row in conditions.iter_rows(named=True):
            if own and all(row[key] == value for key, value in own.items()):
                continue  # it is a baseline itself
            place = tuple(row[key] for key in self.by)
            if place not in known:
                lacking = _told({**row, **own}, [*own, *self.by])
                raise StorageError(
                    f"there is no baseline for {_told(row, by)}: no run in {self.runs.name} has {lacking}"
                )
            found[row[CONDITION]] = known[place]
        return found

    def _tells(self, key: str, conditions: polars.DataFrame) -> bool:
        """Return whether a key of another sweep is matched: it varies there, or its one value occurs here too."""
        if key not in self.runs.keys:
            return False
        return self.runs.counts[key] > 1 or self.runs.first(key) in conditions[key].to_list()

    def read(self, conditions: polars.DataFrame) -> dict[int, Sample]:
        """Return the baselines of some conditions, by the conditions' numbers."""
        numbers = {number: self.of[number] for number in conditions[CONDITION].to_list() if number in self.of}
        needed = self.conditions[sorted({*numbers.values()})]
        read = dict(self.runs.read(needed, self.by, self.over, self.columns)) if len(needed) else {}
        return {number: read[other] for number, other in numbers.items()}


def _selected(baseline: Mapping[str, Any], runs: StoredRuns, by: Sequence[str]) -> dict[str, Any]:
    """Return the values that tell a baseline within the same sweep, as its rows have them."""
    if not baseline:
        raise StorageError("the baseline names no key; give one with its value, such as training.batch_size=null")
    own = {key: runs.stored_value(key, value) for key, value in baseline.items()}
    for key in own:
        if key not in by:
            told = f"the keys that tell conditions apart: {', '.join(by)}"
            raise StorageError(f"the baseline's {key} must be one of {told}")
    return own


def _told(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={'null' if row[key] is None else row[key]}" for key in keys) or "all runs"
