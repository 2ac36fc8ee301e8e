"""What a person at a terminal sees of a run: how far it is, how it ended, and the status its process leaves with."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from dln.base.files import in_short
from dln.base.notebook import kernel_shell, live_text
from dln.predictions import conditions_of
from dln.timeline import acting_at, chosen_steps

if TYPE_CHECKING:
    from dln.config import ExperimentConfig
    from dln.history import History
    from dln.subject import Callback, Subject

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


def conditions_lines(history: History, theories: Sequence[str]) -> list[str]:
    """Say how good the theories of a run are, a line each.

    Args:
        history: The run.
        theories: What the theories are called.

    >>> from dln.history import History
    >>> conditions_lines(History(events={"balance_flow": 0.25, "lr_sharpness_flow": 1e-3}), ["flow"])
    ['theory flow: balance 0.25, lr_sharpness 0.001']
    """
    lines = []
    for theory, lane in itertools.product(theories, ("", "_a", "_b")):
        conditions = conditions_of(history.events, theory + lane)
        if conditions:
            told = ", ".join(f"{name} {value:.3g}" for name, value in conditions.items())
            of = f" of {lane[1:]}" if lane else ""
            lines.append(f"theory {theory}{of}: {told}")
    return lines


def interrupted_line(last: int | None, max_steps: int, where: str) -> str:
    """Say how far an interrupted run got: to the step of its `last` record, if there is any."""
    if last is None:
        return "interrupted before the first record"
    return f"interrupted; the records to step {last} of {max_steps} are in {where}"


def tell(config: ExperimentConfig, history: History, seconds: float, place: Path) -> None:
    """Print how a run of a small sweep ended."""
    print(closing_line(history, config.max_steps, seconds, in_short(place)), flush=True)


def duration(seconds: float) -> str:
    """Write a time as people say it.

    >>> duration(3.21), duration(300), duration(36000)
    ('3.2 s', '5.0 min', '10.0 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def time_left(done: float, total: float, seconds: float) -> str:
    """Say how long the rest takes if it goes on as before; nothing can be said before anything is done.

    >>> time_left(30, 40, seconds=6.0), time_left(0, 40, 1.0)
    (', 2.0 s left', '')
    """
    return f", {duration((total - done) * seconds / done)} left" if done > 0 else ""


def pace(done: float, seconds: float) -> str:
    """Say how fast runs end, in whichever way gives a number that is not small.

    >>> pace(300, 2.0), pace(3, 2.0), pace(3, 12.0), pace(0, 12.0)
    ('150 runs/s', '1.5 runs/s', '4.0 s/run', 'no run yet')
    """
    if not done:
        return "no run yet"
    rate = done / max(seconds, 1e-9)
    return f"{duration(1 / rate)}/run" if rate < 1 else f"{rate:.{0 if rate >= 10 else 1}f} runs/s"


def is_terminal() -> bool:
    """Whether a bar can be shown: standard error is a terminal."""
    return sys.stderr.isatty()


Show = Callable[[int, str], None]
"""Called with how much is done and what else there is to say."""


@contextlib.contextmanager
def live_view(total: int) -> Iterator[Show | None]:
    """Give the block what shows how far it is: a bar on a terminal, a text in a notebook; None where there is neither.

    What is printed or logged meanwhile appears above the bar, which is gone at the end; the text stays.
    """
    if kernel_shell() is not None:
        show = live_text()
        yield lambda done, text: show(f"{done} of {total}, {text}")
    elif is_terminal():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[text]}")
        console, own = Console(stderr=True), sys.stdout.isatty()  # what goes to a file belongs in the file
        with _logs_follow(), Progress(*columns, console=console, transient=True, redirect_stdout=own) as bar:
            task = bar.add_task("", total=total, text="")
            yield lambda done, text: bar.update(task, completed=done, text=text)
    else:
        yield None


class _Present:
    """The stream that has a name in `sys` at this moment."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(sys, self._name), attribute)


@contextlib.contextmanager
def _logs_follow() -> Iterator[None]:
    """Have log messages go to what stands in for standard output or error meanwhile; they would break into the bar."""
    changed = []
    for handler in logging.getLogger().handlers:
        for name in ("stdout", "stderr"):
            if isinstance(handler, logging.StreamHandler) and handler.stream is getattr(sys, name):
                changed.append((handler, handler.setStream(_Present(name))))
    try:
        yield
    finally:
        for handler, stream in changed:
            handler.setStream(stream)


@contextlib.contextmanager
def progress_bar(max_steps: int) -> Iterator[Callback]:
    """Show how far a run is while the block runs, and give it the callback that shows it."""
    started = time.monotonic()
    with live_view(max_steps) as show:
        if show is None:
            yield acting_at((), lambda step, trainer: None)
            return

        def tick(step: int, trainer: Subject) -> None:
            left = time_left(step, max_steps, time.monotonic() - started)
            show(step, f"train_loss {trainer.train_loss:.3e}{left}")

        yield acting_at(chosen_steps(max_steps, max(1, max_steps // 200)), tick, at_end=True)
