"""What the page may ask, and what it stands for."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln.composing.compose import resolve
from dln.composing.loader import load_config
from dln.config import SingleConfig
from dln.errors import ConfigError
from dln.explorer.controls import CONTROLS, Control
from dln.explorer.copies import as_command, as_python, as_yaml, overrides
from dln.explorer.cost import check_cost, fitting, sharp_stride, work_of
from dln.explorer.question import FURTHER, THEORIES, VARIED, Question, Request
from dln.measure.metric import MODEL_METRICS
from dln.theory.theory import THEORIES as REGISTERED
from tests.explorer.asking import answered, asked, body


def test_the_default_question_is_the_default_config():
    config = Question.of({}).config()
    default = load_config(["evaluate_at={linear: 65}"], SingleConfig)
    assert (config.model, config.data, config.training, config.max_steps) == (
        default.model,
        default.data,
        default.training,
        default.max_steps,
    )


def values_of(control: Control) -> st.SearchStrategy:
    found = {
        "flag": st.booleans(),
        "word": st.sampled_from(control.choices) if control.choices else st.nothing(),
        "whole": st.integers(int(control.least), int(control.most)),
        "real": st.floats(control.least, control.most),
    }[control.kind]
    return st.none() | found if control.none else found


@st.composite
def questions(draw: st.DrawFn) -> dict:
    values = {control.key: draw(values_of(control)) for control in draw(st.sets(st.sampled_from(CONTROLS)))}
    comparable = [control for control in CONTROLS if control.differs]
    other = {
        control.key: draw(values_of(control)) for control in draw(st.sets(st.sampled_from(comparable), max_size=3))
    }
    asks = {"seeds": draw(st.integers(1, 5)), "vary": draw(st.sampled_from([*VARIED]))}
    asks |= {"theory": draw(st.sampled_from(THEORIES)), "further": draw(st.sampled_from(FURTHER))}
    return {"values": values, "reference": other, "sharpness": draw(st.booleans()), **asks}


@settings(max_examples=15, deadline=None)
@given(questions())
def test_whatever_is_asked_the_copied_command_composes_to_the_same_config(given_question):
    try:
        question = Question.of(given_question)
        config = question.config()
    except ConfigError:  # such as a batch of more samples than there are
        return
    assert load_config(overrides(config), SingleConfig) == config
    words = shlex.split(as_command(question, config))
    assert words[:2] == ["dln", "run"]
    told = [word for word in words[2:] if not word.startswith(("-m", question.vary + "=range"))]
    assert load_config(told, SingleConfig) == config
    from_file = {key: value for key, value in yaml.safe_load(as_yaml(question, config)).items() if key != "defaults"}
    assert resolve(from_file, SingleConfig) == config


@pytest.mark.parametrize("reference", [{}, {"training.batch_size": None, "training.lr": 0.001}])
def test_the_copied_script_gives_the_numbers_of_the_picture_bit_for_bit(reference):
    question = asked({"training.batch_size": 7, "model.gamma": 1.3}, reference=reference, further="ntk_distance")
    frames = answered(question)
    script = frames["begin"][0]["python"]
    made: dict = {}
    exec(script, made)
    histories = made["histories"]
    assert len(histories) == question.seeds
    told, arrays = frames["curves"]
    sharp, sharpness = frames["sharpness"]
    for seed, history in enumerate(histories):
        assert history["step"].tolist() == told["steps"]
        for name in [n for n in history.names if n not in ("step", "time_a", "time_b") and "sharpness" not in n]:
            values = history[name].reshape(len(history), -1).astype("f4")
            columns = [name] if history[name].ndim == 1 else [f"{name}[{i + 1}]" for i in range(values.shape[1])]
            for i, column in enumerate(columns):
                assert (arrays[f"{column}|members"][seed] == values[:, i]).all(), column
        for name in [n for n in history.names if n.startswith("sharpness")]:
            at = [history["step"].tolist().index(step) for step in sharp["steps"]]
            assert (sharpness[f"{name}|members"][seed] == history[name][at].astype("f4")).all()


def test_the_copied_file_runs(tmp_path, monkeypatch):
    question = asked({"data.params.matrix": "power_law", "data.params.alpha": 0.5})
    config = question.config()
    text = as_yaml(question, config)
    assert "training.model_seed=range(0,3)" in text.splitlines()[0]
    history = dln.run_experiment({k: v for k, v in yaml.safe_load(text).items() if k != "defaults"})
    assert (
        history["train_loss"].astype("f4").tolist() == answered(question)["curves"][1]["train_loss|members"][0].tolist()
    )


def test_a_single_seed_is_a_run_not_a_sweep():
    question = asked(seeds=1)
    assert "-m" not in shlex.split(as_command(question, question.config()))
    assert "range(1)" in as_python(question, question.config())


FAULTS = {
    "[]": "object",
    '{"values": []}': "values must be an object",
    '{"valeus": {}}': "did you mean 'values'",
    '{"values": {"training.lrr": 1}}': "did you mean 'training.lr'",
    '{"values": {"training.lr": "fast"}}': "must be a number",
    '{"values": {"training.lr": true}}': "must be a number",
    '{"values": {"training.lr": 0}}': "between 1e-06 and 10",
    '{"values": {"training.lr": 1e400}}': "finite",
    '{"values": {"model.num_hidden": 1.5}}': "whole number",
    '{"values": {"model.num_hidden": null}}': "must be a number",
    '{"values": {"model.hidden_dim": 100000}}': "between 1 and 512",
    '{"values": {"model.init": "zeros"}}': "no such choice",
    '{"values": {"model.init": {}}}': "no such choice",
    '{"values": {"data.whiten": 1}}': "true or false",
    '{"values": {"data.path": "/etc/passwd"}}': "the explorer has no 'data.path'",
    '{"values": {"model.weights": "x.npz"}}': "the explorer has no",
    '{"reference": {"data.noise_std": 1}}': "same data",
    '{"reference": {"model.in_dim": 3}}': "same data",
    '{"seeds": 0}': "between 1 and 512",
    '{"seeds": 1e9}': "between 1 and 512",
    '{"seeds": true}': "between 1 and 512",
    '{"records": 100000}': "between 2 and 257",
    '{"vary": "training.lr"}': "no such choice",
    '{"theory": ["lazy"]}': "no such choice",
    '{"further": "os.system"}': "no such choice",
    '{"sharpness": "yes"}': "true or false",
    '{"branch_at": -1}': "a step or null",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_there_is_not_is_refused_in_a_line(text):
    with pytest.raises(ConfigError, match=FAULTS[text]) as caught:
        Question.of(json.loads(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"tab": "x", "number": 1}',
        b'{"tab": "", "number": 1, "question": {}}',
        b'{"tab": 5, "number": 1, "question": {}}',
        b'{"tab": "x", "number": -1, "question": {}}',
        b'{"tab": "x", "number": 1.5, "question": {}}',
        b'{"tab": "x", "number": 1, "question": {"values": {"training.lr": NaN}}}',
        b'{"tab": "' + b"x" * 65 + b'", "number": 1, "question": {}}',
    ],
)
def test_a_request_that_is_none_is_refused(text):
    with pytest.raises(ConfigError):
        Request.of(text)


def test_a_request_is_read():
    request = Request.of(body({"values": {"training.lr": 1}}, tab="x", number=3))
    assert (request.tab, request.number, request.question.value("training.lr")) == ("x", 3, 1.0)


def test_what_does_not_differ_is_no_comparison():
    question = asked(reference={"training.lr": 0.002}, branch_at=5)
    assert question.reference == {}
    assert question.config().reference == {}


def test_faults_of_configs_are_told_by_their_key():
    with pytest.raises(ConfigError, match=r"training\.batch_size"):
        asked({"training.batch_size": 50, "data.train_samples": 20}).config()
    with pytest.raises(ConfigError, match="branch_at"):
        asked(reference={"model.gamma": 2.0}, branch_at=5).config()


def test_what_the_page_offers_is_registered():
    assert {*FURTHER} - {"none"} <= {entry.name for entry in MODEL_METRICS}
    assert {*THEORIES} - {"none"} <= {entry.name for entry in REGISTERED}


def test_what_is_too_much_is_refused_and_the_rest_fits():
    check_cost(Question.of({}).config(), 32)
    huge = Question.of({"values": {"model.hidden_dim": 512, "model.num_hidden": 12, "max_steps": 200_000}}).config()
    with pytest.raises(ConfigError, match="times what the explorer trains at most"):
        check_cost(huge, 1)
    config = asked().config()
    assert fitting([config] * 10, pace=work_of(config), seconds=4.5) == 4
    assert fitting([config] * 10, pace=1.0, seconds=1.0) == 1


def test_sharpness_of_large_networks_is_looked_at_less_often():
    def stride(**values):
        return sharp_stride(Question.of({"values": {k.replace("__", "."): v for k, v in values.items()}}).config(), 65)

    strides = [stride(model__hidden_dim=width, model__num_hidden=6) for width in (10, 200, 512)]
    assert strides[0] == 2
    assert strides == sorted(strides)
    assert strides[-1] > strides[0]
