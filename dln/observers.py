"""What is told of a run while it goes on: that it starts, every record, and how it has ended."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dln.errors import USER_FAULTS, DlnError, ExtensionError
from dln.history import History, Record

Status = Literal["finished", "diverged", "interrupted", "failed"]
"""How a run has ended, as its `summary.json` says it."""


@dataclass(frozen=True)
class ObservedRun:
    """A run as observers know it."""

    name: str
    """Of a run alone the last two parts of its directory; in a sweep what it is varied by: `training.lr=0.1`."""
    group: str | None
    """Of a run in a sweep the last two parts of the sweep's directory."""
    config: dict[str, Any]
    """The resolved config, nested."""
    directory: Path | None
    """Where the run is stored, if it is."""
    sweep: Path | None = None
    """Where its sweep is stored, if it is of one."""

    @classmethod
    def of(cls, config: Any, name: str, directory: str | Path | None = None, sweep: Path | None = None) -> ObservedRun:
        """Return what is told of a run with a resolved config.

        >>> from dln.config import SingleConfig
        >>> ObservedRun.of(SingleConfig(max_steps=5), "outputs/2026-11-26/10-00-00").config["max_steps"]
        5
        """
        told = {key: value for key, value in dataclasses.asdict(config).items() if key != "shared"}
        group = None if sweep is None else last_parts(sweep)
        return cls(name, group, told, None if directory is None else Path(directory), sweep)


def last_parts(directory: str | Path) -> str:
    """Return by what a directory is known: the date and time of one that was not named.

    >>> last_parts("multirun/2026-11-26/10-00-00")
    '2026-11-26/10-00-00'
    """
    return "/".join(Path(directory).absolute().parts[-2:])


class Observer:
    """Is told of a run. As a callback it does nothing at any step; one that acts may have these methods too.

    >>> class Losses(Observer):
    ...     def on_start(self, run):
    ...         print("losses of", run.name)
    ...
    ...     def on_record(self, record):
    ...         print(record["step"], record["train_loss"])
    >>> with telling([Losses()], ObservedRun("a run", None, {}, None), History) as tell:
    ...     tell({"step": 0, "train_loss": 2.0})
    losses of a run
    0 2.0
    """

    steps = ()

    def __call__(self, step: int, trainer: Any) -> None:
        """Act at a step; an observer acts at none."""

    def on_start(self, run: ObservedRun) -> None:
        """Take note that a run starts."""

    def on_record(self, record: Record) -> None:
        """Take a record: `step` and, by column, floats or lists of floats."""

    def on_end(self, status: Status, history: History) -> None:
        """Take note how the run has ended, whichever way, with all its records and events."""


def observers(candidates: Iterable[Any]) -> list[Any]:
    """Return those that ask to be told of anything."""
    return [one for one in candidates if any(hasattr(one, name) for name in ("on_start", "on_record", "on_end"))]


def end_of(history: History) -> Status:
    """Return how a run has ended that was not cut short."""
    return "finished" if history.diverged_at is None else "diverged"


@contextlib.contextmanager
def telling(
    told: Sequence[Any], run: ObservedRun, history: Callable[[], History]
) -> Iterator[Callable[[Record], None]]:
    """Tell observers that a run starts; give the block what tells them of a record; tell them how the block has ended.

    Args:
        told: The observers.
        run: The run.
        history: Returns its records and events.

    Raises:
        ExtensionError: An observer fails; those that were told of the start are told of the end all the same.
    """
    started: list[Any] = []
    status: Status = "failed"

    def pass_on(record: Record) -> None:
        for one in started:
            _tell(one, "on_record", dict(record))

    try:
        for one in told:
            _tell(one, "on_start", run)
            started.append(one)
        yield pass_on
        status = end_of(history())
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        fault: DlnError | None = None
        for one in started:
            try:
                _tell(one, "on_end", status, history())
            except DlnError as error:
                fault = error
        if fault is not None and status in ("finished", "diverged"):  # else what ended the run matters more
            raise fault


def replay(told: Sequence[Any], run: ObservedRun, history: History) -> None:
    """Tell observers of a run that is over."""
    with telling(told, run, lambda: history) as tell:
        for record in history if told else ():
            tell(record)


def _tell(one: Any, what: str, *about: Any) -> None:
    """Call one of an observer's methods, if it has it."""
    method = getattr(one, what, None)
    if method is None:
        return
    try:
        method(*about)
    except DlnError:
        raise
    except USER_FAULTS as error:
        raise ExtensionError(f"{what} of {type(one).__qualname__} failed: {error!r}") from error
