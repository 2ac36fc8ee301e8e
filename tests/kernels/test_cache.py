"""Machine code on disk: whatever has happened to it, a run computes the same, and says what it does about it."""

import errno
import importlib.util
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import pytest

from dln.kernels import cache, training

KIND = bytes(range(cache.SIZE))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The directory of this test's cache; what is said once a process has not been said yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_said", set())
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Call a small function as a new process would: f(argument, factor) -> what comes out, how it came by its code."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python sees no change within a second

    def call(x=3.0, factor=2):
        source = tmp_path / "toy.py"
        source.write_text(f"def times(x):\n    return {factor} * x\n", encoding="utf-8")
        spec = importlib.util.spec_from_file_location("toy", source)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "toy", module)  # where numba looks when it reads what it has written
        spec.loader.exec_module(module)
        times = training.compiled(module.times)
        value = times(x)
        hits, misses = (sum(counts.values()) for counts in (times.stats.cache_hits, times.stats.cache_misses))
        assert hits + misses == 1
        return value, "read" if hits else "compiled"

    return call


def files(place):
    return sorted(path for path in place.rglob("*") if path.is_file())


def test_machine_code_is_kept_for_later_processes(toy, place, caplog):
    assert toy() == (6.0, "compiled")
    assert "compiling the kernels" in caplog.text
    caplog.clear()
    assert toy() == (6.0, "read")
    assert caplog.text == ""
    assert toy(3) == (6, "compiled")  # another signature, a file of its own
    assert [toy(3.0), toy(3)] == [(6.0, "read"), (6, "read")]
    assert len(files(place)) == 2


def test_a_change_of_the_source_is_seen_and_leaves_nothing_behind(toy, place, caplog):
    assert toy(factor=2) == (6.0, "compiled")
    assert toy(factor=5) == (15.0, "compiled")
    assert toy(factor=5) == (15.0, "read")
    assert len(files(place)) == 1
    assert "damaged" not in caplog.text


def test_no_bit_can_be_flipped_and_no_byte_be_lost(tmp_path, caplog):
    path = tmp_path / "code"
    code = random.Random(0).randbytes(200)
    cache.write(path, KIND, code)
    whole = path.read_bytes()
    assert cache.read(path, KIND) == code
    assert cache.read(path, KIND[::-1]) is None
    assert path.exists()  # it is only not what was asked for
    flipped = (whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :] for i in range(len(whole)) for bit in range(8))
    cut = (whole[:length] for length in range(len(whole)))
    for damaged in (*flipped, *cut, whole + b"\0", bytes(len(whole))):
        caplog.clear()
        path.write_bytes(damaged)
        assert cache.read(path, KIND) is None
        assert not path.exists()
        assert f"{path} is damaged" in caplog.text


def replaced_by_another(path: Path) -> None:
    others = [p for p in path.parent.iterdir() if p != path]
    path.write_bytes(others[0].read_bytes())


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged"),
        (lambda path: path.write_bytes(random.Random(1).randbytes(5000)), "damaged"),
        (replaced_by_another, ""),
        (lambda path: path.unlink(), ""),
    ],
    ids=["empty", "cut", "noise", "of another signature", "gone"],
)
def test_what_is_damaged_is_compiled_anew(toy, place, caplog, damage, said):
    toy(3.0)
    (path,) = files(place)
    toy(3)
    damage(path)
    caplog.clear()
    assert toy(3.0) == (6.0, "compiled")
    assert said in caplog.text
    assert [toy(3.0), toy(3)] == [(6.0, "read"), (6, "read")]


def test_what_cannot_be_replaced_does_no_harm(toy, place, caplog):
    toy()
    (path,) = files(place)
    path.unlink()
    path.mkdir()
    for _ in range(2):
        assert toy() == (6.0, "compiled")
    assert caplog.text.count("cannot be kept") == 1
    assert files(place) == []


def test_many_write_at_once(tmp_path):
    path = tmp_path / "code"
    codes = {bytes([i]) * 10_000 for i in range(8)}
    cache.write(path, KIND, next(iter(codes)))
    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(cache.write, path, KIND, code) for code in sorted(codes) for _ in range(5)]
        assert all(cache.read(path, KIND) in codes for _ in range(40))
        assert all(future.result() is None for future in written)
    assert files(tmp_path) == [path]


def test_a_cache_that_can_only_be_read_is_read(toy, small_disk, monkeypatch, caplog):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(small_disk.path))
    assert toy() == (6.0, "compiled")
    small_disk.mount("remount,ro")
    caplog.clear()
    assert toy() == (6.0, "read")
    assert caplog.text == ""
    assert toy(3) == (6, "compiled")
    assert "Read-only file system" in caplog.text


def test_a_full_disk_ends_nothing(toy, small_disk, monkeypatch, caplog):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(small_disk.path))
    with pytest.raises(OSError, match="No space left") as full, (small_disk.path / "filling").open("wb") as file:
        file.write(bytes(10**6))
    assert full.value.errno == errno.ENOSPC
    assert toy() == (6.0, "compiled")
    assert "No space left" in caplog.text
    assert [path.name for path in files(small_disk.path)] == ["filling"]


def test_the_second_place_is_used_where_the_first_cannot_be(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "__pycache__").touch()  # a file, where a directory should be
    assert toy() == (6.0, "compiled")
    assert toy() == (6.0, "read")
    assert len(files(tmp_path / "home")) == 1
