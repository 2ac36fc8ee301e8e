"""Questions to the explorer without a browser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from dln.explorer.frames import unpacked
from dln.explorer.question import Question
from dln.explorer.training import Answer

SMALL = {"model.hidden_dim": 6, "max_steps": 40, "training.lr": 0.002}
"""Values with which everything takes milliseconds."""


def asked(values: dict[str, Any] | None = None, **asks: Any) -> Question:
    """Return a small question."""
    return Question.of({"values": {**SMALL, **(values or {})}, "seeds": 3, "records": 9, **asks})


def answered(question: Question) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Return the last frame of each kind of an answer."""
    frames: dict[str, bytes] = {}
    for _ in Answer(question, frames.__setitem__, lambda: True).pieces():
        pass
    return {kind: unpacked(content)[0] for kind, content in frames.items()}


def body(question: dict[str, Any], tab: str = "one", number: int = 1) -> bytes:
    """Return a request as the page sends it."""
    return json.dumps({"tab": tab, "number": number, "question": question}).encode()
