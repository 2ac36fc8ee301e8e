"""What columns may be called: one list of taken names, one message at every door."""

import pytest

import dln
from dln.composing.compose import resolve
from dln.composing.keys import keys
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError
from dln.factory import check_names
from dln.measure.columns import TAKEN, check_apart, check_label, lane_columns
from dln.results.tables import RUN

CONFIG_KEYS = sorted({key for schema in (SingleConfig, ComparativeConfig) for key in keys(schema)})


@pytest.mark.parametrize("label", [*TAKEN, RUN, "diverged_at_b", "data.params.scale", *CONFIG_KEYS])
def test_what_every_table_has_is_taken(label):
    with pytest.raises(ConfigError, match=r"here: the label .* is taken"):
        check_label(label, "here")


@pytest.mark.parametrize("label", ["", " norm", "norm ", "a\nb", "\x1b[31mred", "a\tb", "zero\u200bwidth", "x" * 101])
def test_what_cannot_be_printed_is_no_label(label):
    with pytest.raises(ConfigError, match=r"here: .* is no label") as caught:
        check_label(label, "here")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("label", ["norm", "rank_0.5", "||W||_F", "σ₁ / σ₂", "x" * 100, "runs", "lr"])
def test_other_words_are_labels(label):
    check_label(label, "here")


LISTS = {
    "metrics": [SingleConfig, "weight_norm"],
    "model_metrics": [ComparativeConfig, "weight_norm"],
    "comparative_metrics": [ComparativeConfig, "param_distance"],
    "events": [SingleConfig, "plateaus"],
}


@pytest.mark.sampled
@pytest.mark.parametrize("label", ["run", "diverged_at", "training.lr", "test_loss", "\x1b[31m"])
def test_every_list_and_every_door_refuses_the_same(label):
    messages = set()
    for key, (schema, name) in LISTS.items():
        config = {"max_steps": 1, key: [{"name": name, "label": label}]}
        for door in (
            lambda c, s=schema: check_names(resolve(c, s)),
            dln.run_experiment,
            lambda c: dln.run_experiments([c]),
        ):
            with pytest.raises(ConfigError) as caught:
                door(config)
            messages.add(str(caught.value).partition(": ")[2])
    assert len(messages) == 1


@pytest.mark.parametrize(
    "config",
    [
        {"metrics": ["weight_norm", {"name": "end_to_end_norm", "label": "weight_norm"}]},
        {"metrics": ["layer_singular_values", {"name": "weight_norm", "label": "layer_singular_values.1"}]},
        {"model_metrics": ["layer_singular_values"],
         "comparative_metrics": [{"name": "param_distance", "label": "layer_singular_values_a.1"}]},
        {"model_metrics": ["weight_norm"],
         "comparative_metrics": [{"name": "param_distance", "label": "weight_norm_a"}]},
        {"metrics": ["mode_strengths"], "events": ["mode_order", "mode_order"]},
        {"metrics": [{"name": "weight_norm", "label": "plateaus.begin"}], "events": ["plateaus"]},
        {"metrics": [{"name": "weight_norm", "label": "plateaus"}], "events": ["plateaus"]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_two_of_a_config_never_share_a_column(config, engine):
    with pytest.raises(ConfigError, match=r"label"):
        dln.run_experiment({"max_steps": 1, "engine": engine, **config})


def test_a_lane_finds_its_columns_whatever_they_are_called():
    labels = ["norm", "norm_a", "rank_0.5", "values"]
    names = [f"{label}_{lane}" for label in ("train_loss", *labels[:-1]) for lane in "ab"]
    names += ["step", "values_a.x_b.y", "values_b.x_a.y", "distance", "distance.x_a"]
    assert lane_columns(names, labels, "_a") == {
        "train_loss": "train_loss_a", "norm": "norm_a", "norm_a": "norm_a_a", "rank_0.5": "rank_0.5_a",
        "values.x_b.y": "values_a.x_b.y",
    }  # fmt: skip
    assert set(lane_columns(names, labels, "")) == set(names)


def test_labels_that_only_look_alike_are_apart():
    check_apart(["norm", "norms", "norm-1", "normal.x", "x.norm"], "metrics")


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_a_label_with_a_point_is_of_its_own_lane(engine):
    """Lane b goes on with all its columns when lane a has diverged."""
    config = {
        "max_steps": 20,
        "engine": engine,
        "model_metrics": [{"name": "relative_rank", "params": {"tolerance": 0.5}, "label": "rank_0.5"}],
        "training_a": {"lr": 1e3},
        "training_b": {"lr": 1e-3},
    }
    history = dln.run_experiment(config)
    assert history.final["step"] == 20
    assert set(history.final) == {"step", "train_loss_b", "test_loss_b", "rank_0.5_b"}
