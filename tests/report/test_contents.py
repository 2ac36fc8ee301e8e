"""What a report holds of a directory: the same numbers as `dln.aggregate` and `load_sweep` give, as many as fit."""

import math

import numpy as np
import polars as pl
import pytest

import dln
from dln.__main__ import main
from dln.errors import StorageError
from dln.report import curves as curves_module
from dln.report import rows as rows_module
from dln.report.curves import planned, thinned
from dln.report.parts import read_contents
from dln.report.write import MOST_BYTES, as_page, report
from dln.results.finals import final_values
from tests.report.samples import AXES, RATES, SEEDS

pytestmark = pytest.mark.long


def only(directory, **options):
    [part] = read_contents(directory, **options).parts
    return part


@pytest.mark.parametrize("kept", ["seeds", "sums"])
def test_means_intervals_and_quantiles_are_those_of_aggregate(stored, kept):
    part = only(stored / kept)
    assert part.sums == (kept == "sums")
    assert (part.by, part.over) == (["training.lr", "training.batch_size"], ["training.batch_seed"])
    levels = [float(kind[1:]) for kind in part.curves.kinds if kind.startswith("q")]
    table = dln.aggregate(stored / kept, over="training.batch_seed", by=part.by, quantiles=levels)
    conditions = table.partition_by(part.by, maintain_order=True)
    assert len(conditions) == len(part.curves.steps) == 6
    for i, rows in enumerate(conditions):
        steps = part.curves.steps[i]
        np.testing.assert_array_equal(steps[np.isfinite(steps)], rows["step"])
        for column, told in zip(part.curves.columns, part.curves.told, strict=True):
            for kind, values in zip(part.curves.kinds, told[i], strict=True):
                wanted = rows[f"{column.name} {kind}"].cast(float).fill_null(math.nan).to_numpy()
                np.testing.assert_allclose(values[: len(wanted)], wanted, rtol=1e-12)
                assert np.isnan(values[len(wanted) :]).all()


