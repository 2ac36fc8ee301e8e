"""Sentences of made-up runs, where they leave a path and by how much being known."""

import re

import numpy as np
import polars as pl
import pytest

import dln
from dln.errors import ConfigError
from dln.studies.crossing import crossing
from dln.studies.found import Found
from dln.studies.sentences import boundary, crossings, departures, escapes

SEED, SIZE, GAMMA, RATE = "training.batch_seed", "training.batch_size", "model.gamma", "training.lr"
STEPS = np.arange(0, 100, 10)


def runs(condition, curves, count=40, lost=None, seed=0, at=85):
    """Rows of runs: each curve [T] times noise of 1 %; the first `lost` of them diverge at a step."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        gone = lost is not None and i < lost
        kept = at > STEPS if gone else slice(None)
        row = {**condition, SEED: i, "diverged_at": at if gone else None, "step": STEPS[kept].tolist()}
        yield row | {n: (c * (1 + 0.01 * rng.normal(size=len(STEPS))))[kept].tolist() for n, c in curves.items()}


def found(rows, by, baseline=None, lr=0.5, of=None):
    table = dln.aggregate(pl.DataFrame([*rows], infer_schema_length=None), SEED, by, of, baseline)
    return {"made": Found("made", "made up", table, lr=lr)}


def test_departures_are_where_they_were_made():
    path = 3 * np.exp(-STEPS / 50)
    rows = []
    for i, (gamma, size) in enumerate((g, s) for g in (1.0, 1.5) for s in (None, 1, 10)):
        factor = np.ones(10)
        if size is not None:
            factor[3:] += {1: 0.5, 10: 0.25}[size]
        if gamma == 1.5:
            factor[:] = 1
        flat = [{**row, "loss": path.tolist()} for row in runs({GAMMA: gamma, SIZE: size}, {"loss": path})]
        rows += flat if size is None else runs({GAMMA: gamma, SIZE: size}, {"loss": path * factor}, seed=i + 6)
    summary, heading, *lines = departures(found(rows, [GAMMA, SIZE], {SIZE: None}), "loss", SIZE)
    assert summary.startswith("loss leaves its baseline in 2 of 4 conditions of 160 runs, 0 of them diverged (95 %")
    assert "farthest made at gamma 1, batch size 1: it leaves at step 30 (lr x step = 15), above it" in summary
    ratio, low, high = map(float, re.search(r"it is (\S+) \[(\S+), (\S+)\] of it \(95 %, 40 runs\)", summary).groups())
    assert low < 1.5 < high
    assert high - low < 4 * 1.5 * 0.01 / np.sqrt(40) * 1.2
    assert low < ratio < high
    assert heading == "made: made up"
    assert [line.partition(", first")[0] for line in lines] == [
        "  batch size 1: leaves in 1 of 2",
        "  batch size 10: leaves in 1 of 2",
    ]
    assert all("first at step 30 (lr x step = 15; gamma 1)" in line for line in lines)


@pytest.mark.long
def test_departures_by_chance_are_none_of_one_study_in_twenty():
    """Of studies of eight conditions without any difference, at most 5 % say that one leaves."""
    rng = np.random.default_rng(1)
    said = 0
    for _ in range(30):
        values = rng.normal(10, 1, size=(9, 8, len(STEPS)))
        rows = [
            {
                SIZE: None if size == 0 else size,
                SEED: i,
                "diverged_at": None,
                "step": STEPS.tolist(),
                "loss": v.tolist(),
            }
            for size, some in enumerate(values)
            for i, v in enumerate(some if size else np.full((8, len(STEPS)), 10.0))
        ]
        said += " in 0 of 8 " not in departures(found(rows, [SIZE], {SIZE: None}), "loss", SIZE)[0]
    assert said <= 5  # more has a probability of 0.3 % at most


@pytest.mark.parametrize("at", [85, 95])
def test_diverged_runs_are_counted(at):
    """Those that diverge after their last record, too, whose values were there to the end."""
    flat = np.ones(10)
    rows = [{**row, "loss": [1.0] * 10} for row in runs({SIZE: None}, {"loss": flat})]
    rows += runs({SIZE: 1}, {"loss": 2 * flat}, lost=3, at=at)
    summary, *_, line = departures(found(rows, [SIZE], {SIZE: None}), "loss", SIZE)
    assert "of 40 runs, 3 of them diverged" in summary
    assert ("37 of 40 runs, 3 diverged" if at < STEPS[-1] else "(95 %, 40 runs)") in summary
    assert line.endswith("; 3 of 40 runs diverged")


def test_without_a_baseline_nothing_leaves_it():
    with pytest.raises(ConfigError, match="no condition has a baseline to compare loss with"):
        departures(found(runs({SIZE: 1}, {"loss": np.ones(10)}), [SIZE]), "loss", SIZE)
    with pytest.raises(ConfigError, match="has no 'los'; did you mean 'loss'"):
        departures(found(runs({SIZE: 1}, {"loss": np.ones(10)}), [SIZE]), "los", SIZE)


def test_crossings_are_where_they_were_made():
    falling = np.where(STEPS < 45, 2.0, 0.5)
    rows = [*runs({SIZE: 1}, {"snr": falling / 10}), *runs({SIZE: 10}, {"snr": falling})]
    rows += [*runs({SIZE: 50}, {"snr": falling * 10})]
    summary, _, *lines = crossings(found(rows, [SIZE]), "snr", what="drift / noise")
    assert summary.startswith("the median of drift / noise falls below 1 for good in 1 of 3 conditions of 120 runs")
    assert summary.endswith("from the first record on in 1")
    assert lines[0] == "  batch size 1: below 1 from the first record on (95 %, 40 runs)"
    assert lines[1].startswith("  batch size 10: falls below 1 for good by step 50 (between 40 and 50; lr x step = 25)")
    assert lines[2].startswith("  batch size 50: not for good below 1")


def test_escapes_are_where_they_were_made():
    rising = np.where(STEPS < 35, 0.1, 8.0)
    curves = {"a": rising, "b": rising[::-1] * 1e-3, "c": np.roll(rising, 2) + (STEPS > 60) * 0.1}
    summary, _, place, a, b, c = escapes(found(runs({SIZE: 1}, curves), [SIZE]), ["a", "b", "c"], ["A", "B", "C"])
    assert summary == "2 of 3 modes are learned, 1 never, in 1 conditions of 40 runs"
    assert place == "  (95 %, 40 runs)"
    assert re.match(
        r"    A comes to 0.5 of its [78]\.\d+ at the end by step 40 \(between 30 and 40; lr x step = 20\)", a
    )
    assert b.startswith("    B is not learned: 0.008")
    assert "at the end" in c


@pytest.mark.parametrize("at", [85, 95])
def test_a_boundary_is_where_it_was_made(at):
    rows = []
    for lr in (0.01, 0.02, 0.03, 0.04):
        loss = np.full(10, 1.0 if lr < 0.025 else 4.0)
        curves = {"full_train_loss": loss, "sharpness": np.full(10, 80.0)}
        rows += runs({RATE: lr}, curves, lost=5 if lr == 0.04 else None, seed=round(100 * lr), at=at)
    _, line = boundary(found(rows, [RATE], lr=None))
    assert "of 160 runs 5 diverge, from lr = 0.0400 on (5 of 40 there)" in line
    edge, low, high = map(float, re.search(r"lr = 0.0100 is (\S+) \[(\S+), (\S+)\] \(95 %\)", line).groups())
    assert low < 2 / 80 < high
    assert low < edge < high
    below, above = (
        tuple(map(float, re.search(rf"at lr = {lr} full_train_loss ends at (\S+) \[(\S+), (\S+)\]", line).groups()))
        for lr in ("0.0200", "0.0300")
    )
    assert below[1] < 1 < below[2]
    assert above[1] < 4 < above[2]


def test_a_curve_crosses_where_it_stays():
    where = crossing([2, 0.5, 2, 0.5, np.nan, 0.4], [1.5, 0.4, 1.5, 0.3, np.nan, 0.3], [3, 1, 3, 2, np.nan, 0.5], 1)
    assert (where.at, where.low, where.high, where.begins_below) == (3, 3, 5, False)
    assert crossing([np.nan], [np.nan], [np.nan], 1).begins_below is None
    assert crossing([0.5, 0.5], [0, 0], [2, 2], 1).at is None
