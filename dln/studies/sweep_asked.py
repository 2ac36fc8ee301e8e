"""What is to be drawn of a sweep: which curves, over what averaged, and what colours and panels tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dln.errors import ConfigError, StorageError, suggestion
from dln.predictions import theories_of, told_by
from dln.results.finals import is_seed
from dln.studies.stored_runs import StoredRuns
from dln.studies.stored_sums import StoredSums

if TYPE_CHECKING:
    from dln.studies.baselines import Baseline

FIRST = ("test_loss", "train_loss", "test_loss_b", "train_loss_b")
"""Which curve of a sweep is drawn if none is named: the first that there is, and what theories say of it."""

SHARE = "diverged"
"""The metric that is the share of runs that diverge."""

MINOR = ("max_steps", "evaluate_every", "evaluate_at")
"""Keys that are told apart by others which move with them, whichever comes first."""


@dataclass(frozen=True)
class Asked:
    """The options of a figure of a sweep, as `dln plot` has them."""

    figure: str | None = None
    metric: Sequence[str] | None = None
    by: Sequence[str] | None = None
    over: Sequence[str] | None = None
    rows: str | None = None
    columns: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    baseline: Baseline | None = None
    x: str = "step"
    middle: str = "mean"
    band: str | None = None
    log: str | None = None
    style: str = "default"


@dataclass(frozen=True)
class Keys:
    """What tells the conditions of a sweep apart, and what they are averaged over."""

    over: list[str]
    per: str | None
    """What colours tell apart."""
    columns: str | None
    rows: str | None
    counts: dict[str, int]
    """How many values each has."""

    @property
    def by(self) -> list[str]:
        """All that tell conditions apart."""
        return [key for key in (self.per, self.columns, self.rows) if key is not None]


def averaged_over(runs: StoredRuns, asked: Asked) -> list[str]:
    """Return the keys that are averaged over: those that are named, or all seeds that vary, but those in `by`."""
    if asked.over is not None:
        for key in asked.over:
            runs.check_key(key)
        return [*asked.over]
    if isinstance(runs, StoredSums):
        return [*runs.keeping.over]
    named = {*(asked.by or ()), asked.rows, asked.columns, *asked.where}
    return [key for key in runs.varying if is_seed(key) and key not in named]


def keys_of(runs: StoredRuns, asked: Asked, over: Sequence[str]) -> list[str]:
    """Return what tells conditions apart, in the order of how many values each has where nothing is named.

    Raises:
        StorageError: There is no such key.
    """
    placed = [key for key in (asked.columns, asked.rows) if key is not None]
    for key in [*(asked.by or ()), *placed, *asked.where]:
        runs.check_key(key)
    if asked.by is not None:
        return [key for key in dict.fromkeys(asked.by) if key not in placed and key not in asked.where]
    free = [key for key in runs.varying if key not in (*over, *placed, *asked.where)]
    kept: list[str] = []
    for key in sorted(free, key=lambda key: (key in MINOR, -runs.counts[key])):
        if not runs.follows(key, [*over, *placed, *asked.where, *kept]):
            kept.append(key)
    return kept


def placed(runs: StoredRuns, asked: Asked, over: Sequence[str], coloured: bool) -> Keys:
    """Return which keys colours and panels tell apart.

    Args:
        runs: The sweep.
        asked: The options.
        over: What is averaged over.
        coloured: Whether colours are of keys, not of curves.

    Raises:
        ConfigError: There are more keys than a figure can tell apart.
    """
    left = keys_of(runs, asked, over)
    per = left.pop(0) if coloured and left else None
    columns = asked.columns or (left.pop(0) if left else None)
    rows = asked.rows or (left.pop(0) if left else None)
    if left:
        told = f"colours tell {per} apart" if per else "colours tell curves apart"
        raise ConfigError(
            f"{told}, panels {columns} and {rows}, and {', '.join(left)} would be left: "
            "name what to show with --by, fix the others with --where KEY=VALUE, or average over them with --over"
        )
    return Keys([*over], per, columns, rows, {key: runs.counts[key] for key in runs.varying})


def curves_of(runs: StoredRuns, names: Sequence[str] | None, events: Sequence[str]) -> list[str]:
    """Return the curves that are named, by themselves, as vectors, or as what two lanes have; None: the loss.

    Raises:
        StorageError: There is none of a name.
        ConfigError: It is an event, of which a run has one value.
    """
    known = runs.curve_names()
    if names is None:
        return first_among(known)
    found: list[str] = []
    for name in names:
        lanes = [f"{name}{lane}" for lane in ("_a", "_b") if f"{name}{lane}" in known]
        entries = [one for one in [*known, *_entries(runs, name)] if one.startswith((f"{name}.", f"{name}["))]
        if name not in known and name in events:
            raise ConfigError(f"{name} is an event, one value a run: draw it with --figure finals or map")
        if name not in known and not lanes and not entries:
            runs.check_curve(name)
        found += [name] if name in known or not (lanes or entries) else lanes or entries
    return [*dict.fromkeys(found)]


def _entries(runs: StoredRuns, name: str) -> list[str]:
    """Return the entries of a column of vectors of one length."""
    kind: Any = runs.schema.get(name)
    many = getattr(getattr(kind, "inner", None), "size", None)
    return [f"{name}[{i + 1}]" for i in range(many or 0)]


def first_among(known: Sequence[str]) -> list[str]:
    """Return the curve to draw if none is named, and what theories say of it; of a comparison that of both lanes."""
    if not known:
        raise StorageError("there is no curve of numbers to draw; name an entry of a vector, such as modes[1]")
    theories = theories_of(known)
    first = next(name for name in (*FIRST, *known) if name in known)
    twin = f"{first.removesuffix('_b')}_a"
    lanes = [twin, first] if first.endswith("_b") and twin in known else [first]
    return lanes + [name for name in known if told_by(name, theories)[0] == first and name != first]


def check_figure(name: str | None, known: Sequence[str]) -> None:
    """Raise ConfigError, with the nearest name, unless a figure is one of some; None is."""
    if name is not None and name not in known:
        raise ConfigError(f"there is no figure {name!r} of a sweep; {suggestion(name, known)}")
