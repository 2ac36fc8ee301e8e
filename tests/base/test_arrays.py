"""Files that users name: only files are read, only so much of them as fits, and what they hold is known by a digest."""

import os
import stat
import zipfile

import numpy as np
import pytest

from dln.base import arrays
from dln.base.arrays import content, load_arrays
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError
from dln.factory import check_names

NO_FILES = {
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a directory": lambda path: path.mkdir(),
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}

DOORS = {
    "data.path": (SingleConfig, lambda path: {"data": {"path": path}}),
    "model.weights": (SingleConfig, lambda path: {"model": {"weights": path}}),
    "model_b.weights": (ComparativeConfig, lambda path: {"model_b": {"weights": path}}),
    "data.params.path": (SingleConfig, lambda path: {"data": {"params": {"matrix": "file", "path": path}}}),
}


def fault(key, path):
    schema, config = DOORS[key]
    with pytest.raises(ConfigError) as caught:
        check_names(resolve(config(str(path)), schema))
    assert str(caught.value).startswith(key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("key", DOORS)
def test_what_is_no_file_is_refused_and_never_waited_for(key, tmp_path):
    for kind, make in NO_FILES.items():
        make(tmp_path / kind)
        assert f"is not a file but {kind}" in fault(key, tmp_path / kind)
    assert "no file" in fault(key, tmp_path / "nowhere.npz")
    assert "file name" in fault(key, tmp_path / ("x" * 300)).lower()
    assert "null" in fault(key, "a\0b.npz")
    (tmp_path / "empty.npz").touch()
    assert "empty.npz" in fault(key, tmp_path / "empty.npz")


@pytest.mark.parametrize("key", DOORS)
def test_an_archive_that_is_small_only_on_disk_is_not_unpacked(key, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "zeros.npz", train_inputs=np.zeros((1000, 1000)))
    assert (tmp_path / "zeros.npz").stat().st_size < 100_000
    monkeypatch.setattr(arrays, "memory", lambda: 7_000_000)
    assert "8 MB" in fault(key, tmp_path / "zeros.npz")
    monkeypatch.setattr(arrays, "memory", lambda: 9_000_000)
    assert load_arrays(tmp_path / "zeros.npz")["train_inputs"].shape == (1000, 1000)


def test_a_header_that_promises_more_than_there_is(tmp_path):
    array = np.zeros(3)
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as archive, archive.open("train_inputs.npy", "w") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**15, 5)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.tobytes())
    assert "liar.npz" in fault("data.path", tmp_path / "liar.npz")


def test_a_digest_follows_what_the_file_holds(tmp_path):
    path = tmp_path / "own.npy"
    seen = set()
    for number in range(20):  # of equal size, and faster than the clock of the file system
        np.save(path, np.array([number]))
        assert content(path) == content(path)
        seen.add(content(path))
    assert len(seen) == 20
    np.save(path, np.array([0]))
    np.save(tmp_path / "copy.npy", np.array([0]))
    assert content(tmp_path / "copy.npy") == content(path)
    with pytest.raises(ConfigError, match="no file"):
        content(tmp_path / "none.npy")


def test_a_large_file_is_read_once(tmp_path, monkeypatch):
    np.save(tmp_path / "own.npy", np.ones(3))
    os.utime(tmp_path / "own.npy", (10**9, 10**9))
    digest, read = arrays.digest, []
    monkeypatch.setattr(arrays, "digest", lambda path: read.append(path) or digest(path))
    assert content(tmp_path / "own.npy") == content(str(tmp_path / "own.npy"))
    assert len(read) == 1


def test_no_flipped_bit_of_an_archive_gives_other_arrays(tmp_path):
    path, names = tmp_path / "own.npz", ["W1", "W2", "b1"]
    np.savez(path, **{name: np.full(2, i) for i, name in enumerate(names)})
    content, found = path.read_bytes(), 0
    listing = content.index(b"PK\x01\x02")
    for bit in (*range(0, 8 * listing, 53), *range(8 * listing, 8 * len(content), 5)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            arrays = load_arrays(path, names)
        except ConfigError:
            found += 1
            continue
        assert list(arrays) == names
        assert all((array == i).all() for i, array in enumerate(arrays.values()))
    assert found > 100
