"""What a person at a terminal sees of a run: how far it is, how it ended, and the status its process leaves with."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dln.timeline import acting_at, every

if TYPE_CHECKING:
    from dln.callbacks import Callback, Subject
    from dln.config import ExperimentConfig
    from dln.history import History

FAILURE, USAGE_ERROR, INTERRUPTED = 1, 2, 130
"""Exit status where a user's code or the disk failed, where a config cannot be run, and after Ctrl-C."""


class Terminated(KeyboardInterrupt):
    """A signal has asked this process to end: it does so as after Ctrl-C, but with the signal's exit status."""

    def __init__(self, number: int) -> None:
        """Take the signal's number."""
        super().__init__()
        self.status = 128 + number


def answer_signals() -> None:
    """From now on raise `Terminated` in the main thread at the first SIGTERM or SIGHUP that is not ignored already."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # not on every system
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # batch systems repeat it, and what is stored now must not be cut short
    raise Terminated(number)


def status_of(interrupt: KeyboardInterrupt) -> int:
    """Return the exit status after an interrupt.

    >>> status_of(KeyboardInterrupt()), status_of(Terminated(15))
    (130, 143)
    """
    return getattr(interrupt, "status", INTERRUPTED)


def closing_line(history: History, max_steps: int, seconds: float, where: str) -> str:
    """Say in one line how a run ended: steps, time, final losses, where the results are.

    The losses are those of the last record; where the run did not end at that step, the line says at which they are.

    >>> from dln.history import History
    >>> records = [{"step": 9, "train_loss": 0.5}]
    >>> closing_line(History(records), 9, 1.25, "outputs/x")
    '9 steps in 1.2 s | train_loss 5.000e-01 | outputs/x'
    >>> closing_line(History(records, {"diverged_at": 12}), 20, 1.25, "outputs/x")
    'diverged at step 12 of 20 in 1.2 s | train_loss 5.000e-01 at step 9 | outputs/x'
    """
    final, ends = history.final, history.ends
    ended = [f"{name.replace('_at', '')} at step {step}" for name, step in ends.items()]
    head = f"{', '.join(ended)} of {max_steps}" if ends else f"{final.get('step', 0)} steps"
    losses = [f"{name} {value:.3e}" for name, value in final.items() if "_loss" in name and isinstance(value, float)]
    values = ", ".join(losses)
    if losses and ends and max(ends.values()) != final["step"]:
        values += f" at step {final['step']}"
    return " | ".join([f"{head} in {seconds:.1f} s", *([values] if losses else []), where])


def interrupted_line(last: int | None, max_steps: int, where: str) -> str:
    """Say how far an interrupted run got: to the step of its `last` record, if there is any."""
    if last is None:
        return "interrupted before the first record"
    return f"interrupted; the records to step {last} of {max_steps} are in {where}"


def tell(config: ExperimentConfig, history: History, seconds: float, place: Path) -> None:
    """Print how a run of a small sweep ended."""
    print(closing_line(history, config.max_steps, seconds, os.path.relpath(place)), flush=True)


def duration(seconds: float) -> str:
    """Write a time as people say it.

    >>> duration(3.21), duration(300), duration(36000)
    ('3.2 s', '5.0 min', '10.0 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def is_terminal() -> bool:
    """Whether progress can be shown: standard error is a terminal."""
    return sys.stderr.isatty()


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

        def tick(step: int, trainer: Subject) -> None:
            bar.update(task, completed=step, loss=trainer.train_loss)

        yield acting_at(interval, tick)
