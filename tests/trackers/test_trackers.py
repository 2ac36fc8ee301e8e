"""Each tracker for real, on this machine alone: what was recorded is read back by the tracker's own reader."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dln import register_callback, run_experiment
from dln.config import SingleConfig, TrackerConfig
from dln.errors import ConfigError
from dln.history import History
from dln.sweeps.driver import run_sweep
from dln.timeline import acting_at
from dln.trackers.build import build_tracker
from dln.trackers.tracker import scalars
from tests.sweeps.test_plan import planner


@dataclass
class Found:
    """What a tracker's reader says of a run."""

    lr: float
    status: str
    group: str | None = None
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    """By name, the values at steps."""


# --- how each tracker is told where to write, and what reads it


def tensorboard(place: Path) -> tuple[dict[str, Any], Callable[[], dict[str, Found]]]:
    def read() -> dict[str, Found]:
        from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

        events = EventMultiplexer().AddRunsFromDirectory(str(place)).Reload()

        def text(run: str, name: str) -> str:
            return events.Tensors(run, f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()

        runs = {}
        for run, tags in events.Runs().items():
            config = json.loads(text(run, "config").removeprefix("```json").removesuffix("```"))
            found = Found(_lr(config), text(run, "status"), os.path.dirname(run) or None)
            found.values = {name: {e.step: e.value for e in events.Scalars(run, name)} for name in tags["scalars"]}
            runs[os.path.basename(run)] = found
        return runs

    return {"directory": str(place)}, read


def wandb(place: Path) -> tuple[dict[str, Any], Callable[[], dict[str, Found]]]:
    def read() -> dict[str, Found]:
        return {name: found for path in place.glob("wandb/*/*.wandb") for name, found in [_wandb_run(path)]}

    return {"directory": str(place), "project": "test"}, read


def _wandb_run(path: Path) -> tuple[str, Found]:
    name, found = "", Found(0.0, "")
    for record in _wandb_records(path.read_bytes()):
        if record.HasField("run"):
            config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            name, found.lr, found.group = record.run.display_name, _lr(config), record.run.run_group or None
        for item in record.history.item:
            if not item.nested_key[0].startswith("_"):
                values = found.values.setdefault(item.nested_key[0], {})
                values[record.history.step.num] = float(json.loads(item.value_json))
        for item in record.summary.update:
            if item.key == "status":
                found.status = json.loads(item.value_json)
    return name, found


def _wandb_records(content: bytes) -> Iterator[Any]:
    """Yield what a run's file holds: messages in pieces, none across the bounds of blocks."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, message = 7, b""
    while at < len(content):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, length, piece = struct.unpack_from("<IHB", content, at)
        message += content[at + 7 : at + 7 + length]
        at += 7 + length
        if piece in (1, 4):  # the whole, or the last
            yield Record.FromString(message)
            message = b""


def trackio(place: Path) -> tuple[dict[str, Any], Callable[[], dict[str, Found]]]:
    project = place.parent.name

    def read() -> dict[str, Found]:
        from trackio import Api, SQLiteStorage

        runs = {}
        for run in Api().runs(project):
            lr = run.config.get("training.lr", run.config.get("training_a.lr"))
            found = runs[run.name] = Found(lr, "", run.config["_Group"])
            for row in SQLiteStorage.get_logs(project, run.name):
                found.status = row.pop("status", found.status)
                step = row.pop("step")
                for name in row.keys() - {"timestamp"}:
                    found.values.setdefault(name, {})[step] = row[name]
        return runs

    return {"project": project}, read


def mlflow(place: Path) -> tuple[dict[str, Any], Callable[[], dict[str, Found]]]:
    place.mkdir()
    uri = f"sqlite:///{place}/mlflow.db"

    def read() -> dict[str, Found]:
        from mlflow import MlflowClient

        client, runs = MlflowClient(uri), {}
        experiment = client.get_experiment_by_name("test")
        for run in client.search_runs([experiment.experiment_id]) if experiment else ():
            assert run.info.status == ("KILLED" if run.data.tags["status"] == "interrupted" else "FINISHED")
            params, tags = run.data.params, run.data.tags
            lr = float(params.get("training.lr", params.get("training_a.lr")))
            found = Found(lr, tags["status"], tags.get("group"))
            for name in run.data.metrics:
                found.values[name] = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
            runs[run.info.run_name] = found
        return runs

    return {"experiment": "test", "uri": uri}, read


def _lr(config: dict[str, Any]) -> float:
    return config["training" if "training" in config else "training_a"]["lr"]


NEEDS = {tensorboard: "tensorboard", wandb: "wandb", trackio: "trackio", mlflow: "mlflow sqlalchemy alembic"}
INSTALLED = [
    pytest.param(
        make,
        id=make.__name__,
        marks=pytest.mark.skipif(
            not all(importlib.util.find_spec(name) for name in needs.split()),
            reason=f"{make.__name__} is not installed: pip install -r requirements-trackers.txt",
        ),
    )
    for make, needs in NEEDS.items()
]


@pytest.fixture(autouse=True, scope="module")
def quiet(tmp_path_factory):
    """Have trackio, which looks for its directory when it is loaded, and MLflow write where only tests look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield


@register_callback("test_trackers_interrupts")
def interrupting():
    return acting_at([9], lambda step, trainer: os.kill(os.getpid(), signal.SIGINT))


RUN = {"max_steps": 20, "evaluate_every": 4, "metrics": ["layer_norms"], "events": ["plateaus"]}
PAIR = {
    "max_steps": 20,
    "evaluate_every": 4,
    "training_b": {"batch_size": 3},
    "comparative_metrics": ["param_distance"],
}


def assert_same(found: Found, history: History, status: str) -> None:
    """What was read are the records, each once, numbers in single precision at least."""
    assert found.status == status
    expected: dict[str, dict[int, float]] = {}
    for record in history:
        for name, value in scalars(record).items():
            expected.setdefault(name, {})[record["step"]] = value
    recorded = {name: values for name, values in found.values.items() if not name.startswith("events/")}
    assert recorded.keys() == expected.keys()
    for name, values in expected.items():
        assert list(recorded[name]) == list(values)
        np.testing.assert_allclose(list(recorded[name].values()), list(values.values()), rtol=1e-6)


@pytest.mark.parametrize("make", INSTALLED)
def test_what_is_tracked_is_what_was_recorded(make, tmp_path):
    params, read = make(tmp_path / "place")
    tracker = {"name": make.__name__, "params": params}
    ran = {}
    for engine in ("compiled", "autograd"):
        ran[f"runs/{engine}"] = "finished", {**RUN, "engine": engine, "training": {"lr": 0.002}}
        ran[f"runs/{engine} pair"] = "finished", {**PAIR, "engine": engine, "training_a": {"lr": 0.003}}
    ran["runs/diverged"] = "diverged", {**RUN, "training": {"lr": 100.0}}
    ran["runs/interrupted"] = "interrupted", {**RUN, "callbacks": [{"name": "test_trackers_interrupts"}]}
    histories = {}
    for name, (status, config) in ran.items():
        try:
            histories[name] = run_experiment({**config, "tracker": tracker}, directory=tmp_path / name)
        except KeyboardInterrupt as stop:
            assert status == "interrupted"
            (histories[name],) = stop.histories  # type: ignore[attr-defined]
    found = read()
    assert found.keys() == {name.replace("/", "_") if make is tensorboard else name for name in ran}
    for name, history in histories.items():
        own = found[name.replace("/", "_") if make is tensorboard else name]
        assert_same(own, history, ran[name][0])
        assert own.lr == {"compiled": 0.002, "autograd": 0.002, "diverged": 100.0, "interrupted": 0.0005}.get(
            name.removeprefix("runs/"), 0.003
        )


@pytest.mark.parametrize("make", INSTALLED)
def test_the_runs_of_a_sweep_are_known_by_what_varies(make, tmp_path):
    params, read = make(tmp_path / "place")
    told = ", ".join(f"{key}: '{value}'" for key, value in params.items())
    overrides = ["max_steps=20", "evaluate_every=4", "training.lr=0.001,0.002", "metrics=[layer_norms]"]
    plan = planner(SingleConfig)[0]([*overrides, f"tracker={{name: {make.__name__}, params: {{{told}}}}}"], ())
    run_sweep(plan, tmp_path / "2026" / "sweep")
    found = read()
    assert sorted(found) == ["training.lr=0.001", "training.lr=0.002"]
    for cell in range(2):
        own = found[plan.name(cell)]
        assert_same(own, run_experiment({**RUN, "training": {"lr": own.lr}}), "finished")
        assert (own.lr, own.group) == ((0.001, 0.002)[cell], "2026/sweep")


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_writes_beside_the_records_and_a_run_anew_replaces_the_one_before(tmp_path):
    _, read = tensorboard(tmp_path)
    for lr in (0.001, 0.002):
        history = run_experiment({**RUN, "training": {"lr": lr}, "tracker": "tensorboard"})
    (found,) = tensorboard(Path("tensorboard"))[1]().values()
    assert_same(found, history, "finished")
    plan = planner(SingleConfig)[0](["max_steps=2", "training.lr=0.001,0.002", "tracker=tensorboard"], ())
    run_sweep(plan, tmp_path, own_directories=True)
    assert sorted(read()) == ["0", "1"]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio", "mlflow"])
def test_a_library_that_is_missing_is_named_with_the_extra_that_installs_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    with pytest.raises(ConfigError, match=rf"tracker '{name}': .* pip install \"dln\[{name}\]\""):
        build_tracker(TrackerConfig(name))
