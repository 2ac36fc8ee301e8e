"""What a metric speaks of: the step's batch, the training set, the test set, the population; batches of what size.

A metric names quantities, which are those of the training set or of the step's batch, as its definition says. Asked
`of` something else, it is given the same quantities made of that: `INSTEAD` says what takes whose place, and all that
is made of it follows (`dln.measure.supply`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from dln.base.registry import Bounds
from dln.errors import ConfigError, suggestion

SETS = ("train", "test", "population")
"""What a metric may be of; the first of those that it can be is what it is of by default."""

FINITE_SETS = ("train", "test")
"""What has samples that can be counted."""

SETS_OR_BATCH = ("batch", *SETS)

NOTHING = ""
"""Takes the place of what there is not."""

INSTEAD: dict[str, dict[str, str]] = {
    "batch": {},
    "train": {"gradients": "whole_gradients"},
    "test": {
        "gradients": "whole_gradients",
        "input_moments": "test_input_moments",
        "input_root": "test_input_root",
        "target_moments": "test_target_moments",
        "train_inputs": "test_inputs",
        "train_targets": "test_targets",
    },
    "population": {
        "gradients": "whole_gradients",
        "input_moments": "population_input_moments",
        "input_root": "population_input_root",
        "target_moments": "population_target_moments",
        "sample_gradients": "population_gradients",
        "batch_share": "fresh_share",
        "batch_noise": "fresh_batch_noise",
        "hessian_noise": "population_hessian_noise",
        "hessian_target_noise": "fresh_hessian_target_noise",
        "mode_gradients": "population_mode_gradients",
        "mean_square": "population_mean_square",
        "train_inputs": NOTHING,
        "train_targets": NOTHING,
    },
}
"""Names of quantities and constants of the data, and what takes their place where a metric is of something."""


@dataclass(frozen=True)
class Scope:
    """What a metric speaks of; null: as its definition says."""

    of: str | None = None
    batch_size: int | None = None
    replacement: bool | None = None

    def instead(self, name: str) -> str:
        """Return what takes the place of a quantity or constant: itself, if nothing does.

        Raises:
            ConfigError: There is nothing of the kind here.

        >>> Scope("test").instead("input_moments"), Scope("test").instead("weights")
        ('test_input_moments', 'weights')
        """
        found = INSTEAD[self.of].get(name, name) if self.of else name
        if found == NOTHING:
            raise ConfigError(f"of={self.of} has no samples to count, and it needs {name}; take of=train or of=test")
        return found

    @property
    def given(self) -> dict[str, Any]:
        """What is given here instead of what the run's steps have."""
        size = None if self.batch_size is None else torch.tensor(self.batch_size, dtype=torch.float64)
        return {k: v for k, v in {"batch_size": size, "replacement": self.replacement}.items() if v is not None}

    def moves(self, name: str) -> bool:
        """Tell whether a quantity, constant or given value is another one here."""
        return name in (INSTEAD[self.of] if self.of else ()) or name in self.given


def parameters_of(marks: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that a metric has beside those of its function, by its marks `sets` and `batches`.

    Raises:
        ConfigError: `sets` lists what there is not.

    >>> [*map(str, parameters_of({"sets": ("train", "test")}).values())]
    ["of: Literal['train', 'test'] = 'train'"]
    """
    known: dict[str, tuple[Any, Any]] = {}
    sets = marks.get("sets", ())
    for name in sets:
        if name not in INSTEAD:
            raise ConfigError(f"sets of a metric: {name!r} is none; {suggestion(name, INSTEAD)}")
    if len(sets) > 1:
        known["of"] = Literal[tuple(sets)], sets[0]
    if marks.get("batches"):
        known |= {
            "batch_size": (Annotated[int | None, Bounds(least=1)], None),
            "replacement": (bool | None, None),
        }
    keyword = inspect.Parameter.KEYWORD_ONLY
    return {n: inspect.Parameter(n, keyword, default=d, annotation=a) for n, (a, d) in known.items()}


def only_mse(marks: Mapping[str, Any], scope: Scope) -> bool:
    """Tell whether a metric's formula holds for the mean squared error only: all closed forms of whole sets do."""
    return marks.get("loss") == "mse" or (scope.of != "batch" and "batch" in marks.get("sets", ()))


def scope_of(marks: Mapping[str, Any], params: Mapping[str, Any]) -> Scope:
    """Return what a metric with these marks and parameters speaks of."""
    sets = marks.get("sets", ())
    more = {name: params.get(name) for name in ("batch_size", "replacement") if marks.get("batches")}
    return Scope(params.get("of", sets[0]) if sets else None, **more)


def prefix_of(marks: Mapping[str, Any], scope: Scope) -> str:
    """Return what a metric's label begins with where it is not of what it is of by default.

    >>> sets = {"sets": SETS}
    >>> prefix_of(sets, Scope("test")), prefix_of(sets, Scope("train"))
    ('test_', '')
    """
    sets = marks.get("sets", ())
    return f"{scope.of}_" if sets and scope.of != sets[0] else ""
