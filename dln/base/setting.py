"""How a field of the schema is declared: its default, its bounds, and what it means for runs."""

import dataclasses
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    batchable: bool = False,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] | None = None,
    layered: bool = False,
    words: tuple[str, ...] = (),
    late: bool = False,
) -> Any:
    """Declare one field of the schema.

    Args:
        default: Its default; lists and dicts are copied for every instance.
        help: One line for `--help`.
        batchable: Whether runs that differ only in it share tensor shapes and can be trained together.
        least: The smallest value allowed.
        above: A bound the value must exceed.
        most: The largest value allowed.
        choices: The only values allowed.
        layered: Whether it is a number for all layers, or a list with one a layer.
        words: What may stand in the place of these numbers.
        late: Whether there are stored sweeps from before it: at its default it is no part of what identifies a run.
    """
    bounds = {"least": least, "above": above, "most": most, "choices": choices, "words": words}
    metadata = {"help": help, "batchable": batchable, "layered": layered, "late": late, **bounds}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def number_type(item: dataclasses.Field) -> Any:
    """Return what type a number has that stands for a leaf of the schema."""
    return float if item.metadata["layered"] else item.type
