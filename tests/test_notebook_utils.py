"""One line each: run, compare, sweep, plot."""

from __future__ import annotations

import numpy as np
import pytest
from polars.testing import assert_frame_equal

import dln
from dln.composing.spelling import spelled
from dln.errors import ConfigError
from notebook_utils import Sweep, average, compare, plot, run, sweep

SHORT = {"max_steps": 6, "evaluate_every": 3}


def test_run_is_run_experiment_with_overrides_and_keywords():
    history = run("training.lr=0.01", metrics=["weight_norm"], **SHORT)
    expected = dln.run_experiment(["training.lr=0.01", "metrics=[weight_norm]", "max_steps=6", "evaluate_every=3"])
    assert history.records == expected.records


def test_run_takes_a_config_by_name():
    assert run(config_name="diagonal_teacher", **SHORT)["singular_values"].shape == (3, 5)


def test_run_takes_callbacks_with_null():
    switch = {"name": "switch_batch_size", "params": {"step": 3, "batch_size": None}}
    plain = run("training.batch_size=10", **SHORT)
    switched = run("training.batch_size=10", callbacks=[switch], **SHORT)
    assert switched.records[0] == plain.records[0]
    assert switched.records[1]["test_loss"] == plain.records[1]["test_loss"]  # the same theta_3 ...
    assert switched.records[1]["train_loss"] != plain.records[1]["train_loss"]  # ... on another batch


def test_own_data_reaches_every_function():
    x = np.random.default_rng(0).standard_normal((20, 3))
    dataset = dln.Dataset.from_arrays(x, x[:, :2])
    assert run(dataset=dataset, **SHORT).names == ["step", "train_loss"]
    assert compare(dataset=dataset, comparative_metrics=[], **SHORT).names == ["step", "train_loss_a", "train_loss_b"]
    assert sweep("training.lr", [0.1], dataset=dataset, **SHORT)[0.1].names == ["step", "train_loss"]


def test_compare_trains_two_lanes():
    history = compare("training_b.batch_size=10", model_metrics=["weight_norm"], **SHORT)
    assert {"weight_norm_a", "weight_norm_b", "param_distance"} <= set(history.names)
    assert history["train_loss_a"][0] != history["train_loss_b"][0]


def test_sweep_maps_values_to_runs():
    runs = sweep("training.lr", [0.001, 0.01], "max_steps=6", evaluate_every=3)
    assert (runs.key, list(runs)) == ("training.lr", [0.001, 0.01])
    for lr, history in runs.items():
        assert history.records == run(f"training.lr={lr}", **SHORT).records


def test_sweep_writes_python_values_as_configs_do():
    assert list(sweep("training.batch_size", [5, None], **SHORT)) == [5, None]
    widths = sweep("model.hidden_dim", [(4, 3, 4)], metrics=["layer_norms"], **SHORT)
    assert widths[4, 3, 4]["layer_norms"].shape == (3, 4)


def test_sweep_of_comparisons():
    runs = sweep("shared.training.lr", np.array([0.001, 0.002]), "training_b.batch_size=10", **SHORT)
    assert [history["train_loss_b"].shape for history in runs.values()] == [(3,), (3,)]


def test_average_is_the_aggregate_of_a_stored_sweep(tmp_path):
    what = {"of": "test_loss", "baseline": {"training.batch_size": None}}
    table = average(
        "training.batch_seed", range(3), "training.batch_size=null,2", directory=tmp_path / "s", **what, **SHORT
    )
    assert_frame_equal(table, dln.aggregate(tmp_path / "s", "training.batch_seed", **what))
    assert table.select("training.batch_size", "step").rows() == [
        (size, step) for size in (None, 2) for step in (0, 3, 6)
    ]
    drawn, again = (plot(what).axes[0] for what in (table, tmp_path / "s"))
    for line, size in zip(drawn.lines, (2, None), strict=True):
        mean = table.filter(table["training.batch_size"].eq_missing(size))["test_loss mean"]
        np.testing.assert_array_equal(line.get_ydata(), mean)
    assert [line.get_label() for line in again.lines] == [line.get_label() for line in drawn.lines] == ["2", "full"]
    [runs] = plot(dln.load_sweep(tmp_path / "s")).axes
    assert [line.get_label() for line in runs.lines] == ["2", "full"]
    [ratios] = plot(table, figure="ratio").axes
    np.testing.assert_array_equal(ratios.lines[1].get_ydata(), table["test_loss ratio"].drop_nulls())
    with pytest.raises(ConfigError, match="over: the table is averaged already"):
        plot(table, over="training.batch_seed")
    with pytest.raises(ConfigError, match=r"average takes a list of values: \[3\]"):
        average("training.batch_seed", 3)  # type: ignore[arg-type]


