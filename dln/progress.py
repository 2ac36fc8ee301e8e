"""How far a run or a sweep is: a bar on terminals; elsewhere nothing for a run, a line now and then for a sweep."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dln.timeline import acting_at, every

if TYPE_CHECKING:
    from dln.callbacks import Callback
    from dln.report import Report
    from dln.train import Trainer


def is_terminal() -> bool:
    """Whether progress can be shown: standard error is a terminal."""
    return sys.stderr.isatty()


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


EVERY = 10.0
"""Seconds between lines where there is no terminal."""


@contextlib.contextmanager
def progress_bar(max_steps: int) -> Iterator[Callback]:
    """Show a bar while the block runs and give it the callback that moves it; nothing where there is no terminal."""
    interval = every(max(1, max_steps // 200))
    if not is_terminal():
        yield acting_at((), lambda step, trainer: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("train_loss {task.fields[loss]:.3e}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=max_steps, loss=float("nan"))

        def tick(step: int, trainer: Trainer) -> None:
            bar.update(task, completed=step, loss=getattr(trainer, "train_loss", float("nan")))

        yield acting_at(interval, tick)
