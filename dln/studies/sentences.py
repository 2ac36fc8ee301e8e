"""What studies come to, in sentences with numbers: where runs leave a path, by how much, how sure, of how many runs.

A sentence is a function of the `Found` of some parts of a study that returns lines of text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.base.registry import Registry
from dln.errors import ConfigError
from dln.figures.table_words import RATE, short, value_of
from dln.studies.comparison import holm, ratio_of_means
from dln.studies.crossing import Crossing, crossing
from dln.studies.found import Found, heading
from dln.studies.statistics import Moments
from dln.studies.wording import WAYS, between, counted, digits

if TYPE_CHECKING:
    import polars

SENTENCES = Registry("sentence", supplied=("parts",))
"""What the `sentences` of a study may name."""

sentence = SENTENCES.register
"""Register a function of `parts`, a mapping of names to `Found`, and parameters; it returns lines of text."""


@sentence("departures")
def departures(parts: Mapping[str, Found], of: str = "test_loss", per: str = "training.batch_size") -> list[str]:
    """Say in how many conditions a curve leaves its baseline, and, per value of a key, where and by how much.

    A departure here is significant among the steps of its condition and among all conditions: p values, corrected
    after Holm for steps, are corrected so again for conditions.
    """
    rows: list[dict[str, Any]] = [row | {"part": name} for name, found in parts.items() for row in _compared(found, of)]
    if not rows:
        raise ConfigError(f"no condition has a baseline to compare {of} with: name one in aggregate")
    for row, p in zip(rows, holm([row["least p"] for row in rows]), strict=True):
        row["leaves"] = row["first"] is not None and p < 1 - parts[row["part"]].confidence
    left = [row for row in rows if row["leaves"]]
    runs, lost = (sum(row[name] for row in rows) for name in ("runs", "lost"))
    sure = next(iter(parts.values())).sure
    told = [
        f"{of} leaves its baseline in {len(left)} of {len(rows)} conditions of {runs} runs, {lost} of them "
        f"diverged ({sure}, after Holm over steps and conditions)"
    ]
    far = [row for row in left if row["ratio"] is not None]
    if far:
        told[0] += f"; farthest {_farthest(parts, max(far, key=lambda row: abs(np.log(row['ratio']))))}"
    for name, found in parts.items():
        told.append(heading(name, found.about))
        told += _per_value(found, [row for row in rows if row["part"] == name], per)
    return told


def _compared(found: Found, of: str) -> Iterator[dict[str, Any]]:
    """Yield how each condition with a baseline ends, when it leaves that, and the least p value of leaving it."""
    found.check(of)
    conditions = {tuple(keys.values()): rows for keys, rows in found.conditions()}
    for row in found.ends.iter_rows(named=True):
        if row["curve"] != of or row.get("baseline") is None:
            continue
        table = conditions[tuple(row[key] for key in found.keys)]
        outside = table.filter(table[f"{of} side"] != 0)
        row["least p"] = 1.0 if outside.is_empty() else outside[f"{of} p corrected"].min()
        row["first time"] = None if row["first"] is None else found.times(table.filter(step=row["first"]))[0]
        yield row


def _farthest(parts: Mapping[str, Found], row: Mapping[str, Any]) -> str:
    found = parts[row["part"]]
    ratio = between(row["ratio"], row["ratio low"], row["ratio high"])
    return (
        f"{row['part']} at {found.place(row)}: {_left(row)}, and at step {row['step']} it is {ratio} of it "
        f"({found.sure}, {counted(row)})"
    )


def _left(row: Mapping[str, Any]) -> str:
    return f"it leaves at step {row['first']} (lr x step = {row['first time']:.3g}), {WAYS[row['first side']]} it"


def _per_value(found: Found, rows: Sequence[dict[str, Any]], per: str) -> Iterator[str]:
    values = dict.fromkeys(row[per] for row in rows) if per in found.keys else [None]
    for value in values:
        some = [row for row in rows if per not in found.keys or row[per] == value]
        left = [row for row in some if row["leaves"]]
        about = f"  {short(per)} {value_of(per, value)}: " if per in found.keys else "  "
        told = f"{about}leaves in {len(left)} of {len(some)}"
        if left:
            first = min(left, key=lambda row: row["first time"])
            rest = [key for key in found.varying if key != per]
            told += (
                f", first at step {first['first']} (lr x step = {first['first time']:.3g}; {found.place(first, rest)})"
            )
        known = sorted((row for row in some if row["ratio"] is not None), key=lambda row: row["ratio"])
        if known:
            ends = [between(row["ratio"], row["ratio low"], row["ratio high"]) for row in (known[0], known[-1])]
            told += f"; at the end {' to '.join(dict.fromkeys(ends))} of it"
        lost = sum(row["lost"] for row in some)
        yield told + (f"; {lost} of {sum(row['runs'] for row in some)} runs diverged" if lost else "")


@sentence("crossings")
def crossings(parts: Mapping[str, Found], of: str, level: float = 1.0, what: str | None = None) -> list[str]:
    """Say where the median over the runs of a curve falls below a level for good, condition by condition."""
    told, runs, fell, below = [], [], 0, 0
    for name, found in parts.items():
        found.check(of)
        told.append(heading(name, found.about))
        for keys, rows in found.conditions():
            median, low, high = (_column(rows, f"{of} q0.5{end}") for end in ("", " low", " high"))
            where = crossing(median, low, high, level)
            last = rows.row(-1, named=True)
            fell, below = fell + (where.at is not None), below + (where.at is None and bool(where.begins_below))
            runs.append(last["runs"])
            told.append(f"  {_at(found, keys)}{_crossed(found, rows, where, level)} {_runs(found, last, of)}")
    summary = (
        f"the median of {what or of} falls below {level:g} for good in {fell} of {len(runs)} conditions of {sum(runs)} "
        f"runs, and is below it from the first record on in {below}"
    )
    return [summary, *told]


def _crossed(found: Found, rows: polars.DataFrame, where: Crossing, level: float) -> str:
    if where.at is None:
        side = {True: "below", False: "not for good below", None: "not known to be below"}[where.begins_below]
        return f"{side} {level:g}{' from the first record on' if where.begins_below else ''}"
    return f"falls below {level:g} for good {_within(found, rows, where)}"


def _within(found: Found, rows: polars.DataFrame, where: Crossing) -> str:
    """Say by which record something happens, and between which two: the last before it may, the first when it must."""
    assert where.at is not None
    steps, times = rows["step"].to_list(), found.times(rows)
    low = steps[max(0, (where.at if where.low is None else where.low) - 1)]
    high = f"and {steps[where.high]}" if where.high is not None else "and later than the last record"
    return f"by step {steps[where.at]} (between {low} {high}; lr x step = {times[where.at]:.3g})"


@sentence("escapes")
def escapes(
    parts: Mapping[str, Found],
    of: list[str],
    names: list[str] | None = None,
    fraction: float = 0.5,
    small: float = 0.01,
) -> list[str]:
    """Say when the mean of each of some curves has come to a fraction of where it ends, and which never leave.

    A curve counts as one that does not whose mean ends where it began, but for `small` times the largest at the end.
    """
    told, runs, left, count = [], [], set(), 0
    for name, found in parts.items():
        found.check(*of)
        told.append(heading(name, found.about))
        for keys, rows in found.conditions():
            last = rows.row(-1, named=True)
            runs.append(last["runs"])
            first, least = rows.row(0, named=True), small * max(abs(last[f"{curve} mean"]) for curve in of)
            said = []
            for curve, called in zip(of, names or of, strict=True):
                stays = abs(last[f"{curve} mean"] - first[f"{curve} mean"]) < least
                left |= set() if stays else {curve}
                said.append(f"{called} {(_stayed if stays else _escaped)(found, rows, curve, fraction)}")
            told += [f"  {_at(found, keys)}{_runs(found, last, of[0])}", *(f"    {line}" for line in said)]
            count += 1
    stayed = len(of) - len(left)
    return [
        f"{len(left)} of {len(of)} modes are learned, {stayed} never, in {count} conditions of {sum(runs)} runs",
        *told,
    ]


def _stayed(found: Found, rows: polars.DataFrame, curve: str, fraction: float) -> str:
    begin, end = (rows[f"{curve} mean"][i] for i in (0, -1))
    low, high = (_column(rows, f"{curve} {side}") for side in ("low", "high"))
    told = f"{digits(begin, 2)} at first, {digits(end, 2)} at the end"
    return f"is not learned: {told}, its mean always within [{digits(low.min(), 2)}, {digits(high.max(), 2)}]"


def _escaped(found: Found, rows: polars.DataFrame, curve: str, fraction: float) -> str:
    mean, low, high = (_column(rows, f"{curve} {end}") for end in ("mean", "low", "high"))
    where = crossing(-mean, -high, -low, -fraction * mean[-1])
    ending = f"{digits(mean[-1])} at the end"
    if where.at is None:
        return f"is {ending}"
    return f"comes to {fraction:g} of its {ending} {_within(found, rows, where)}"


@sentence("boundary")
def boundary(parts: Mapping[str, Found], of: str = "full_train_loss", sharpness: str = "sharpness") -> list[str]:
    """Say at which learning rates runs diverge, where 2 / sharpness lies, and what rates change at equal lr x step."""
    told: list[str] = []
    for name, found in parts.items():
        found.check(of, RATE, sharpness)
        told.append(heading(name, found.about))
        others = [key for key in found.keys if key != RATE]
        for rates in found.table.partition_by(others, maintain_order=True) if others else [found.table]:
            place = _at(found, rates.row(0, named=True), [key for key in found.varying if key != RATE])
            told.append(f"  {place}{_boundary(found, rates, of, sharpness)}")
    return told


def _boundary(found: Found, table: polars.DataFrame, of: str, sharpness: str) -> str:
    ends = sorted((rows.row(-1, named=True) for rows in table.partition_by(RATE)), key=lambda row: row[RATE])
    gentle, lost = ends[0], [row for row in ends if row["lost"]]
    runs, gone = (sum(row[name] for row in ends) for name in ("runs", "lost"))
    told = f"of {runs} runs {gone} diverge"
    if lost:
        told += f", from lr = {digits(lost[0][RATE], 3)} on ({lost[0]['lost']} of {lost[0]['runs']} there)"
    means = [gentle[f"{sharpness} {end}"] for end in ("mean", "high", "low")]
    if None in means:
        return f"{told}; at the smallest rate the sharpness is not known at the end"
    edge = [2 / mean for mean in means]
    told += f"; 2 / sharpness at the end of lr = {digits(gentle[RATE], 3)} is {between(*edge)} ({found.sure})"
    known = [row for row in ends[1:] if row not in lost]
    below, above = ([row for row in known if (row[RATE] < edge[0]) is side] for side in (True, False))
    compared = [_at_equal_time(found, gentle, row, of) for row in _apart([*below[-1:], *above[:1], *above[-1:]])]
    return "; ".join([told, *compared])


def _apart(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for i, row in enumerate(rows) if row not in rows[:i]]


def _at_equal_time(found: Found, slow: Mapping[str, Any], fast: Mapping[str, Any], of: str) -> str:
    """Say what a curve ends at, of what it does at a smaller rate that has come to the same lr x step."""
    counts = ("count", "mean", "std")
    count, mean, std = (np.array([[row[f"{of} {what}"]] for row in (fast, slow)], float) for what in counts)
    ratio = ratio_of_means(Moments(count[0], mean[0], std[0]), Moments(count[1], mean[1], std[1]), found.confidence)
    told = between(*(float(value[0]) for value in (ratio.ratio, ratio.low, ratio.high)))
    return f"at lr = {digits(fast[RATE], 3)} {of} ends at {told} of that ({fast['runs']} runs)"


def _at(found: Found, row: Mapping[str, Any], keys: Sequence[str] | None = None) -> str:
    place = found.place(row, keys)
    return f"{place}: " if place else ""


def _runs(found: Found, last: Mapping[str, Any], of: str) -> str:
    return f"({found.sure}, {counted({**last, 'count': last[f'{of} count']})})"


def _column(rows: polars.DataFrame, name: str) -> np.ndarray:
    return rows[name].to_numpy().astype(float)
