"""What a sweep has done so far, counted here, or on disk while its runs are computed elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dln.results.sweep import SweepStore, Tally
from dln.terminal import is_terminal

if TYPE_CHECKING:
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
    if not is_terminal():
        last = time.monotonic()

        def tell(report: Report) -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                print(state(report), flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("runs", total=runs, state="")

        def show(report: Report) -> None:
            bar.update(task, completed=report.found + report.done, state=state(report))

        yield show


def state(report: Report) -> str:
    """Say how far a sweep is."""
    rate = report.done / report.seconds if report.seconds else 0.0
    left = (report.runs - report.found - report.done) / rate if rate else 0.0
    bad = "".join(f", {n} {w}" for n, w in ((report.diverged, "diverged"), (len(report.failed), "failed")) if n)
    return f"{report.found + report.done} of {report.runs} runs{bad}; {rate:.0f} runs/s, {left:.0f} s left"
