"""Makes the tracker that a config names."""

from __future__ import annotations

from typing import Any

from dln.config import TrackerConfig
from dln.errors import ExtensionError
from dln.observers import observers
from dln.trackers import mlflow, tensorboard, trackio, wandb  # noqa: F401  they register themselves
from dln.trackers.tracker import TRACKERS


def build_tracker(config: TrackerConfig) -> Any:
    """Return the tracker that a config names: an `Observer`, or what has some of its methods.

    Raises:
        ConfigError: There is no such tracker, it has no such parameters, or its library is not installed.
        ExtensionError: A user's tracker cannot be made.
    """
    entry = TRACKERS.get(config.name, "tracker")
    entry.check(config.params, "tracker.params")
    called = f"tracker {config.name!r}"
    tracker = entry.call(f"making {called}", named=config.params, where=called)
    if not observers([tracker]):
        raise ExtensionError(f"{called} must be made with methods on_start, on_record or on_end; see dln.Observer")
    return tracker
