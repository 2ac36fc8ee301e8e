"""How much memory there is: what machine, control groups and limits say, whichever is least."""

import resource
import sys

import pytest

from dln.base.machine import _of_cgroups, memory


def test_memory_is_what_the_machine_has_or_less():
    assert 2**26 < memory() <= sys.maxsize


def test_a_ulimit_counts(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda kind: (2**29 if kind == resource.RLIMIT_AS else -1, -1))
    assert memory() == 2**29


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "700\n", "memory.max": "900\n"}, {700, 900}),
        ("0::/\n", {"memory.max": "500\n"}, {500}),
        ("0::/elsewhere/x\n", {"memory.max": "500\n"}, {500}),  # a container that sees only its own group
        ("3:cpu:/a\n2:memory,hugetlb:/a\n", {"memory/a/memory.limit_in_bytes": "300\n", "a/memory.max": "1"}, {300}),
        ("0::/../..\n", {}, set()),
        ("", {}, set()),
    ],
)
def test_bounds_of_control_groups(tmp_path, lines, files, expected):
    (tmp_path / "process").write_text(lines, encoding="ascii")
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text, encoding="ascii")
    assert set(_of_cgroups(tmp_path / "process", tmp_path / "root")) == expected
