"""The explorer's page: one file, with the controls and presets that the server knows in it."""

from __future__ import annotations

from typing import Any

from dln.explorer.controls import CONTROLS
from dln.explorer.cost import MOST_WORK
from dln.explorer.presets import PRESETS
from dln.explorer.question import FURTHER, MOST_SEEDS, SPACINGS, THEORIES, VARIED, Question
from dln.web.page import SCRIPTS, STYLES, asset, page, policy

OWN_SCRIPTS = ("state.js", "stream.js", "specs.js", "panels.js", "sliders.js", "explorer.js")
"""The page's own, in this order."""

ALLOWED = {"connect-src": "'self'", "img-src": "'self'"}
"""Beyond its scripts and styles: questions to the server, and the icon that browsers ask for."""


NOTEBOOKS = "http://127.0.0.1:* http://localhost:*"
"""Where notebooks are that may hold the page in a cell."""


def explorer_page(framed: bool = False) -> tuple[str, str]:
    """Return the page, and the Content-Security-Policy that is sent with it; `framed`: notebooks may hold the page."""
    scripts = [asset(name, "dln.explorer") for name in OWN_SCRIPTS]
    styles = [asset("explorer.css", "dln.explorer")]
    body = asset("body.html", "dln.explorer")
    html = page("dln explore", body, scripts, styles, data={"explorer": _told()}, allowed=ALLOWED)
    rules = policy([*map(asset, SCRIPTS), *scripts], [*map(asset, STYLES), *styles], ALLOWED)
    ancestors = NOTEBOOKS if framed else "'none'"
    return html, f"{rules}; frame-ancestors {ancestors}"


def _told() -> dict[str, Any]:
    """Return what the page is made from."""
    usual = Question()
    return {
        "controls": [control.told() for control in CONTROLS],
        "presets": [preset.told() for preset in PRESETS],
        "choices": {"vary": VARIED, "spacing": SPACINGS, "theory": THEORIES, "further": FURTHER},
        "seeds": {"default": usual.seeds, "least": 1, "most": MOST_SEEDS},
        "work": MOST_WORK,
    }
