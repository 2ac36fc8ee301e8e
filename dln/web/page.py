"""One HTML file with everything in it: scripts, styles and data, under a policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

SCRIPTS = ("uplot/uPlot.iife.min.js", "numbers.js", "colours.js", "curves.js", "other_forms.js", "chart.js", "heat.js")
"""What every page runs, in this order; each adds to the global object `dln`."""
STYLES = ("uplot/uPlot.min.css", "theme.css")


def asset(name: str, room: str = "dln.web") -> str:
    """Return the text of a file of a package, such as `chart.js`."""
    return files(room).joinpath(name).read_text(encoding="utf-8")


def page(
    title: str,
    body: str,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    blocks: Mapping[str, str] | None = None,
    allowed: Mapping[str, str] | None = None,
) -> str:
    """Return a page as one HTML text.

    Scripts run after the body is there, first those of this room, then `scripts`; they read `data` by
    `dln.data(id)`, and `blocks` by `dln.block(id)`.

    Args:
        title: The page's title, any text.
        body: What is between `<body>` and the scripts, as HTML: what comes from users must be escaped (`html.escape`).
        scripts: JavaScript texts of the page's own.
        styles: CSS texts of the page's own.
        data: What `json.dumps` takes, by ids; of finite numbers only, since JSON has no others.
        blocks: Texts of base64, by ids.
        allowed: What the policy allows beyond the page's own scripts and styles, such as {"connect-src": "'self'"}.

    Raises:
        ValueError: Data have numbers that are not finite, a block is not base64, or a script or style would end early.
    """
    all_scripts = [*map(asset, SCRIPTS), *scripts]
    all_styles = [*map(asset, STYLES), *styles]
    for kind, texts in (("script", all_scripts), ("style", all_styles)):
        if any(f"</{kind}" in text.lower() or "<!--" in text for text in texts):
            raise ValueError(f"a {kind} holds </{kind} or <!--, which would end it early")
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy(all_scripts, all_styles, allowed)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{html.escape(title)}</title>",
        *(f"<style>{text}</style>" for text in all_styles),
        "</head>",
        "<body>",
        body,
        *(
            f'<script type="application/json" id="{_id(name)}">{as_json(told)}</script>'
            for name, told in (data or {}).items()
        ),
        *(
            f'<script type="text/plain" id="{_id(name)}">{_base64(text)}</script>'
            for name, text in (blocks or {}).items()
        ),
        *(f"<script>{text}</script>" for text in all_scripts),
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def policy(scripts: Sequence[str], styles: Sequence[str], allowed: Mapping[str, str] | None = None) -> str:
    """Return the Content-Security-Policy under which these scripts and styles run, and nothing else does.

    >>> policy([""], [])[:60]
    "default-src 'none'; base-uri 'none'; form-action 'none'; scr"
    """
    rules = {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "script-src": " ".join(map(_hash, scripts)) or "'none'",
        "style-src": " ".join(map(_hash, styles)) or "'none'",
        **(allowed or {}),
    }
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


def as_json(told: Any) -> str:
    """Return JSON that no HTML parser finds a tag in.

    >>> "<" in as_json({"a": "</script>"})
    False

    Raises:
        ValueError: It has numbers that are not finite.
    """
    text = json.dumps(told, allow_nan=False, separators=(",", ":"))  # of ASCII only
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _id(name: str) -> str:
    return html.escape(name)


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)
    return text
