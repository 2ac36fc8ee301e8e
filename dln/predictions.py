"""Which columns of a history are of theories: `train_loss_NAME` is what theory NAME says of `train_loss`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

OF_PAIRS = ("end_to_end_cosine", "end_to_end_distance", "mode_angles", "prediction_distance", "singular_value_distance")
"""Metrics of a run and a prediction."""

ALWAYS = ("train_loss", "test_loss", "end_to_end_distance")
"""Columns of which a theory that predicts maps has at least one."""


def theories_of(names: Collection[str]) -> list[str]:
    """Return what theories the columns of a run are of; `X_std`, a spread, is a column of its theory, not a theory.

    One that predicts no maps is known by the mean and the spread that it gives of a column of the run.

    >>> theories_of(["train_loss", "train_loss_flow", "train_loss_std_flow", "end_to_end_distance_flow"])
    ['flow']
    >>> theories_of(["train_loss", "modes", "modes_noisy", "modes_std_noisy"])
    ['noisy']
    """
    heads = [f"{name}_" for name in ALWAYS]
    ends = dict.fromkeys(name.removeprefix(head) for name in names for head in heads if name.startswith(head))
    for name in names:
        head, spread, end = name.partition("_std_")
        if spread and head in names and f"{head}_{end}" in names:
            ends[end] = None
    ends = [end for end in ends if end not in ("a", "b")]
    return [end for end in ends if not any(end.endswith(f"_{other}") for other in ends)]


def told_by(column: str, theories: Collection[str]) -> tuple[str, str]:
    """Split a column into what it is of, and the theory that says it; "" for what is the run's own.

    >>> told_by("modes_flow.left", ["flow"]), told_by("train_loss", ["flow"])
    (('modes.left', 'flow'), ('train_loss', ''))
    """
    head, dot, key = column.partition(".")
    theory = next((one for one in theories if head.endswith(f"_{one}")), "")
    return (head.removesuffix(f"_{theory}") if theory else head) + dot + key, theory


def conditions_of(events: Mapping[str, Any], theory: str) -> dict[str, float]:
    """Return how good a theory is for a run, from the run's events.

    >>> conditions_of({"diverged_at": 3, "lr_sharpness_flow": 0.02}, "flow")
    {'lr_sharpness': 0.02}
    """
    end = f"_{theory}"
    return {name.removesuffix(end): value for name, value in events.items() if name.endswith(end)}
