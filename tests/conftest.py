"""Fixtures that several test files share: `door` starts run.py and run_comparative.py as real processes."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for library in ("OPENBLAS", "OMP"):  # before numpy and torch: pytest's workers share the cores as it is
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

import dln

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120
"""Seconds after which a process counts as hanging."""
SAMPLED = 4
"""Of the cases of a test that is `sampled` the first and every fourth after it run by default."""
WHOLE = 1000
"""Tests from which on the suite counts as whole."""
LONG = [
    *(
        "gallery",
        "driver",
        "engine",
        "docs",
        "experiment_examples",
        "processes",
        "plan",
        "storing",
        "bad_values",
        "pages",
        "door",
    ),
    *("training", "bad_input"),
]
"""Test files that take longest: they are begun first, so that no worker is left with one at the end."""


def pytest_configure() -> None:
    """Let no test depend on how busy the machine is, and answer Ctrl-C, which shells have background jobs ignore."""
    settings.register_profile("untimed", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until all is collected: it would look for rubbish among thousands of modules and tests, for seconds


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is long
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark cases as long that a sample leaves out; order files for workers: the longest first, then by their tests."""
    cases: Counter[tuple[Path, str]] = Counter()
    # By name: they come shuffled, each time otherwise, and what is left out here must be what `-m long` runs.
    for item in sorted(items, key=lambda item: item.nodeid):
        if marker := item.get_closest_marker("sampled"):
            alike = item.path, "" if marker.kwargs.get("whole_file") else item.nodeid.partition("[")[0]
            if cases[alike] % SAMPLED:
                item.add_marker("long")
            cases[alike] += 1
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        name = item.path.stem.removeprefix("test_")
        return LONG.index(name) if name in LONG else len(LONG), -tests[item.path]

    items.sort(key=place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile the kernels before a whole suite, a share in each worker, where all would compile the same at once."""
    gc.freeze()  # what has been imported stays
    gc.enable()
    worker = getattr(session.config, "workerinput", None)
    if worker is None or len(session.items) < WHOLE:
        return
    narrow, wide = 4, 200  # members side by side, and in rows
    plain, momentum, adam = ("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {})
    kinds = [
        *itertools.product([plain, adam], ["float64"], [narrow, wide]),
        *((rule, "float64", narrow) for rule in (momentum, ("Adamax", {}))),
        *((rule, "float32", width) for rule, width in ((plain, narrow), (plain, wide), (adam, narrow))),
    ]
    for (optimizer, params), dtype, width in kinds[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        training = {"optimizer": optimizer, "optimizer_params": params, "batch_size": 2}
        about = {"max_steps": 1, "engine": "compiled", "dtype": dtype, "metrics": ["weight_norm"]}
        dln.run_experiment({**about, "training": training, "model": {"hidden_dim": width}})


@pytest.fixture(scope="module", autouse=True)
def forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget after each file what its tests registered, imported from their directories, and do at signals.

    Tests of other files go through all that is registered, or have modules of the same names.
    """
    before, path = {id(table): set(table) for table in _tables()}, [*sys.path]
    answers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    temporary = tmp_path_factory.getbasetemp()
    yield
    for number, answer in answers.items():
        signal.signal(number, answer)
    sys.path[:] = path
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(str(temporary)):
            del sys.modules[name]
    for table in _tables():
        for name in set(table) - before.get(id(table), set()):
            if not getattr(table[name], "function", table[name]).__module__.startswith("dln."):
                del table[name]


def _tables() -> list[dict[str, Any]]:
    """What is registered by name in dln, registry by registry."""
    from dln.base.registry import Registry
    from dln.measure.data_quantities import CONSTANTS

    modules = [module for name, module in [*sys.modules.items()] if name.startswith("dln.")]
    registries = {id(x): x for module in modules for x in vars(module).values() if isinstance(x, Registry)}
    return [CONSTANTS, *(registry._entries for registry in registries.values())]


@dataclass
class Finished:
    """How a process ended, and what it left behind."""

    status: int
    out: str
    err: str
    cwd: Path

    @property
    def created(self) -> list[str]:
        """Everything now in the working directory, by relative path."""
        return sorted(str(p.relative_to(self.cwd)) for p in self.cwd.rglob("*"))

    @property
    def directory(self) -> Path:
        """The directory that the closing line names."""
        return self.cwd / self.out.strip().splitlines()[-1].rpartition(" | ")[2]


class Process:
    """A command that is running."""

    def __init__(self, report: Path, cwd: Path, server: subprocess.Popen) -> None:
        self._report, self._cwd, self._server = report, cwd, server

    @property
    def pid(self) -> int:
        return int(self._content(".pid"))

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def ended(self) -> bool:
        return self._report.with_suffix(".status").exists()

    def wait(self) -> Finished:
        status = int(self._content(".status"))
        out, err = (self._report.with_suffix(s) for s in (".out", ".err"))
        return Finished(status, _text(out), _text(err), self._cwd)

    def _content(self, suffix: str) -> str:
        path = self._report.with_suffix(suffix)
        wait_until(lambda: path.exists() or self._server.poll() is not None, path.name)
        return path.read_text(encoding="utf-8")


class Door:
    """Starts commands such as `run.py max_steps=5`, each in a process and a working directory of its own."""

    def __init__(self, server: subprocess.Popen, scratch: Path) -> None:
        self._server, self._scratch = server, scratch
        self._started: list[Process] = []

    def start(
        self, cwd: Path, *argv: str, door: str = "run.py", stderr: str | None = None, **environment: str
    ) -> Process:
        """Start a command without waiting for it; `stderr` may be a terminal, `environment` is added to ours."""
        report = self._scratch / f"process{len(self._started)}"
        request = {
            "argv": [str(ROOT / door), *argv],
            "cwd": str(cwd),
            "env": clean_environment(**environment),
            "stdout": str(report.with_suffix(".out")),
            "stderr": stderr or str(report.with_suffix(".err")),
            "report": str(report),
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        self._started.append(Process(report, cwd, self._server))
        return self._started[-1]

    def run(self, cwd: Path, *argv: str, **options: Any) -> Finished:
        """Run a command to its end."""
        return self.start(cwd, *argv, **options).wait()

    def close(self) -> None:
        """Kill what a failed test left running, and the server."""
        for process in self._started:
            if not process.ended:
                process.send(signal.SIGKILL)
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE)


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Start commands quickly, by the server of processes.py."""
    bytecode = tmp_path_factory.mktemp("bytecode")
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "processes.py"), str(bytecode)],
        stdin=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    # Kernels are compiled before any process starts: one that finds them uncompiled announces it.
    once = {"max_steps": 1, "engine": "compiled"}
    dln.run_experiment({**once, "training": {"batch_size": 10}, "metrics": ["weight_norm"]})
    dln.run_experiment({**once, "comparative_metrics": ["param_distance"]})
    door = Door(server, tmp_path_factory.mktemp("processes"))
    yield door
    door.close()


@pytest.fixture(scope="session")
def compose_file() -> Callable:
    """Return what a user's own YAML file, named by --config-dir and -cn, comes to: f(path, schema, overrides)."""
    from hydra.types import RunMode

    from dln.composing.compose import resolve
    from dln.composing.hydra_errors import translated
    from dln.composing.hydra_internals import create_config_search_path
    from dln.composing.loader import loader_class

    def compose(path: Path, schema: type, overrides: Sequence[str] = ()) -> Any:
        with translated(schema):
            loader = loader_class(schema)(create_config_search_path(str(path.parent)))
            composed = loader.load_configuration(path.stem, list(overrides), RunMode.RUN, from_shell=False)
        return resolve(composed, schema)

    return compose


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of its own, 64 kB until it is made larger; without the rights to mount one, the test is skipped."""
    disk = SmallDisk(tmp_path / "disk")
    disk.path.mkdir()
    disk.mount("size=64k")
    yield disk
    subprocess.run(["umount", "-l", str(disk.path)], check=True)


@dataclass
class SmallDisk:
    """A tmpfs that tests fill, or make read-only."""

    path: Path

    def mount(self, options: str) -> None:
        """Mount it, or mount it again with other options."""
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")


@pytest.fixture(scope="session")
def waiting() -> Callable:
    """Return `wait_until`, for tests that watch a process."""
    return wait_until


def clean_environment(**extra: str) -> dict[str, str]:
    """Our environment without what would change a command's behaviour, and with one thread a process."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA_", "PYTEST_", "COV_", "PYTHONPATH"))}
    return ours | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | extra


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


def _text(path: Path) -> str:
    return path.read_bytes().decode() if path.exists() else ""  # bytes: carriage returns are kept
