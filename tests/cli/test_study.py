"""Studies from the file to the sentence: by the command and from Python, interrupted and gone on with."""

import shlex

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

import dln
from dln.__main__ import main
from dln.errors import ConfigError, StorageError
from dln.metrics import model_metric
from dln.studies.study import names

TINY = {
    "golden_path": ["seeds=3", "slow=6", "middle=5", "fast=4", "large=60", "model.hidden_dim=4"],
    "drift_diffusion": ["seeds=3", "slow=6", "middle=5", "fast=4", "model.hidden_dim=4"],
    "singular_values": ["seeds=3", "steps=6", "model.hidden_dim=4"],
    "learning_rates": ["seeds=3", "training.lr=0.001,0.01", "max_steps=6", "model.hidden_dim=4"],
}
MINE = {
    "about": "Does SGD leave the path?",
    "scaled": {"seeds": [3, 9]},
    "scale": 0.5,
    "sweep": {"training.batch_seed": "range({seeds})", "model.hidden_dim": 4, "max_steps": 20, "evaluate_every": 10},
    "parts": {
        name: {
            "sweep": {"training.batch_size": "null,5", "data.noise_std": noise},
            "aggregate": {
                "over": "training.batch_seed",
                "of": ["test_loss"],
                "baseline": {"training.batch_size": None},
            },
            "store": store,
        }
        for name, noise, store in (("quiet", 0.0, "curves"), ("noisy", 2.0, "sums"))
    },
    "figures": {"path": {"name": "ratio"}},
    "sentences": ["departures"],
}


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINE, sort_keys=False), encoding="utf-8")
    return path


def test_the_command_leaves_tables_figures_and_the_sentence(mine, tmp_path, capsys):
    main(["study", str(mine), "max_steps=30", f"hydra.sweep.dir={tmp_path / 'done'}"])
    out = capsys.readouterr().out
    summary = (tmp_path / "done/summary.txt").read_text(encoding="utf-8")
    said = next(line for line in out.splitlines() if line.startswith("test_loss leaves its baseline in "))
    assert " of 2 conditions of 6 runs" in said
    assert said in summary
    assert f"dln study {mine} max_steps=30 hydra.sweep.dir={tmp_path / 'done'}" in summary
    for name in ("quiet", "noisy"):
        table = pl.read_parquet(tmp_path / f"done/tables/{name}.parquet")
        of = {"over": "training.batch_seed", "of": ["test_loss"], "baseline": {"training.batch_size": None}}
        assert_frame_equal(table, dln.aggregate(tmp_path / "done" / name, **of))
        assert_frame_equal(pl.read_csv(tmp_path / f"done/tables/{name}.csv"), table, check_dtypes=False)
        assert table["step"].max() == 30
        for kind in ("pdf", "png"):
            assert (tmp_path / f"done/figures/path_{name}.{kind}").stat().st_size > 2000
    quiet, noisy = [line for line in summary.splitlines() if line.startswith("  dln run -m ")]
    assert (" data.noise_std=0.0 " in quiet, " data.noise_std=2.0 " in noisy) == (True, True)
    assert len(dln.load_sweep(tmp_path / "done/quiet")) == 6
    assert (tmp_path / "done/noisy/aggregates.parquet").exists()


@pytest.mark.long
def test_an_interrupted_study_goes_on(tmp_path, capsys):
    mine, calls = tmp_path / "mine.yaml", []
    mine.write_text(yaml.safe_dump({**MINE, "figures": {}}, sort_keys=False), encoding="utf-8")

    @model_metric("interrupts", cost="cheap")
    def interrupts(model) -> float:
        calls.append(model)
        if len(calls) == 10:  # six records are of each part
            raise KeyboardInterrupt
        return 0.0

    words = ["metrics=[interrupts]", "training.batch_seed=0,1", "training.batch_size=null,5"]
    words += ["max_steps=2", "evaluate_every=2"]
    with pytest.raises(SystemExit, match="130"):
        main(["study", str(mine), *words, f"hydra.sweep.dir={tmp_path / 'one'}"])
    told = capsys.readouterr().err
    assert shlex.split(told.partition("go on with: ")[2])[:3] == ["dln", "study", str(mine)]
    again = dln.run_study(mine, words, directory=tmp_path / "one")
    whole = dln.run_study(mine, words, directory=tmp_path / "whole")
    assert again.sentences == whole.sentences
    for name, table in again.tables.items():
        assert_frame_equal(table, whole.tables[name])


def test_what_is_wrong_is_told_before_anything_runs(mine, tmp_path):
    for words in (["training.btch=1"], ["data.noise_std=-1"], ["hydra.sweeper.zip=[training.lr,model.gamma]"]):
        with pytest.raises(ConfigError, match=r"^quiet: "):
            dln.run_study(mine, words, directory=tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(StorageError, match="holds something else than a study; choose another directory"):
        dln.run_study(mine, directory=tmp_path / "other")
    assert not (tmp_path / "none").exists()


@pytest.mark.long
def test_a_dry_run_and_the_list(mine, capsys):
    assert dln.run_study(mine, {"seeds": 2}, dry_run=True).directory == ""
    assert capsys.readouterr().out.count("4 runs of 2 kinds, each trained together:") == 2
    main(["study"])
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert told == names()


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    ["singular_values", *(pytest.param(n, marks=pytest.mark.long) for n in sorted(TINY) if n != "singular_values")],
)
def test_those_of_the_package_come_to_their_sentences(name, tmp_path):
    report = dln.run_study(name, TINY[name], directory=tmp_path / "study")
    assert report.failed == 0
    assert all(f"{table['runs'][0]} " in "\n".join(report.sentences) for table in report.tables.values())
    assert report.figures
    assert (tmp_path / "study/summary.txt").exists()
