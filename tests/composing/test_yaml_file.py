"""A slip in a user's YAML is one line that says where, whatever the slip is and whichever door reads the file."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dln.composing import yaml_file
from dln.composing.yaml_file import check_yaml
from dln.config import SingleConfig
from dln.errors import ConfigError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)

SLIPS = {
    "a deeper line": ("training:\n  lr: 0.1\n   batch_size: 3", 3, 14, "indentation"),
    "a line between": ("training:\n    lr: 0.1\n  batch_size: 3", 3, 3, "indentation"),
    "a tab": ("training:\n\tlr: 0.1", 2, 1, "tab"),
    "a key twice": ("max_steps: 3\nmax_steps: 4", 2, 1, "duplicate key max_steps"),
    "a key twice inside": ("training:\n  lr: 1\n  lr: 2", 3, 3, "duplicate key lr"),
    "Latin-1": ("# caf\xe9".encode("latin-1"), 1, 6, "UTF-8"),
    "UTF-16": ("max_steps: 3".encode("utf-16"), 1, 1, "UTF-8"),
    "a zero byte": ("max_steps: \x00", 1, 12, "'\\x00'"),
    "brackets without end": ("metrics: " + "[" * 5000 + "]" * 5000, 1, 59, "levels"),
    "sections without end": ("".join(" " * i + "a:\n" for i in range(300)), 51, 51, "levels"),
    "itself in a list": ("metrics: &m [*m]", 1, 14, "*m refers to what it is inside of"),
    "itself in a mapping": ("training: &t\n  lr: *t", 2, 7, "*t refers to what it is inside of"),
    "aliases in aliases": (BOMB, 6, 15, "values"),
    "an anchor never set": ("training: {lr: *rate}", 1, 16, "rate"),
    "a second document": ("max_steps: 3\n---\nmax_steps: 4", 2, 1, "second document"),
    "an unknown tag": ("max_steps: !steps 3", 1, 12, "tag"),
    "code in a tag": ("max_steps: !!python/object/apply:os.system [ls]", 1, 12, "tag"),
    "an open bracket": ("metrics: [a, b", 1, 15, "']'"),
    "a key that is a list": ("? [1]\n: 2", 1, 3, "key"),
}


def problem(path):
    with pytest.raises(ConfigError) as caught:
        check_yaml(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.sampled
@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.hydra
def test_a_slip_is_told_with_its_place(slip, tmp_path, compose_file):
    text, line, column, word = SLIPS[slip]
    (tmp_path / "own.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    told = problem(tmp_path / "own.yaml")
    assert f"own.yaml, line {line}, column {column}: " in told
    assert word in told
    with pytest.raises(ConfigError) as caught:  # as Hydra reads it
        compose_file(tmp_path / "own.yaml", SingleConfig)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "text", ["- 1\n- 2", "word", "3", "3: 4", "hydra: 3", "max_steps: !!int x", "? !!set {a}\n: 3"]
)
def test_what_is_no_mapping_of_words(text, tmp_path):
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    assert "own.yaml" in problem(tmp_path / "own.yaml")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\ufeffmax_steps: 5", "a: &a {lr: 1}\nb: {<<: *a}"])
def test_what_is_fine(text, tmp_path):
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    check_yaml(tmp_path / "own.yaml")


def test_a_file_of_a_users_own_with_a_byte_order_mark_is_read(tmp_path, compose_file):
    (tmp_path / "own.yaml").write_text("\ufeffmax_steps: 5", encoding="utf-8")
    assert compose_file(tmp_path / "own.yaml", SingleConfig).max_steps == 5


def test_files_that_hold_too_much_or_cannot_be_read(tmp_path):
    with open(tmp_path / "own.yaml", "wb") as file:
        file.truncate(10**10)  # nothing of it is on the disk, nor read
    assert "MB" in problem(tmp_path / "own.yaml")
    assert "No such file" in problem(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "defaults: 3",
        "defaults: {a: b}",
        "defaults: [[a]]",
        "defaults: null",
        "defaults: [own]",
        "defaults: [nowhere]",
        "# @package a b",
        "hydra: {run: 3}",
        "max_steps: ${max_steps}",
        "max_steps: '" + "${" * 300 + "'",
        "metrics: {null: 3}",
    ],
)
@pytest.mark.hydra
def test_what_only_hydra_can_tell_is_one_line_too(text, tmp_path, compose_file):
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        compose_file(tmp_path / "own.yaml", SingleConfig)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "argv",
    [
        ["--config-dir=own", "-cn=mine"],
        ["--config-dir=own", "-cn=mine", "-m", "max_steps=3,4"],
        ["--config-dir=own", "+group=mine"],
        ["hydra.searchpath=[own]", "+group=mine"],
    ],
)
@pytest.mark.hydra
def test_every_door_says_so_and_writes_nothing(argv, door, tmp_path):
    for folder in ("own", "own/group"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text("max_steps: 3\nmax_steps: 4", encoding="utf-8")
    result = door.run(tmp_path, *argv)
    assert (result.status, result.out) == (2, "")
    assert "mine.yaml, line 2, column 1: found duplicate key max_steps" in result.err
    assert result.err.count("\n") == 1
    assert result.created == ["own", "own/group", "own/group/mine.yaml", "own/mine.yaml"]


WORDS = ["null", "1e3", "0x", "=", ".nan", "|", ">", "%", "#", "@", "x", "!x", "'", "[", "]", "{", "}", "?"]
TAGS = ["!!int", "!!float", "!!set", "!!binary", "!!timestamp", "!!omap", "&p", "*p", "&q", "*q", "<<:"]
SPACES = ["a: ", "b: ", "- ", ", ", "\n", "\n  ", "\n    ", "\t", "---\n", "\ufeff", "\x85", "\u00e9", "${"]
PIECES = st.sampled_from([*SPACES, *(f"{word} " for word in (*WORDS, *TAGS))])


@given(st.lists(PIECES, max_size=14).map("".join))
def test_any_text_is_a_mapping_or_one_line(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_file, "_text", lambda *_: text)
        try:
            check_yaml(Path("own.yaml"))
            told = None
        except ConfigError as error:
            told = str(error)
    if told is None:
        assert isinstance(yaml.safe_load(text), dict | None)
    else:
        assert told.startswith("own.yaml")
        assert "\n" not in told


def size(value):
    """Count values as they are written out, keys too."""
    if isinstance(value, dict):
        return 1 + sum(size(k) + size(v) for k, v in value.items())
    return 1 + sum(map(size, value)) if isinstance(value, list) else 1


def depth(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


VALUES = st.recursive(st.just("x"), lambda v: st.lists(v, max_size=4) | st.dictionaries(st.sampled_from("abc"), v))


@given(VALUES, VALUES)
def test_what_aliases_repeat_counts_each_time(first, second):
    """The bounds fall exactly where the written-out document reaches them; equal objects become aliases in YAML."""
    document = {"first": first, "again": [first, {"second": second}, [[second]]], "third": [first]}
    text = yaml.safe_dump(document)
    exact = SimpleNamespace(MOST_VALUES=size(document), DEEPEST=depth(document))
    for name in ("MOST_VALUES", "DEEPEST"):
        for less, refused in ((0, False), (1, True)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(yaml_file, name, getattr(exact, name) - less)
                with pytest.raises(ConfigError) if refused else contextlib.nullcontext():
                    yaml_file._bound(yaml.parse(text, Loader=yaml.SafeLoader), "own.yaml")
