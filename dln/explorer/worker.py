"""One worker trains for all tabs: it takes turns between them, and answers of each tab only the newest question.

An answer lies in a mailbox until the tab has taken it, one frame of each kind at most, so that a tab that does not read
takes no memory. A tab that is gone is forgotten at the next stretch of training.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator

from dln.base.machine import is_shortage
from dln.errors import DlnError
from dln.explorer.frames import frame
from dln.explorer.question import Request
from dln.explorer.training import Answer, Pace, SupersededError

log = logging.getLogger("dln")

MOST_TABS = 8
"""Tabs that are answered at a time; further ones are told to try again."""


class BusyError(Exception):
    """There are too many tabs."""


class Job:
    """A request that is being answered."""

    def __init__(self, request: Request, pace: Pace, ring: Callable[[], None], figure: bool = False) -> None:
        """Take a request, of a figure or of curves; `ring` is called whenever there is something in the mailbox."""
        self.tab, self.number = request.tab, request.number
        self.over = False
        """Whether there is nothing more to come."""
        self._ring, self._lock = ring, threading.Lock()
        self._wanted = True
        self._mail: dict[str, bytes] = {}
        answer = Answer(request.question, self.put, lambda: self._wanted, pace)
        self.pieces: Generator[None] = answer.figure() if figure else answer.pieces()

    @property
    def wanted(self) -> bool:
        """Whether someone waits for it."""
        return self._wanted

    def cancel(self) -> None:
        """Let it end at the next stretch."""
        self._wanted = False
        self._ring()

    def put(self, kind: str, content: bytes) -> None:
        """Put a frame into the mailbox in place of an older one of its kind."""
        with self._lock:
            self._mail.pop(kind, None)  # behind those that came before it
            self._mail[kind] = content
        self._ring()

    def take(self) -> list[bytes]:
        """Return what is in the mailbox, and leave it empty."""
        with self._lock:
            frames = list(self._mail.values())
            self._mail.clear()
        return frames

    def end(self) -> None:
        """Nothing more is to come."""
        self.over = True
        self._ring()


class Worker:
    """A thread that answers requests, a piece of each in turn."""

    def __init__(self) -> None:
        """Start the thread; it ends with `stop`, or with the process."""
        self.pieces = 0
        """How many pieces have been computed, for whoever wants to see that nothing is."""
        self._pace = Pace()
        self._jobs: deque[Job] = deque()
        self._current: Job | None = None
        self._change = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="explorer", daemon=True)
        self._thread.start()

    def submit(self, request: Request, ring: Callable[[], None], figure: bool = False) -> Job:
        """Return the job that answers a request, by curves or by a figure; earlier ones of its tab end.

        A request that arrives behind a newer one of its tab is over at once.

        Raises:
            BusyError: Too many tabs are being answered.
        """
        job = Job(request, self._pace, ring, figure)
        with self._change:
            for earlier in self._all():
                if earlier.tab == job.tab:
                    if earlier.number > job.number:
                        job.cancel()
                        job.end()
                        return job
                    earlier.cancel()
            if len({other.tab for other in self._all() if other.wanted} - {job.tab}) >= MOST_TABS:
                raise BusyError
            self._jobs.append(job)
            self._change.notify()
        return job

    def busy(self) -> bool:
        """Whether anything is being computed, or waits to be."""
        with self._change:
            return bool(self._all())

    def stop(self) -> None:
        """End, at the next stretch of what is being computed."""
        with self._change:
            self._stopped = True
            for job in self._all():
                job.cancel()
            self._change.notify()
        self._thread.join(timeout=5)

    def _all(self) -> list[Job]:
        return [*self._jobs, *([] if self._current is None else [self._current])]

    def _work(self) -> None:
        while True:
            with self._change:
                self._current = None
                self._change.wait_for(lambda: self._jobs or self._stopped)
                if self._stopped:
                    return
                job = self._current = self._jobs.popleft()
            more = job.wanted and self._advance(job)
            with self._change:
                if more:
                    self._jobs.append(job)
            if not more:
                job.pieces.close()  # what it holds is given up
                job.end()

    def _advance(self, job: Job) -> bool:
        """Compute the next piece of a job; return whether there are more."""
        self.pieces += 1
        try:
            next(job.pieces)
        except (StopIteration, SupersededError):
            return False
        except DlnError as error:
            job.put("fault", frame("fault", {"fault": str(error)}, {}))
            return False
        except Exception as error:  # the page is told, and the next question is answered
            short = is_shortage(error)
            if not short:
                log.exception("the explorer could not answer")
            told = "memory is too short for this" if short else f"{type(error).__name__}: {error}"
            job.put("fault", frame("fault", {"fault": told}, {}))
            return False
        return True
