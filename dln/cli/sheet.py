"""What there is to say of one run: when and how it ended, its config, its final values and events, its files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dln.base.machine import as_bytes
from dln.errors import StorageError, printable, suggestion
from dln.results.listing import StoredRun
from dln.terminal import duration

MOST = 8
"""Numbers of a vector that are shown, the first ones."""


def sheet(run: StoredRun, columns: Sequence[str] = ()) -> str:
    """Return what is told of a run, in lines of a label and what it labels.

    Args:
        run: The run.
        columns: Which of its final values and events; none are all.

    Raises:
        StorageError: It has no such column.
    """
    values = run.values
    for name in columns:
        if name not in values:
            raise StorageError(f"the run in {run.directory} has no column {name!r}; {suggestion(name, values)}")
    rows = [
        (run.what, str(run.directory)),
        ("ended" if run.summary else "last wrote", moment(run.when)),
        ("how", ending(run)),
        *(("damaged", fault) for fault in run.faults),
        ("command", run.command),
        ("overrides", "" if _typed(run) else " ".join(run.overrides)),
        *made_with(run.summary),
        *settings(run.config or {}),
        *((name, number(value)) for name, value in values.items() if name in (columns or values.keys() - run.ends)),
        ("files", ", ".join(files(run.directory))),
    ]
    width = max(len(label) for label, _ in rows)
    return "\n".join(printable(f"{label:<{width}}  {told}") for label, told in rows if told)


def _typed(run: StoredRun) -> bool:
    """Whether all that the config was changed by was typed, so that it need not be told again."""
    try:
        return set(run.overrides) <= set(shlex.split(run.command))
    except ValueError:  # edited by hand
        return False


def ending(run: StoredRun) -> str:
    """Say where a run ended, after how long, and why."""
    told, last = run.summary, run.final.get("step")
    if not told:
        why = "it is running still, or was killed" if not run.faults else "how it ended is not known"
        return f"unfinished: {why}; " + ("there is no record" if last is None else f"its last record is of step {last}")
    took = f"in {duration(told['seconds'])} on the {told['engine']} engine"
    if not run.ends:
        return f"all {told['steps']} steps {took}"
    ends = [f"{end(name)} at step {step}" for name, step in run.ends.items()]
    whys = dict.fromkeys(WHY[name.partition("_at")[0]] for name in run.ends)
    return f"{', '.join(ends)} of {told['max_steps']} {took}: {'; '.join(whys)}"


WHY = {
    "diverged": "its loss or its weights were not finite any more",
    "stopped": "a callback has stopped it",
    "interrupted": "Ctrl-C, or a signal",
    "failed": "a metric, a callback or the disk has failed; what was recorded before is here",
}
"""Why runs end before their last step."""


def end(name: str) -> str:
    """Say what the name of an end says.

    >>> end("diverged_at"), end("stopped_at_b")
    ('diverged', 'b stopped')
    """
    what, _, lane = name.partition("_at")
    return f"{lane[1:]} {what}".strip()


def made_with(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield on what machine a run was made, and by which versions."""
    told = dict(summary.get("provenance", {}))
    if not told:
        return
    machine = [told.pop(name, None) for name in ("processor", "blas")]
    commit, modified = told.pop("commit", None), told.pop("modified", None)
    source = [f"commit {commit[:10]}{', modified' if modified else ''}"] if commit else []
    yield "machine", ", ".join(filter(None, machine))
    yield "versions", ", ".join([f"{name} {version}" for name, version in told.items() if version] + source)


APART = ("shared", "reference", "aggregate")
"""Sections that are not told as those of the run: what a sweep keeps is none of it."""


def settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a config, a line for each section; what is empty or off is left out, and equal lanes are told once.

    >>> lane = {"hidden_dim": 5, "bias": False}
    >>> list(settings({"max_steps": 9, "shared": {"model": lane}, "model_a": lane, "model_b": lane}))
    [('model_a, model_b', 'hidden_dim=5'), ('config', 'max_steps=9')]
    """
    sections = {key: value for key, value in config.items() if isinstance(value, Mapping) and key not in APART}
    alike: dict[str, list[str]] = {}
    for key, values in sections.items():
        alike.setdefault(f"{key.removesuffix('_a').removesuffix('_b')}: {_set(values)}", []).append(key)
    for text, keys in alike.items():
        yield ", ".join(keys), text.partition(": ")[2]
    yield "config", _set({key: value for key, value in config.items() if key not in (*sections, *APART)})
    reference = config.get("reference", {}).items()
    if reference:
        yield "reference", " ".join(f"{key}={_spelled(value)}" for key, value in reference)  # null is a value here


def _set(values: Mapping[str, Any]) -> str:
    told = {key: value for key, value in values.items() if value is not None and value is not False}
    return " ".join(f"{key}={_spelled(value)}" for key, value in told.items() if value not in ([], {}))


def _spelled(value: Any) -> str:
    """Write a value of a config much as on the command line: what has no parameters by its name alone.

    >>> _spelled([{"name": "weight_norm", "params": {}}, {"name": "kick", "params": {"step": 3}}])
    '[weight_norm, {name: kick, params: {step: 3}}]'
    """
    if isinstance(value, Mapping):
        told = {key: inner for key, inner in value.items() if inner not in (None, {})}
        named = [*told] == ["name"]
        return str(told["name"]) if named else f"{{{', '.join(f'{k}: {_spelled(v)}' for k, v in told.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def number(value: Any) -> str:
    """Write what was recorded: a number, or the first ones of a vector.

    >>> number(3), number(0.5), number([0.5, None])
    ('3', '5.000e-01', '[5.000e-01, null]')
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {number(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        more = [f"... {len(value)} in all"] if len(value) > MOST else []
        return f"[{', '.join([*map(number, value[:MOST]), *more])}]"
    return "null" if value is None else f"{value:.3e}" if isinstance(value, float) else str(value)


def moment(when: float) -> str:
    """Write a time, in seconds since 1970, as the clock here shows it."""
    return datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M:%S") if when else "-"


def files(directory: Path) -> Iterator[str]:
    """Yield the files in a run's directory with their sizes; a folder counts as one."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name):
        inner = [Path(at) / name for at, _, names in os.walk(path) for name in names] if path.is_dir() else []
        size = as_bytes(sum(each.stat().st_size for each in (inner or [path])))
        yield f"{path.name}/ ({len(inner)} files, {size})" if path.is_dir() else f"{path.name} ({size})"
