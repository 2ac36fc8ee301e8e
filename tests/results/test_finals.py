"""Final values of sweeps: means by keys, and spreads over what runs differ in, against loops over the runs."""

import itertools

import numpy as np
import pytest

from dln.__main__ import main
from dln.errors import StorageError
from dln.results.finals import final_values, find_finals
from dln.results.sweep import SweepStore
from dln.results.tables import make_table

LR, WIDTH = "training.lr", "model.hidden_dim"
DATA, MODEL, BATCH = "data.data_seed", "training.model_seed", "training.batch_seed"


def stored(directory, rows, seed=0):
    """Store runs with these configs, made up; return them with what they ended with."""
    rng, count = np.random.default_rng(seed), len(rows)
    curves = {"loss": rng.lognormal(size=(count, 3)), "norms": rng.normal(size=(count, 3, 2))}
    lost = [5 if row.get("lost") else None for row in rows]
    escapes = [[float(i), None] for i in range(count)]
    config = {key: [row[key] for row in rows] for key in rows[0] if key != "lost"}
    events = {"diverged_at": lost, "escapes": escapes}
    (directory / "parts").mkdir(parents=True)
    SweepStore(directory).write(make_table([f"{i:024x}" for i in range(count)], config, events, curves))
    ends = {"loss": curves["loss"][:, -1], "norms[2]": curves["norms"][:, -1, 1], "escapes[1]": np.arange(count)}
    return [row | {name: float(end[i]) for name, end in ends.items()} for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Runs of two rates, data, models and batches, of which some are missing and some diverged, in no order."""
    rng = np.random.default_rng(1)
    axes = {LR: [0.1, 0.2], WIDTH: [4, 8], DATA: [0, 1], MODEL: [0, 1, 2], BATCH: [0, 1, 2, 3], "max_steps": [9]}
    rows = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    rows = [rows[i] | {"lost": bool(rng.random() < 0.2)} for i in rng.permutation(len(rows))[:70]]
    directory = tmp_path_factory.mktemp("study")
    return directory, stored(directory, rows)


def agreeing(rows, keys):
    """Yield the rows of each combination of keys."""
    for values in sorted({tuple(row[key] for key in keys) for row in rows}):
        yield [row for row in rows if tuple(row[key] for key in keys) == values]


def spread(rows, outer, inner, name):
    """The standard deviation of means of runs that agree in `inner`, among runs that agree in `outer`, pooled."""
    squares = free = 0
    for some in agreeing(rows, outer):
        means = np.array([np.mean([row[name] for row in cell]) for cell in agreeing(some, [*outer, *inner])])
        squares, free = squares + ((means - means.mean()) ** 2).sum(), free + len(means) - 1
    return np.sqrt(squares / free) if free else None


@pytest.mark.parametrize(
    ("by", "keys", "levels"),
    [
        (None, [LR, WIDTH], [(DATA,), (MODEL,), (BATCH,)]),
        ([WIDTH, LR], [WIDTH, LR], [(DATA,), (MODEL,), (BATCH,)]),
        ([LR], [LR], [(WIDTH,), (DATA,), (MODEL,), (BATCH,)]),
        ([DATA, MODEL], [DATA, MODEL], [(LR, WIDTH), (BATCH,)]),
        ([LR, WIDTH, DATA, MODEL], [LR, WIDTH, DATA, MODEL], [(BATCH,)]),
        (["max_steps"], ["max_steps"], [(LR, WIDTH), (DATA,), (MODEL,), (BATCH,)]),
    ],
)
def test_means_and_spreads_are_those_of_loops(by, keys, levels, study):
    directory, rows = study
    finals = find_finals(directory, by=by)
    assert (finals.keys, finals.levels) == (keys, levels)
    groups = list(agreeing(rows, keys))
    assert finals.frame.select(keys).rows() == [tuple(some[0][key] for key in keys) for some in groups]
    assert finals.frame["runs"].to_list() == [len(some) for some in groups]
    assert finals.frame["diverged"].to_list() == [sum(row["lost"] for row in some) for some in groups]
    for name, (at, some) in itertools.product(["loss", "norms[2]", "escapes[1]"], enumerate(groups)):
        kept = [row for row in some if not row["lost"]]
        np.testing.assert_allclose(finals.frame[name][at], np.mean([row[name] for row in kept]), rtol=1e-12)
        for i, level in enumerate(levels):
            wanted = spread(kept, [*keys, *itertools.chain(*levels[:i])], level, name)
            found = finals.frame[finals.spread(name, i)][at]
            assert (found is None) == (wanted is None)
            np.testing.assert_allclose(found or 0, wanted or 0, rtol=1e-12)


def test_what_moves_together_has_one_spread(tmp_path):
    seeds = [{LR: lr, DATA: 7 + i, MODEL: i, BATCH: 3 * i + j} for lr in (0.1, 0.2) for i in range(3) for j in range(2)]
    stored(tmp_path / "nested", seeds)
    assert find_finals(tmp_path / "nested").levels == [(DATA, MODEL), (BATCH,)]
    assert find_finals(tmp_path / "nested", by=[MODEL]).levels == [(LR,), (BATCH,)]
    rows = stored(tmp_path / "zipped", [{LR: 0.1 * i, MODEL: i} for i in range(4)])
    finals = find_finals(tmp_path / "zipped")
    assert finals.levels == []
    np.testing.assert_allclose(finals.frame["loss"], [row["loss"] for row in rows])
    assert not [name for name in finals.frame.columns if "std" in name]


def test_one_spread_is_the_plain_standard_deviation(tmp_path):
    rows = stored(tmp_path / "s", [{MODEL: i} for i in range(5)])
    table = final_values(tmp_path / "s", ["loss"])
    assert table.columns == ["runs", "diverged", "loss", "loss std"]
    np.testing.assert_allclose(table["loss std"][0], np.std([row["loss"] for row in rows], ddof=1), rtol=1e-12)


def test_the_table_says_what_its_spreads_are_over(study, capsys):
    main(["show", str(study[0]), "loss", "--by", f"{LR},{WIDTH},{DATA}"])
    told = capsys.readouterr().out
    assert f"mean ± standard deviation over {MODEL} ± over {BATCH} within each: {study[0]}" in told
    row = find_finals(study[0], ["loss"], [LR, WIDTH, DATA]).frame.row(0, named=True)
    between, within = row[f"loss std over {MODEL}"], row[f"loss std over {BATCH}"]
    assert f"{row['loss']:.3e} ± {between:.0e} ± {within:.0e}" in told


def test_unknown_keys_are_named(study, capsys):
    with pytest.raises(StorageError, match=r"no key 'training.lrr'; did you mean 'training.lr'"):
        find_finals(study[0], by=["training.lrr"])
    with pytest.raises(SystemExit):
        main(["show", str(study[0]), "--by", "lr,"])
    assert capsys.readouterr().err.count("\n") == 1
