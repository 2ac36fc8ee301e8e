"""Draw the figures of the README and of the tour, by what stands there: `python docs/make_figures.py`.

A page is followed as its reader would: commands are given, and files written, in order, in one directory. The pictures
that the page shows are then taken from there. The gallery has `docs/make_gallery.py`.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
PAGES = (ROOT / "README.md", ROOT / "docs" / "tour.md")
SETUP = ("#", "pip ", "make ")
"""How lines begin that make no figure."""


def follow(page: str, directory: Path) -> None:
    """Give a page's commands in a directory, and write its files there."""
    for language, text in re.findall(r"^```(bash|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if language == "python":
            if module := re.match(r"# (\w+\.py)\n", text):
                (directory / module[1]).write_text(text, encoding="utf-8")
            continue
        for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
            if line and not line.startswith(SETUP):
                command = re.sub(r"^python run", f"python {ROOT}/run", line)
                subprocess.run(command, shell=True, cwd=directory, check=True, env=os.environ | {"MPLBACKEND": "agg"})


if __name__ == "__main__":
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            follow(page, Path(folder))
            for figure in re.findall(r"!\[[^\]]*\]\((?:docs/)?assets/(\w+\.png)\)", page):
                shutil.copy(Path(folder) / figure, ASSETS / figure)