def test_curves_of_runs_and_final_values_are_those_that_are_stored(stored):
    part = only(stored / "seeds")
    frame = dln.load_sweep(stored / "seeds")
    lists = frame.sort(*part.by, *part.over)["test_loss"].to_list()
    [place] = [i for i, column in enumerate(part.curves.columns) if column.name == "test_loss"]
    assert part.curves.runs.tolist() == [i // 3 for i in range(18)]
    for row, wanted in zip(part.curves.single[place], lists, strict=True):
        np.testing.assert_allclose(row[: len(wanted)], wanted)
    np.testing.assert_allclose(part.rows.values["test_loss"], [values[-1] for values in frame["test_loss"].to_list()])
    lost = frame["diverged_at"].is_not_null().to_numpy()
    assert lost.any()
    np.testing.assert_array_equal(part.rows.diverged, lost)
    for key in (*part.by, *part.over):
        assert [part.rows.keys[key][i] for i in part.rows.place[key]] == frame[key].to_list()
    at = [tuple(part.rows.keys[key][part.rows.place[key][row]] for key in part.by) for row in range(18)]
    assert [sorted(set(at)).index(one) for one in at] == part.rows.condition.tolist()


def test_of_sums_final_values_are_means_with_their_spread(stored):
    part = only(stored / "sums")
    ends = final_values(stored / "seeds", ["test_loss"], part.by)  # the same runs, with their curves
    np.testing.assert_allclose(part.rows.values["test_loss"], ends["test_loss"].fill_null(math.nan), rtol=1e-6)
    np.testing.assert_allclose(part.rows.spread["test_loss"], ends["test_loss std"].fill_null(math.nan), rtol=1e-4)
    np.testing.assert_array_equal(part.rows.diverged, ends["diverged"])
    assert part.rows.runs.tolist() == [3] * 6


def test_of_too_many_runs_rows_are_of_conditions(stored, monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_ROWS", 10)
    part = only(stored / "seeds")
    assert part.rows.summed
    ends = final_values(stored / "seeds", ["test_loss", "diverged_at"], part.by)
    for told, name in ((part.rows.values, "test_loss"), (part.rows.spread, "test_loss std")):
        values = told["test_loss"]
        np.testing.assert_allclose(values, ends[name].cast(float).fill_null(math.nan), rtol=1e-6)
    frame = dln.load_sweep(stored / "seeds")
    lost = frame.group_by(part.by).agg(pl.col("diverged_at").mean()).sort(part.by)["diverged_at"]
    np.testing.assert_array_equal(part.rows.values["diverged_at"], lost.fill_null(math.nan))
    np.testing.assert_array_equal(part.rows.diverged, ends["diverged"])
    assert part.rows.runs.tolist() == [3] * 6
    assert [*part.rows.keys] == part.by


@pytest.mark.parametrize("kept", ["seeds", "sums"])
def test_ratios_to_a_baseline_are_those_of_aggregate(stored, kept):
    baseline = {"training.batch_size": 5}
    part = only(stored / kept, baseline=baseline)
    table = dln.aggregate(stored / kept, "training.batch_seed", part.by, baseline=baseline)
    for i, rows in enumerate(table.partition_by(part.by, maintain_order=True)):
        for column, told in zip(part.curves.columns, part.curves.told, strict=True):
            for kind in ("ratio", "ratio low", "ratio high"):
                wanted = rows[f"{column.name} {kind}"].cast(float).fill_null(math.nan)
                np.testing.assert_array_equal(told[i, part.curves.kinds.index(kind), : len(rows)], wanted)
    assert np.isfinite(part.curves.told[0][0, part.curves.kinds.index("ratio")]).all()  # of batches of one


def test_ratios_of_a_study_are_those_of_its_tables(stored):
    table = pl.read_parquet(stored / "study" / "tables" / "offline.parquet")
    [part, _] = read_contents(stored / "study").parts
    assert "max_steps" in part.by  # which moves with gamma, and is no key of the table
    place = part.curves.kinds.index("ratio")
    told = np.concatenate([values[place][np.isfinite(values[place])] for values in part.curves.told[0]])
    np.testing.assert_array_equal(np.sort(told), table["test_loss ratio"].drop_nulls().sort())


def test_a_run_is_told_whole(stored):
    part = only(stored / "run")
    history = dln.load_run(stored / "run")
    assert [column.name for column in part.curves.columns][:2] == ["test_loss", "test_loss_gradient_flow"]
    for column, told in zip(part.curves.columns, part.curves.told, strict=True):
        head, _, entry = column.name.partition("[")
        wanted = history[head][:, int(entry[:-1]) - 1] if entry else history[head]
        np.testing.assert_array_equal(told[0, 0], wanted)
        assert part.rows.values[column.name] == wanted[-1]
    assert part.rows.events == [name for name in history.events if not isinstance(history.events[name], list)]


def test_a_comparison_has_lanes_and_no_theories(stored):
    part = only(stored / "pair")
    assert part.kind == "comparison"
    assert {(column.name, column.lane, column.group) for column in part.curves.columns} == {
        *((f"{kind}_loss_{lane}", lane, "loss") for kind in ("test", "train") for lane in "ab"),
        ("param_distance", "", "param_distance"),
    }


def test_a_study_has_a_part_for_each_sweep_and_its_sentences(stored):
    contents = read_contents(stored / "study")
    assert contents.kind == "study"
    assert [part.name for part in contents.parts] == ["offline", "online"]
    assert "leaves its baseline" in contents.sentences
    assert all(part.over == ["training.batch_seed"] for part in contents.parts)


def test_chosen_curves_come_with_what_theories_say_of_them(stored):
    part = only(stored / "run", of=["test_loss", "singular_values"])
    assert {column.name for column in part.curves.columns} == {
        *("test_loss", "test_loss_gradient_flow"),
        *(f"singular_values{theory}[{i}]" for i in range(1, 6) for theory in ("", "_gradient_flow")),
    }


def test_averaging_over_nothing_makes_each_run_a_condition(stored):
    part = only(stored / "seeds", over=["none"])
    assert (len(part.curves.steps), part.over, part.curves.kinds) == (18, [], ["mean"])


def test_what_cannot_be_reported_is_told_in_a_line(stored, tmp_path, capsys):
    for directory, options, fault in [
        (tmp_path, {}, "nothing to report"),
        (tmp_path / "nowhere", {}, "nothing to report"),
        (stored / "seeds", {"of": ["test_los"]}, "did you mean 'test_loss'"),
        (stored / "seeds", {"over": ["training.seed"]}, "no key 'training.seed'"),
        (stored / "seeds", {"over": ["model.gamma"]}, "does not vary"),
        (stored / "sums", {"over": ["none"]}, "keeps sums over training.batch_seed"),
        (stored / "run", {"baseline": {"training.lr": 1}}, "baseline is for a sweep"),
        (stored / "seeds", {"baseline": {"training.lr": 7}}, "no run in .* has training.lr=7"),
        (stored / "run", {"out": tmp_path / "report.pdf"}, "suffix must be .html"),
        (stored / "run", {"out": stored / "run" / "summary.json" / "r.html"}, "cannot write"),
    ]:
        with pytest.raises(StorageError, match=fault):
            report(directory, **{"out": tmp_path / "r.html", **options})
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path)])
    assert ended.value.code == 2
    assert "nothing to report" in capsys.readouterr().err


