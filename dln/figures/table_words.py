"""What keys, their values and curves are called in figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RATE = "training.lr"
SHORT = {"hidden_dim": "width", "lr": "learning rate", "batch_seed": "seeds"}
"""What keys are called, by their last part, if not by that."""
TIME = "lr × step"  # noqa: RUF001  # a sign of multiplication, as papers have it
"""What an axis is called that is the learning rate times the step."""


def short(key: str) -> str:
    """Return what a key is called in figures and sentences.

    >>> short("model.hidden_dim"), short("training.batch_size"), short("training_b.lr")
    ('width', 'batch size', 'learning rate')
    """
    last = key.rpartition(".")[2]
    return SHORT.get(last, last.replace("_", " "))


def value_of(key: str, value: Any) -> str:
    """Return what the value of a key is called.

    >>> value_of("training.batch_size", None), value_of("model.gamma", 0.75)
    ('full', '0.75')
    """
    if value is None:
        return "full" if key.endswith("batch_size") else "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def values_named(key: str, values: Sequence[Any]) -> list[str]:
    """Return what the values of a key are called where they stand side by side: numbers with as many digits as differ.

    >>> values_named("training.lr", [0.001, 0.0021544346900318843, None])
    ['0.001', '0.00215', 'null']
    >>> values_named("training.lr", [0.12345, 0.12346])
    ['0.12345', '0.12346']
    """
    names = [value_of(key, value) for value in values]
    for digits in range(3, 17):
        names = [f"{v:.{digits}g}" if isinstance(v, float) else value_of(key, v) for v in values]
        if len({*names}) == len({*map(str, values)}):
            break
    return names


def said(name: str) -> str:
    """Return what a curve is called.

    >>> said("test_loss"), said("mode_strengths[2]"), said("norms.first_b")
    ('test loss', 'mode strengths 2', 'norms first b')
    """
    for old, new in (("_", " "), (".", " "), ("[", " "), ("]", "")):
        name = name.replace(old, new)
    return name


def drawable(text: str) -> str:
    r"""Return a text of a user's so that matplotlib writes it as it is: no mathematics, and in legends.

    >>> drawable("cost in $"), drawable("_hidden")
    ('cost in \\$', ' _hidden')
    """
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
