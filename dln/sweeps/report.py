"""What a sweep has done so far, counted here, or on disk while its runs are computed elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dln.results.frames import load_sweep
from dln.results.sweep import SweepStore, Tally
from dln.terminal import live_view, pace, time_left

if TYPE_CHECKING:
    import polars

    from dln.sweeps.storing import Outcome


@dataclass
class Report:
    """What a sweep did."""

    runs: int
    found: int = 0
    """Runs that were finished before."""
    finished: int = 0
    diverged: int = 0
    failed: list[tuple[list[str], str]] = field(default_factory=list)
    """Overrides of runs that raised, and what they raised."""
    trajectories: int = 0
    """How many trajectories were computed: fewer than lanes where some were bound to go the same way."""
    damaged: list[str] = field(default_factory=list)
    """Files that could not be read; they were set aside."""
    lanes: int = 0
    incomplete: int = 0
    """Runs whose directories were gone or damaged, so that they were computed again."""
    seconds: float = 0.0
    directory: str = ""
    """Where the results are; empty where nothing was run."""

    def frame(self, columns: Sequence[str] | None = None, constants: bool = False) -> polars.DataFrame:
        """Return the results that are in the directory, as `dln.load_sweep` does."""
        return load_sweep(self.directory, columns, constants)

    def add(self, outcome: Outcome) -> None:
        """Count runs that were trained and stored."""
        self.diverged += outcome.results.diverged
        self.finished += len(outcome.cells) - outcome.results.diverged
        self.trajectories += outcome.results.trajectories
        self.lanes += outcome.results.lanes

    @property
    def done(self) -> int:
        """Runs that this sweep has trained, or tried to."""
        return self.finished + self.diverged + len(self.failed)


LOOK = 1.0
"""Seconds between looks at what a launcher's jobs have put on disk."""


@contextlib.contextmanager
def following(
    results: SweepStore, report: Report, started: float, on_progress: Callable[[Report], Any] | None
) -> Iterator[None]:
    """Report what is written to disk while the block has runs computed elsewhere."""
    tally, over = Tally(results), threading.Event()

    def look() -> None:
        tally.update()
        report.diverged, report.finished = tally.diverged, tally.runs - tally.diverged
        report.trajectories, report.lanes = tally.trajectories, tally.lanes
        report.failed = [(told["overrides"], told["error"]) for told in results.failures().values()]
        report.seconds = time.perf_counter() - started
        if on_progress is not None:
            on_progress(report)

    def follow() -> None:
        while not over.wait(LOOK):
            look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


EVERY = 10.0
"""Seconds between lines where there is no terminal."""


@contextlib.contextmanager
def sweep_bar(runs: int) -> Iterator[Callable[[Report], None]]:
    """Give the block what shows how far a sweep is: a bar on a terminal, else a line now and then."""
    last = time.monotonic()

    def tell(report: Report) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            print(f"{report.found + report.done} of {report.runs} runs, {state(report)}", flush=True)

    with live_view(runs) as show:
        yield tell if show is None else lambda report: show(report.found + report.done, state(report))


def state(report: Report) -> str:
    """Say how a sweep goes, but for how many of its runs are done.

    >>> state(Report(runs=50, found=10, finished=7, diverged=1, seconds=16.0))
    '1 diverged, 2.0 s/run, 64.0 s left'
    """
    bad = "".join(f"{n} {w}, " for n, w in ((report.diverged, "diverged"), (len(report.failed), "failed")) if n)
    left = time_left(report.done, report.runs - report.found, report.seconds)
    return f"{bad}{pace(report.done, report.seconds)}{left}"
