"""Docstrings of the reference: an example, `>>> 1 + 1`, is code for the page too, not a quotation."""

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^([ ]*)>>> .*(?:\n\1\S.*|\n\1 .*)*", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring with a fence round each example, which ends at an empty line."""
    return EXAMPLE.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", text)


class Doctests(Extension):
    """What griffe calls with every object that it has read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Fence the examples of an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