def test_plot_chooses_by_what_it_is_given():
    for result, drawn in ((run(**SHORT), 2), (compare(**SHORT), 4)):
        assert sum(line.get_gid() is None for line in plot(result).axes[0].lines) == drawn  # beside levels and marks
    swept = plot(sweep("training.lr", [0.001, 0.01, 0.1], **SHORT), metric="test_loss").axes[0]
    legend = swept.get_legend()
    assert legend is not None
    assert (len(swept.lines), swept.get_ylabel(), legend.get_title().get_text()) == (3, "test loss", "training.lr")


def test_plot_takes_a_plain_dict_and_options():
    history = run(metrics=["weight_norm"], **SHORT)
    assert plot({"x": history}, key="mine").axes[0].get_legend().get_title().get_text() == "mine"  # type: ignore
    assert plot(Sweep("swept", {"x": history}), key="mine").axes[0].get_legend().get_title().get_text() == "mine"  # type: ignore
    assert len(plot(history, metrics=[], title="t").axes) == 1


def test_faults_are_the_config_errors_of_the_core():
    with pytest.raises(ConfigError, match=r"did you mean 'training\.lr'"):
        run("training.lrr=1")
    with pytest.raises(ConfigError, match="max_steps"):
        run(max_step=3)


@pytest.mark.parametrize("text", ["plain", "a, b", "it's", 'say "x"', "${not.a.key", "back\\slash"])
def test_strings_reach_the_config_as_they_are(text: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([f"key={spelled(text)}"])
    value = override.value()
    assert (value.text if hasattr(value, "text") else value) == text  # type: ignore[union-attr]


def test_overrides_may_be_words_lists_and_mappings():
    expected = run("training.lr=0.01", "data.noise_std=1.0", **SHORT).records
    assert run(["training.lr=0.01", "data.noise_std=1.0"], SHORT).records == expected
    assert run({"training": {"lr": np.float64(0.01)}}, data={"noise_std": 1}, **SHORT).records == expected


def test_values_of_a_sweep_may_be_what_python_has(tmp_path):
    widths = sweep("model.hidden_dim", [[4, 3, 4], np.array([5, 5, 5])], **SHORT)
    assert list(widths) == [(4, 3, 4), (5, 5, 5)]
    teachers = sweep("data.params", ({"matrix": name} for name in ("diagonal", "identity")), **SHORT)
    assert list(teachers) == ['{matrix: "diagonal"}', '{matrix: "identity"}']
    assert len(plot(list(widths.values()), save=tmp_path / "x.png").axes[0].lines) == 2
    assert (tmp_path / "x.png").exists()
    assert list(sweep("training.lr", [], **SHORT)) == []


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: sweep("training.lr", 0.1), r"a list of values: \[0.1\]"),  # type: ignore[arg-type]
        (lambda: sweep("model.init", "aligned"), r"a list of values: \['aligned'\]"),
        (lambda: sweep("training.lr", [0.1, -1]), r"configs\[1\]: training.lr must be greater than 0"),
        (lambda: run(metrics=[len]), r"metrics\[0\]: .* is nothing that a config holds"),
        (lambda: run(dataset=(np.ones(3), np.ones(3))), "dataset must be a dln.Dataset"),  # type: ignore[arg-type]
        (lambda: dln.run_experiment(None), "a config is a mapping, or a list"),  # type: ignore[arg-type]
        (lambda: dln.run_experiment([{"max_steps": 3}]), "a config is a mapping, or a list"),  # type: ignore[list-item]
        (lambda: dln.run_experiments({"max_steps": 3}), "configs are a list of configs"),
    ],
)
def test_what_is_no_config_is_said_in_a_line(call, named):
    with pytest.raises(ConfigError, match=named):
        call()


def test_a_run_may_be_stored(tmp_path):
    history = run(directory=tmp_path / "run", **SHORT)
    assert dln.load_run(tmp_path / "run").records == history.records