def test_a_run_without_a_record_is_told(tmp_path):
    (tmp_path / "history.jsonl").touch()
    with pytest.raises(StorageError, match="no record"):
        report(tmp_path)


@pytest.mark.parametrize("name", ["run", "pair", "seeds", "sums", "odd", "lost", "study"])
def test_one_directory_gives_one_file(stored, tmp_path, name):
    first, second = (report(stored / name, tmp_path / f"{i}.html").path.read_bytes() for i in range(2))
    assert first == second


def test_the_command_says_what_it_wrote(stored, capsys):
    main(["report", str(stored / "seeds"), "-o", str(stored / "r.html")])
    size = (stored / "r.html").stat().st_size
    assert capsys.readouterr().out == f"report of 18 runs in {stored / 'r.html'} ({size / 1000:.3g} kB)\n"


def test_records_are_thinned_evenly_and_by_ratio():
    for count, most in [(1, 5), (5, 5), (10**5, 50)]:
        kept = thinned(count, most)
        assert kept[0] == 0
        assert kept[-1] == count - 1
        assert len(kept) <= most
        assert (np.diff(kept) > 0).all()
    assert np.diff(kept).max() <= 10**5 / 24 + 1
    assert (kept < 100).sum() > 5


@pytest.mark.parametrize(("conditions", "kinds", "runs"), [(1, 6, 10**6), (500, 6, 20), (10**4, 1, 0), (10**6, 1, 0)])
@pytest.mark.parametrize("columns", [1, 9, 200])
def test_a_plan_keeps_to_its_bounds(conditions, kinds, runs, columns):
    plan = planned(conditions, kinds, runs, columns)
    assert 1 <= plan.columns <= columns
    assert plan.runs * conditions <= curves_module.MOST_RUNS
    numbers = conditions * (kinds + plan.runs) * plan.columns * plan.records
    assert numbers <= curves_module.MOST_NUMBERS or (plan.columns, plan.records) == (1, curves_module.LEAST_RECORDS)


def test_a_report_is_thinned_until_it_is_small(monkeypatch, tmp_path):
    """Curves of pure noise, which no compression makes smaller, of as many runs as a page's plan takes."""
    monkeypatch.setattr(curves_module, "MOST_NUMBERS", 10**7)
    generator = np.random.default_rng(0)
    contents = read_contents(_noisy(tmp_path, generator, runs=150, records=400))
    before = contents.parts[0].curves.steps.shape[1]
    text = as_page(contents)
    assert before == 400
    assert len(text) <= MOST_BYTES
    assert 30 < contents.parts[0].curves.steps.shape[1] < before


def _noisy(directory, generator, runs, records):
    dln.run_sweep({**AXES, "training.lr": np.linspace(1e-4, 1e-3, runs).tolist()}, directory=directory)
    from dln.results import tables

    path = directory / "results.parquet"
    table = tables.read([path])
    noise = generator.standard_normal((runs, records, 60))
    columns = {f"noise.{i}": noise[..., i] for i in range(60)}
    told = tables.columns_of(path)
    made = tables.make_table(
        table["run"].to_pylist(),
        {key: table[key].to_pylist() for key in told["config"]},
        {key: table[key].to_pylist() for key in told["events"]},
        {"step": np.tile(np.arange(records), (runs, 1)), "test_loss": noise[..., 0] ** 2, **columns},
    )
    tables.write([made], path)
    return directory


def test_samples_are_what_these_tests_take_them_for(stored):
    assert len(dln.load_sweep(stored / "seeds")) == len(RATES["training.lr"]) * 2 * len(SEEDS["training.batch_seed"])
