"""Devices, and records on disk."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dln.errors import ConfigError, StorageError
from dln.utils import load_history, save_history, select_device, to_json


def test_the_cpu_is_always_there():
    assert select_device("cpu") == torch.device("cpu")


def test_auto_is_a_device_that_works():
    device = select_device("auto")
    assert torch.ones(2, device=device).sum().item() == 2
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert device.type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here(name):
    with pytest.raises(ConfigError, match="device") as caught:
        select_device(name)
    message = str(caught.value)
    assert repr(name) in message
    assert "auto" in message
    assert "\n" not in message


def strict(line: str):
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        ([1.0, math.nan], [1.0, None]),
        ([[math.inf], [2.0]], [[None], [2.0]]),
        (0.1, 0.1),
        (3, 3),
        ([], []),
    ],
)
def test_json_is_strict(value, written):
    line = to_json({"step": 1, "value": value})
    assert strict(line) == {"step": 1, "value": written}
    assert "\n" not in line


floats = st.floats(allow_nan=False, allow_infinity=False)
records = st.lists(
    st.dictionaries(st.text(min_size=1), floats | st.lists(floats) | st.lists(st.lists(floats)), min_size=1), max_size=5
)


@settings(max_examples=40)
@given(records)
def test_records_come_back_to_the_last_digit(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    save_history(path, written)
    assert load_history(path) == written


def test_null_comes_back_as_nan_at_any_depth(tmp_path):
    save_history(tmp_path / "h", [{"step": 0, "loss": math.inf, "norms": [[1.0, math.nan]]}])
    (record,) = load_history(tmp_path / "h")
    assert record["step"] == 0
    assert math.isnan(record["loss"])
    assert record["norms"][0][0] == 1.0
    assert math.isnan(record["norms"][0][1])


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        ('{"step": 0}\n', [0]),
        ('{"step": 0}\n{"st', [0]),
        ('{"step": 0}\n{"step": 1}', [0]),  # it may be the beginning of step 10
        ('{"st', []),
    ],
)
def test_a_last_line_cut_short_is_left_out(text, steps, tmp_path):
    (tmp_path / "h").write_text(text, encoding="utf-8")
    assert [record["step"] for record in load_history(tmp_path / "h")] == steps


def test_records_before_a_broken_line_are_kept_and_the_line_is_named(tmp_path, caplog):
    (tmp_path / "h").write_text('{"step": 0}\n{"st\n{"step": 2}\n', encoding="utf-8")
    assert load_history(tmp_path / "h") == [{"step": 0}]
    assert "line 2" in caplog.text
    (tmp_path / "h").write_text('[0]\n{"step": 1}\n', encoding="utf-8")
    with pytest.raises(StorageError, match="line 1: not a record; run it again"):
        load_history(tmp_path / "h")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_history(tmp_path / "nothing")
