"""`dln aggregate`: what it prints and writes is the table that `dln.aggregate` gives."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import dln
from dln.__main__ import main
from dln.studies.outcomes import outcomes
from tests.studies.test_aggregate import GD, SEED, SIZE, WIDTH, made, stored


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("study") / "sweep", made())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_all_steps_go_to_a_file(sweep, tmp_path, kind, capsys):
    path = tmp_path / "deep" / f"all.{kind}"
    main(["aggregate", str(sweep), "--over", SEED, "--of", "loss", "--quantiles", "0.1,0.9", f"--{kind}", str(path)])
    table = dln.aggregate(sweep, SEED, of=["loss"], quantiles=[0.1, 0.9])
    assert_frame_equal(getattr(pl, f"read_{kind}")(path), table, check_dtypes=kind == "parquet")
    assert f"{len(table)} rows in {path}" in capsys.readouterr().out


def test_a_row_for_each_condition_and_a_sentence_for_each_that_has_a_baseline(sweep, capsys):
    main(["aggregate", str(sweep), "--over", SEED, "--of", "loss,norms[1]", "--baseline", f"{SIZE}=null"])
    title, *lines = capsys.readouterr().out.splitlines()
    told = outcomes(dln.aggregate(sweep, SEED, of=["loss", "norms[1]"], baseline=GD))
    rows = [line for line in lines if line.startswith("│")]
    assert SEED in title
    assert len(rows) == len(told) == 12
    for line, row in zip(rows, told.iter_rows(named=True), strict=True):
        size, width, runs, diverged, step, curve, mean, baseline, *_ = (
            entry.strip() for entry in line.strip("│").split("│")
        )
        assert (size, int(width)) == ("null" if row[SIZE] is None else str(row[SIZE]), row[WIDTH])
        assert (int(runs), int(diverged), int(step), curve) == (6, row["diverged"], 15, row["curve"])
        assert float(mean.split(" ")[0]) == pytest.approx(row["mean"], rel=1e-3)
        assert baseline == "-" or float(baseline) == pytest.approx(row["baseline"], rel=1e-3)
    sentences = lines[-8:]
    assert all(line.startswith(f"{SIZE}=1, {WIDTH}=") and "4 of 6 runs, 2 diverged)" in line for line in sentences[:4])
    assert all(line.startswith(f"{SIZE}=10, {WIDTH}=") and "5 of 6 runs, 1 stopped)" in line for line in sentences[4:])


def test_outcomes_tell_where_conditions_leave_their_baseline():
    side, p = [0, 1, -1, -1, None, 0, -1, None], [1.0, 0.01, 0.02, 0.03, None, 1.0, 0.04, None]
    table = pl.DataFrame({SIZE: [1] * 4 + [2] * 4, "step": [0, 5, 10, 15] * 2, "runs": [9] * 8, "diverged": [0] * 8})
    rest = [f"loss {name}" for name in ("count", "mean", "low", "high", "baseline", "ratio", "ratio low", "ratio high")]
    table = table.with_columns(*(pl.lit(1.0).alias(name) for name in ("stopped", "lost", *rest, "loss g")))
    table = table.with_columns(pl.Series("loss side", side), pl.Series("loss p corrected", p))
    found = outcomes(table).select(SIZE, "first", "first side", "first p", "lasting", "lasting side").rows()
    assert found == [(1, 5, 1, 0.01, 10, -1), (2, 10, -1, 0.04, 10, -1)]


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        (["--baseline", f"{SIZE}=3"], "has training.batch_size=3; it has"),
        (["--baseline", "training.batch_sze=3"], "did you mean 'training.batch_size'"),
        (["--baseline", "nowhere"], "no results of a sweep in nowhere"),
        (["--baseline", f"{SIZE}=1,{WIDTH}"], "--baseline takes KEY=VALUE"),
        (["--confidence", "1"], "confidence must lie between 0 and 1"),
        (["--of", "norms"], "'norms' is a vector of 2"),
        (["--csv", "{file}/a.csv"], "cannot be written"),
    ],
)
def test_errors_are_one_line(sweep, tmp_path, argv, fault, capsys):
    (tmp_path / "file").touch()
    argv = [word.format(file=tmp_path / "file") for word in argv]
    with pytest.raises(SystemExit) as end:
        main(["aggregate", str(sweep), "--over", SEED, *argv])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert fault in line
