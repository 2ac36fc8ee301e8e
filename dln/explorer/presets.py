"""Settings named after the field's phenomena, each with what to look at and where it is from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dln.explorer.question import Question


@dataclass(frozen=True)
class Preset:
    """A phenomenon."""

    name: str
    look: str
    """What to look at, in a sentence."""
    source: str
    values: Mapping[str, Any]
    """Of the setting that is there, A."""
    other: Mapping[str, Any] = field(default_factory=dict)
    """What B has other values of; then the two are side by side."""
    asks: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the question."""

    def question(self) -> Question:
        """Return what the page asks for when the preset is chosen."""
        values = {**self.values, **self.other}
        reference = {key: self.values.get(key) for key in self.other}
        return Question.of({"values": values, "reference": reference, **self.asks})

    def told(self) -> dict[str, Any]:
        """Return what the page needs to know of it."""
        return dataclasses.asdict(self)


PRESETS: tuple[Preset, ...] = ()
