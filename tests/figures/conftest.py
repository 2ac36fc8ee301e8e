"""Every figure of a test is drawn."""

import pytest

from dln.figures.style import NotebookFigure


@pytest.fixture(autouse=True)
def _drawn(monkeypatch):
    """The last figure is drawn when a test ends: what cannot be drawn, or not without a warning, is found then."""
    undrawn = []
    make, draw = NotebookFigure.__init__, NotebookFigure.draw

    def made(self, *args, **about) -> None:
        make(self, *args, **about)
        undrawn.append(self)

    def seen(self, renderer) -> None:
        draw(self, renderer)
        if self in undrawn:
            undrawn.remove(self)

    monkeypatch.setattr(NotebookFigure, "__init__", made)
    monkeypatch.setattr(NotebookFigure, "draw", seen)
    yield
    for figure in undrawn[-1:]:
        figure.draw_without_rendering()
