"""What Windows lacks or forbids is not used: these tests run elsewhere, and keep its rules."""

import ast
import os
from pathlib import Path

import psutil
import pytest

import dln
from dln.base.files import placing
from dln.config import SingleConfig
from dln.results.frames import load_sweep, merge_sweeps
from dln.results.run import load_run
from dln.sweeps.driver import run_sweep
from tests.sweeps.test_plan import planner

UNIX = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
"""Modules that Windows has not."""
ABSENT = {
    "os": {"chroot", "fork", "forkpty", "getpgid", "getuid", "kill", "killpg", "mkfifo", "nice", "openpty", "sysconf"}
    | {"sched_getaffinity", "sched_setaffinity", "setsid", "statvfs", "uname", "wait"},
    "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "alarm", "pause"},
}
"""Names that Windows has not, or that do something else there: `os.kill(pid, 0)` ends the process."""
SOURCES = [*Path(dln.__file__).parent.rglob("*.py")]


def named(tree):
    """Every module and attribute that a source names outside `try`, which is how a system is asked for them."""
    asked = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in asked:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{name.name}" for name in node.names))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("source", ["import fcntl", "import os; os.kill(1, 0)", "from signal import SIGALRM"])
def test_a_name_of_unix_is_found(source):
    assert unix(source)


def test_no_name_of_unix_alone_is_used():
    assert len(SOURCES) > 50
    assert {path.name: found for path in SOURCES if (found := unix(path.read_text(encoding="utf-8")))} == {}


def unix(source):
    absent = UNIX | {f"{module}.{name}" for module, names in ABSENT.items() for name in names}
    return absent & set(named(ast.parse(source)))


CHANGES = ("rename", "replace", "unlink", "remove", "rmdir")


@pytest.fixture
def like_windows(monkeypatch):
    """A file that is open can be neither removed nor replaced, and no directory that holds one can be moved."""
    changed = []

    def careful(function):
        def change(*paths, **kwargs):
            places = {Path(os.path.abspath(path)) for path in paths}
            for file in psutil.Process().open_files():
                if places & {Path(file.path), *Path(file.path).parents}:
                    raise PermissionError(13, "it is used by another process", file.path)
            changed.append(places)
            return function(*paths, **kwargs)

        return change

    for name in CHANGES:
        monkeypatch.setattr(os, name, careful(getattr(os, name)))
    return changed


def test_the_rule_is_kept_here(like_windows, tmp_path):
    for path in (tmp_path / "a", tmp_path / "b"):
        path.touch()
    with open(tmp_path / "a", encoding="utf-8"), pytest.raises(PermissionError, match="used by another"):
        (tmp_path / "b").replace(tmp_path / "a")
    with pytest.raises(PermissionError), placing(tmp_path / "c") as beside, open(beside, "w", encoding="utf-8"):
        beside.replace(tmp_path / "c")


@pytest.mark.long
def test_a_sweep_its_rerun_and_a_merge_move_and_remove_no_open_file(like_windows, tmp_path):
    plan_of = planner(SingleConfig)[0]
    tiny = ["max_steps=2", "model.hidden_dim=2", "model.in_dim=2", "model.out_dim=2", "data.train_samples=4"]
    overrides = [*tiny, "checkpoint_every=1", "training.lr=0.001,0.002"]
    run_sweep(plan_of(overrides), tmp_path / "a", members=1)
    plan = plan_of([*overrides, "training.model_seed=0..1"])
    (tmp_path / "a" / "results.parquet").write_bytes(b"damaged")
    run_sweep(plan, tmp_path / "a", members=1)
    report = run_sweep(plan, tmp_path / "a", rerun=[0, 3], members=1)
    run_sweep(plan_of([*overrides, "training.model_seed=2"]), tmp_path / "b")
    assert report.finished == 2
    assert merge_sweeps([tmp_path / "a", tmp_path / "b"], tmp_path / "c") == 6
    assert len(load_sweep(tmp_path / "c")) == 6
    assert load_run(tmp_path / "a" / "0").records
    assert len(like_windows) > 50
