"""What is known of a run beside its records: from its config and its events, where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dln.figures.style import LANES
from dln.figures.table_words import drawable, value_of
from dln.history import History
from dln.results.run import load_run

Data = History | str | Path
"""What figures of a run are drawn of: its history, or the directory that it is stored in."""

MOST_DIFFERENCES = 3
"""Keys in which two models differ that their names list."""

SECTIONS = ("model", "training", "callbacks")


def history_of(data: Data) -> History:
    """Return the history of a run.

    Raises:
        StorageError: There is no run in the directory.
    """
    return data if isinstance(data, History) else load_run(data)


def lanes_of(history: History) -> list[str]:
    """Return the suffixes of a history's models: `_a` and `_b`, or one that is empty.

    >>> lanes_of(History([{"step": 0, "train_loss_a": 1.0, "train_loss_b": 1.0}])), lanes_of(History([]))
    (['_a', '_b'], [''])
    """
    return [lane for lane in LANES if f"train_loss{lane}" in history or f"diverged_at{lane}" in history.events] or [""]


def sections(history: History, lane: str) -> dict[str, Any] | None:
    """Return what the config says of one model: `model`, `training` and `callbacks`; None where no config is known.

    Lane a of a run with a `reference` is the reference.
    """
    config = history.config
    if config is None:
        return None
    if "model_a" in config:
        return {name: config[f"{name}{lane or '_a'}"] for name in SECTIONS}
    own = {name: config[name] for name in SECTIONS}
    if lane != "_a":
        return own
    for key, value in (config.get("reference") or {}).items():
        section, _, name = key.partition(".")
        own[section] = {**own[section], name: value} if name else value
    return own


def lane_names(history: History) -> dict[str, str]:
    """Return what two models are called: by the keys of the config in which they differ; without a config a and b.

    >>> both = {"model_a": {}, "model_b": {}, "callbacks_a": [], "callbacks_b": []}
    >>> config = both | {"training_a": {"lr": 0.01}, "training_b": {"lr": 0.02}}
    >>> lane_names(History([{"step": 0, "train_loss_a": 1.0, "train_loss_b": 1.0}], config=config))
    {'_a': 'a: lr 0.01', '_b': 'b: lr 0.02'}
    """
    flat = {lane: _flat(sections(history, lane) or {}) for lane in LANES}
    keys = [key for key in flat["_a"] | flat["_b"] if flat["_a"].get(key) != flat["_b"].get(key)]
    keys = [key for key in keys if not key.startswith("callbacks.")] or keys  # which are marked where they act
    names = {}
    for lane, values in flat.items():
        told = [drawable(_said(key, values.get(key))) for key in keys[:MOST_DIFFERENCES]]
        more = ["..."] if len(keys) > MOST_DIFFERENCES else []
        names[lane] = lane[1:] + (": " if told else "") + ", ".join(told + more)
    return names


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted keys; callbacks by the names of those that there are."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        elif key == "callbacks":
            flat |= {f"callbacks.{i}": callback for i, callback in enumerate(value)}
        else:
            flat[prefix + key] = value
    return flat


def _said(key: str, value: Any) -> str:
    if key.startswith("callbacks."):
        return "no callback" if value is None else value["name"].replace("_", " ")
    return f"{key.rpartition('.')[2].replace('_', ' ')} {value_of(key, value)}"


def callbacks_of(history: History, lane: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the names of one model's callbacks, and their parameters."""
    for callback in (sections(history, lane) or {}).get("callbacks") or []:
        yield callback["name"], callback.get("params") or {}


def switches(name: str, params: Mapping[str, Any]) -> dict[int, int | None]:
    """Return the batch sizes that a callback sets, by step; none for one that sets none.

    >>> switches("switch_batch_size", {"step": 5, "batch_size": None}), switches("kick", {"step": 5})
    ({5: None}, {})
    """
    if name == "switch_batch_size":
        return {int(params["step"]): params["batch_size"]}
    if name == "multi_switch_batch_size":
        return {int(step): size for step, size in params["schedule"].items()}
    return {}


def batches_of(history: History, lane: str) -> str:
    """Say what the training loss of one model is of, if it is not of the whole training set.

    >>> def said(**training):
    ...     return batches_of(History(config={"model": {}, "training": training, "callbacks": []}), "")
    >>> said(batch_size=5), said(batch_size=None), batches_of(History(), "")
    ('batch of 5', '', '')
    """
    config, own = history.config or {}, sections(history, lane)
    if own is None:
        return ""
    data, training = config.get("data") or {}, own["training"]
    whole = None if data.get("path") or data.get("online") else data.get("train_samples")
    sizes = {training["batch_size"]}
    for name, params in callbacks_of(history, lane):
        sizes |= {*switches(name, params).values()}
        if name == "batch_growth":
            sizes.add(params["largest"])
    sizes = {None if size == whole else size for size in sizes}
    fresh = "fresh " if data.get("online") else ""
    if sizes != {None}:
        sizes.discard(None)
    if sizes == {None}:
        return "noisy labels" if training.get("label_noise") else ""
    return f"{fresh}batch of {sizes.pop()}" if len(sizes) == 1 else f"{fresh}batch"


def kind_of(history: History, column: str) -> str:
    """Return the metric that a column is of, which may have been given another name; `column` where none is known.

    >>> config = {"metrics": [{"name": "singular_values", "params": {"top": 2}, "label": "leading"}, "sharpness"]}
    >>> kind_of(History(config=config), "leading"), kind_of(History(config=config), "sharpness")
    ('singular_values', 'sharpness')
    """
    config = history.config or {}
    for key in ("metrics", "model_metrics", "metrics_a", "metrics_b"):
        listed = config.get(key)
        for metric in listed if isinstance(listed, list) else ():
            if isinstance(metric, Mapping) and metric.get("label") == column:
                return metric["name"]
    return column


def event_names(history: History) -> dict[str, str]:
    """Return the events that a config lists, by what they are called in results."""
    listed = (history.config or {}).get("events")
    told = {}
    for event in listed if isinstance(listed, list) else ():
        name = event if isinstance(event, str) else event["name"]
        told[name if isinstance(event, str) else event.get("label") or name] = name
    return told
