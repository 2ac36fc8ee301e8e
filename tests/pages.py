"""The README and the pages of docs/ as a reader meets them: what is in their fences, and their commands made short."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if path.parent != ROOT / "docs" / "gallery"
}
"""Text of each page by its path; those of the gallery have another form, which tests/test_gallery.py follows."""
STEPS = 12
"""Steps of every run that a page's command makes in a test."""
SETUP = ("pip install ", "make ", "python -m pytest")
"""How lines begin that set up a clone, which `.ci/run` does."""


def fences(page: str) -> list[tuple[str, str]]:
    """Return (language, text) of all fences of a page, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the fences of one language."""
    return [text for name, text in fences(page) if name == language]


def lines(block: str) -> list[str]:
    """Return the commands of a block: continued lines joined, without comments and what sets up a clone."""
    joined = re.sub(r"\s*\\\n\s*", " ", block)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith(("#", *SETUP))]


def shortened(command: str) -> list[str]:
    """Return a door and its arguments, with few steps."""
    _, *argv = shlex.split(command, comments=True)
    if is_question(argv):
        return argv
    argv = [early(a) for a in argv]
    given = [a for a in argv if a.startswith("max_steps=")]
    if not given:
        return [*argv, f"max_steps={STEPS}"]
    few = ",".join(str(STEPS + i) for i in range(given[0].count(",") + 1))
    return [f"max_steps={few}" if a in given else a for a in argv]


def early(argument: str) -> str:
    """Return an argument, with steps in it that a short run has."""
    key, _, values = argument.partition("=")
    return f"{key}={','.join(map(str, range(values.count(',') + 1)))}" if key == "branch_at" else argument


def is_question(argv: list[str]) -> bool:
    """Whether a command prints something instead of running an experiment."""
    return any(a in ("--help", "-h", "--cfg", "-c", "--hydra-help") or a.startswith("--cfg=") for a in argv)
