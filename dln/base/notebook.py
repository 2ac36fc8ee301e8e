"""A notebook's kernel: figures at the end of the cell that made them, and text that is rewritten in place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_waiting: list[Any] = []
"""Figures that this cell has made and not yet shown."""


def kernel_shell() -> Any | None:
    """Return IPython's shell if this process is a notebook's kernel, else None."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


def show_at_end(figure: Any) -> None:
    """Have a notebook show a figure when the cell has ended, as changed until then; elsewhere do nothing."""
    shell = kernel_shell()
    if shell is not None:
        shell.events.register("post_execute", _show_waiting)  # once, however often it is registered
        _waiting.append(figure)


def is_shown(figure: Any) -> None:
    """Note that a figure is being shown, as the value of its cell perhaps: it need not be shown again."""
    _waiting[:] = [other for other in _waiting if other is not figure]


def _show_waiting() -> None:
    from IPython.display import display  # type: ignore[import-not-found]

    for figure in list(_waiting):
        display(figure)
    _waiting.clear()


def live_text() -> Callable[[str], None]:
    """Return what shows a text in the present cell, in place of the one it showed before."""
    from IPython.display import display  # type: ignore[import-not-found]

    handle: Any = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)
