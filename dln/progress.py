"""A progress bar for one run, on terminals only."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dln.timeline import acting_at, every

if TYPE_CHECKING:
    from dln.callbacks import Callback
    from dln.train import Trainer


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

        def tick(step: int, trainer: Trainer) -> None:
            bar.update(task, completed=step, loss=getattr(trainer, "train_loss", float("nan")))

        yield acting_at(interval, tick)
