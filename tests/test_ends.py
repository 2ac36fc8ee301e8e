"""However an experiment ends, it says so, and only what is so: signals, nobody listening, claims, others' exits."""

import io
import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

import dln
from dln.base.output import Patient, speak_patiently
from dln.base.registry import import_extensions
from dln.errors import ExtensionError, StorageError
from dln.results.run import HISTORY, MULTIRUN, RunWriter, claim_named, load_run, release
from dln.sweeps.lifeline import is_gone, this_process
from dln.terminal import Terminated, answer_signals, status_of
from tests.sweeps.test_driver import children, started_at_once, sweep_argv

pytestmark = pytest.mark.long

LONG = ["max_steps=400000", "evaluate_every=1000", "training.batch_size=5"]


def gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_stream_that_ends_is_silent_from_then_on():
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as stream:
        for _ in range(3):
            print("x" * 100000, file=Patient(stream), flush=True)


def test_a_process_whose_streams_are_closed_opens_no_file_in_their_place(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    speak_patiently()
    print("heard by nobody", flush=True)
    print("heard", file=sys.stderr)
    assert not sys.stdout.isatty()
    sys.stdout.close()


def test_signals_end_the_process_as_an_interrupt_does():
    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.signal(number, signal.SIG_DFL)
        try:
            answer_signals()
            with pytest.raises(Terminated) as caught:
                signal.raise_signal(number)
            signal.raise_signal(number)  # a second one does not cut short what the first has begun
            assert status_of(caught.value) == 128 + number
            signal.signal(number, signal.SIG_IGN)  # as by nohup
            answer_signals()
            signal.raise_signal(number)
        finally:
            signal.signal(number, before)


def test_a_run_that_is_ended_while_it_is_built_says_so(monkeypatch, tmp_path):
    def interrupted(*_):
        raise Terminated(signal.SIGTERM)

    monkeypatch.setattr("dln.data.make_teacher", interrupted)
    with pytest.raises(Terminated):
        dln.run_experiment({"max_steps": 2}, directory=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    assert load_run(tmp_path / "run").records == []


def test_a_terminated_run_stores_its_records_and_its_summary(door, waiting, tmp_path):
    process = door.start(tmp_path, *LONG, "max_steps=100000000", "hydra.run.dir=run")
    waiting(lambda: (tmp_path / "run" / HISTORY).exists() and (tmp_path / "run" / HISTORY).stat().st_size, "a record")
    process.send(signal.SIGTERM)
    result = process.wait()
    assert (result.status, result.err.count("\n")) == (143, 1)
    assert "interrupted; the records to step" in result.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "interrupted"
    assert summary["steps"] >= load_run(tmp_path / "run").final["step"] > 0


@pytest.mark.sampled
@pytest.mark.parametrize("how", ["autograd", "joblib"])
def test_a_terminated_sweep_ends_its_processes_and_says_how_to_go_on(how, door, waiting, tmp_path):
    if how == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *LONG]
    more = {"autograd": ["engine=autograd", started_at_once(tmp_path)], "joblib": joblib}[how]
    named = {"autograd": b"spawn_main", "joblib": b"loky"}[how]
    argv = sweep_argv("training.model_seed=0..40", "max_steps=10000", "evaluate_every=1000", *more)
    process = door.start(tmp_path, *argv, DLN_THREADS="2")
    workers = []

    def at_work():
        workers[:] = [pid for pid, command in children(process.pid).items() if named in command]
        return len(workers) >= 2

    waiting(at_work, "two processes")
    process.send(signal.SIGTERM)
    result = process.wait()
    assert result.status == 143, result.err
    assert "interrupted; what was finished is in here; go on with: python" in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "here" / "failed.jsonl").exists()
    waiting(lambda: gone(workers), "their end")


def test_a_worker_knows_whether_its_driver_is_there(monkeypatch):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        os._exit(0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        driver = this_process()
    assert not is_gone(driver)
    os.write(write, b"x")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(driver)  # though nobody has asked for its status yet
    os.waitpid(pid, 0)
    assert is_gone(driver)
    assert is_gone({**this_process(), "started": "7"})  # its number was given to another


def test_of_several_that_want_a_named_directory_one_gets_it(tmp_path):
    count, refused = 16, []
    gate = threading.Barrier(count)

    def claim() -> None:
        gate.wait()
        try:
            claim_named(tmp_path / "day" / "run", HISTORY)
        except StorageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=claim) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == count - 1
    with RunWriter(tmp_path / "day" / "run", claimed=True) as writer:
        writer.append({"step": 0})
    release(tmp_path / "day" / "run", HISTORY)
    assert load_run(tmp_path / "day" / "run").records == [{"step": 0}]


def test_a_claim_that_came_to_nothing_is_given_up(tmp_path):
    for _ in range(2):
        claim_named(tmp_path / "run", HISTORY)
        release(tmp_path / "run", HISTORY)


def test_a_sweep_that_came_to_no_job_gives_its_directory_up(tmp_path):
    marker = tmp_path / MULTIRUN
    for is_kept in (False, True):
        claim_named(tmp_path, MULTIRUN)
        marker.write_text("max_steps: 3\n", encoding="utf-8")
        if is_kept:
            (tmp_path / "0").mkdir()
        release(tmp_path, MULTIRUN)
        assert marker.exists() == is_kept


@pytest.mark.parametrize("mode", [[], ["-m", "training.lr=0.1,0.2"]], ids=["run", "sweep"])
def test_a_name_that_is_too_long_is_one_line(mode, door, tmp_path):
    key = "sweep" if mode else "run"
    result = door.run(tmp_path, *mode, "max_steps=2", f"hydra.{key}.dir={'x' * 300}")
    assert (result.status, result.err.count("\n"), result.created) == (1, 1, [])
    assert "name too long" in result.err


def test_code_of_others_that_exits_is_told_as_their_fault(tmp_path, monkeypatch):
    (tmp_path / "leaving_lab.py").write_text("import sys; sys.exit(0)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExtensionError, match=r"importing 'leaving_lab' failed: SystemExit\(0\)"):
        import_extensions(["leaving_lab"])

    @dln.model_metric("test_ends_leaving")
    def leaving(model):
        sys.exit(0)

    @dln.register_callback("test_ends_leaving")
    def leaver():
        return lambda step, trainer: sys.exit(0)

    for engine in ("compiled", "autograd"):
        with pytest.raises(ExtensionError, match="test_ends_leaving"):
            dln.run_experiment({"max_steps": 2, "engine": engine, "metrics": ["test_ends_leaving"]})
    with pytest.raises(ExtensionError, match="'leaver' failed"):
        dln.run_experiment({"max_steps": 2, "callbacks": [{"name": "test_ends_leaving"}]})


def test_records_that_were_removed_are_not_said_to_be_safe(tmp_path):
    with RunWriter(tmp_path / "run") as writer:
        writer.append({"step": 0})
        (tmp_path / "run" / HISTORY).unlink()
        with pytest.raises(StorageError, match="something has removed the records"):
            writer.finish({})


def test_a_sweep_of_no_members_is_refused(door, tmp_path):
    for members in ("0", "-1", "2.5"):
        result = door.run(tmp_path, "-m", "training.lr=0.1,0.2", f"hydra.sweeper.members={members}")
        assert (result.status, result.err.count("\n"), result.created) == (2, 1, [])
        assert "members" in result.err
