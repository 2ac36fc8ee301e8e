"""Files that tell when they are damaged: whatever bit changes, wherever the file ends."""

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dln.base import sealed
from dln.base.sealed import read_document, write_document
from dln.errors import DamagedError, StorageError
from dln.results import tables

RUNS = [f"{run:024x}" for run in range(5)]
CONFIG = {"seed": list(range(5)), "name": ["sha256:", "dln.digest", "c", "d", "e"]}  # the words a digest is found by


def table():
    return tables.make_table(RUNS, CONFIG, {"diverged_at": [None] * 5}, {"loss": np.arange(50.0).reshape(5, 10)})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "x.parquet"
    tables.write([table()], path)
    return path, path.read_bytes()


def test_a_sealed_file_is_a_parquet_file_like_others(file):
    path, _ = file
    assert sealed.check(path)
    assert pq.read_table(path).equals(table())


@settings(max_examples=100)
@given(st.data())
def test_a_flipped_bit_is_found_wherever_it_is(file, data):
    path, content = file
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    place = path.with_name("flipped.parquet")
    place.write_bytes(damaged)
    with pytest.raises(DamagedError, match=r"flipped\.parquet is damaged"):
        sealed.check(place)


def test_the_digest_itself_and_what_marks_it_are_covered(file):
    path, content = file
    for word in (b"dln.digest\x18", b"sha256:"):
        at = content.rindex(word)
        for bit in range(8 * at, 8 * (at + len(word) + len(sealed.BLANK))):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            path.with_name("marks.parquet").write_bytes(damaged)
            with pytest.raises(DamagedError):
                sealed.check(path.with_name("marks.parquet"))


@settings(max_examples=60)
@given(st.data())
def test_a_file_that_is_cut_or_has_a_hole_is_found(file, data):
    path, content = file
    start, stop = sorted(data.draw(st.lists(st.integers(0, len(content)), min_size=2, max_size=2, unique=True)))
    place = path.with_name("cut.parquet")
    hole = content[:start] + bytes(stop - start) + content[stop:]
    for damaged in (content[:start], content[:start] + content[stop:], hole):
        place.write_bytes(damaged)
        try:
            tables.check(place)
        except DamagedError:
            continue
        assert tables.read([place]).equals(table())  # nothing was lost, or the digest alone


def test_a_file_of_an_earlier_version_is_read_unchecked(file, tmp_path):
    pq.write_table(tables.read([file[0]]).drop_columns("name"), tmp_path / "old.parquet")
    assert not sealed.check(tmp_path / "old.parquet")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_is_named(make, tmp_path):
    make(tmp_path / "x")
    for reader in (sealed.check, read_document):
        with pytest.raises(DamagedError, match="x is damaged"):
            reader(tmp_path / "x")


documents = st.dictionaries(st.text(), st.none() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers()))


@settings(max_examples=60)
@given(documents.filter(lambda d: "digest" not in d), st.integers(0))
def test_a_document_comes_back_or_is_damaged(tmp_path_factory, document, bit):
    path = tmp_path_factory.mktemp("document") / "told.json"
    write_document(path, document)
    assert read_document(path) == document
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        read = read_document(path)
    except DamagedError as error:
        assert "told.json is damaged" in str(error)  # noqa: PT017
    else:
        assert {key: read[key] for key in document} == document  # blank space, or the name of the digest itself


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"a": 1}]', "[" * 10**5, "\x00" * 9, '{"digest": "x"}'])
def test_what_is_no_document(text, tmp_path):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(DamagedError, match=r"x\.json is damaged"):
        read_document(tmp_path / "x.json")
    assert read_document(tmp_path / "none.json") is None


def test_documents_of_earlier_versions_have_no_digest(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"kind": "old"}), encoding="utf-8")
    assert read_document(tmp_path / "x.json") == {"kind": "old"}


@pytest.mark.parametrize(("number", "kind"), [(5, DamagedError), (13, StorageError), (24, StorageError)])
def test_only_what_the_disk_cannot_give_back_counts_as_damage(number, kind, tmp_path):
    with pytest.raises(StorageError, match="x") as raised, sealed.reading(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert type(raised.value) is kind
    with pytest.raises(FileNotFoundError), sealed.reading(tmp_path / "x"):
        raise FileNotFoundError
