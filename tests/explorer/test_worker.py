"""One worker: the newest question of each tab, turns between tabs, and no work for tabs that are gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dln.explorer import worker as module
from dln.explorer.frames import unpacked
from dln.explorer.question import Question, Request
from dln.explorer.worker import BusyError, Job, Worker
from tests.explorer.asking import SMALL, asked


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.stop()


class Script:
    """In the place of answers: pieces that wait to be let go, and a note of who computed what."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.go = threading.Semaphore(0)
        self.fault: Exception | None = None

    def answer(self, pieces: int) -> Callable:
        script = self

        class Answer:
            def __init__(self, question: Question, tell: Callable, wanted: Callable, pace: object) -> None:
                self.name = question.value("max_steps")
                self.tell = tell

            def pieces(self) -> Iterator[None]:
                for piece in range(pieces):
                    script.go.acquire(timeout=10)
                    if script.fault is not None:
                        raise script.fault
                    script.done.append((self.name, piece))
                    self.tell("curves", b"%d" % piece)
                    yield

        return Answer


def request(tab: str, number: int = 1, name: int = 1) -> Request:
    return Request(tab, number, Question(values={**SMALL, "max_steps": name}))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    made = Script()
    monkeypatch.setattr(module, "Answer", made.answer(pieces=3))
    return made


def test_tabs_take_turns(worker, script):
    jobs = [worker.submit(request(tab, name=name), lambda: None) for tab, name in (("x", 1), ("y", 2))]
    script.go.release(6)
    until(lambda: all(job.over for job in jobs))
    assert script.done == [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)]
    assert not worker.busy()


def test_a_newer_question_of_a_tab_ends_the_older_at_its_next_piece(worker, script):
    older = worker.submit(request("x", 1, name=1), lambda: None)
    script.go.release(1)
    until(lambda: (1, 0) in script.done)
    newer = worker.submit(request("x", 2, name=2), lambda: None)
    script.go.release(9)
    until(lambda: newer.over and older.over)
    assert not older.wanted
    assert [name for name, _ in script.done].count(2) == 3
    assert script.done.count((1, 2)) == 0


def test_a_question_that_arrives_behind_a_newer_one_is_not_computed(worker, script):
    newer = worker.submit(request("x", 5, name=5), lambda: None)
    late = worker.submit(request("x", 4, name=4), lambda: None)
    assert late.over
    assert not late.wanted
    assert newer.wanted
    script.go.release(3)
    until(lambda: newer.over)
    assert {name for name, _ in script.done} == {5}


def test_so_many_tabs_and_no_more(worker, script):
    jobs = [worker.submit(request(f"tab {i}"), lambda: None) for i in range(module.MOST_TABS)]
    with pytest.raises(BusyError):
        worker.submit(request("one more"), lambda: None)
    assert worker.submit(request("tab 1", 2), lambda: None).wanted  # in the place of its older one
    for job in jobs:
        job.cancel()
    script.go.release(99)
    until(lambda: not worker.busy())


def test_a_tab_that_does_not_read_keeps_one_frame_of_a_kind(worker, script):
    job = worker.submit(request("x"), lambda: None)
    script.go.release(3)
    until(lambda: job.over)
    assert job.take() == [b"2"]
    assert job.take() == []


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("odd"), "ValueError: odd"), (MemoryError(), "memory is too short for this")],
)
def test_what_fails_is_told_and_the_next_question_is_answered(worker, script, error, told, caplog):
    script.fault = error
    failed = worker.submit(request("x"), lambda: None)
    script.go.release(1)
    until(lambda: failed.over)
    assert unpacked(failed.take()[0])[0][0] == {"kind": "fault", "fault": told}
    script.fault = None
    after = worker.submit(request("x", 2, name=7), lambda: None)
    script.go.release(3)
    until(lambda: after.over)
    assert (7, 2) in script.done


def test_work_stops_within_a_stretch_once_nobody_wants_it(worker):
    """The real thing: a question of minutes, dropped while it trains."""
    long = asked({"max_steps": 200_000, "model.hidden_dim": 60}, seeds=64, records=257)
    rung = threading.Event()
    job = worker.submit(Request("x", 1, long), rung.set)
    until(lambda: bool(job.take()))
    time.sleep(0.3)  # longer than a piece takes: it goes on, though nobody takes what there is
    assert worker.busy()
    job.cancel()
    until(lambda: not worker.busy())
    pieces = worker.pieces
    time.sleep(0.2)  # as long as something could still be computed
    assert worker.pieces == pieces
    assert rung.is_set()


def test_a_fault_of_the_config_is_one_frame(worker):
    job: Job = worker.submit(Request("x", 1, asked({"training.batch_size": 500})), lambda: None)
    until(lambda: job.over)
    ((told, _),) = unpacked(b"".join(job.take()))
    assert told["kind"] == "fault"
    assert "training.batch_size" in told["fault"]


def test_stopping_ends_what_is_computed():
    own = Worker()
    job = own.submit(Request("x", 1, asked({"max_steps": 200_000}, seeds=64, records=257)), lambda: None)
    own.stop()
    assert not job.wanted
    assert not own._thread.is_alive()
