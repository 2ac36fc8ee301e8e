"""Draw the figures of the front page by the commands that stand beside them there: `python docs/make_figures.py`."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ("modes.png", "starts.png")


def commands() -> list[str]:
    """Return the commands of the README that lead to a figure, in order."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines()]
    named = [figure.removesuffix(".png") for figure in FIGURES]
    return [line for line in lines if any(f"dir={name}" in line or f"dln plot {name} " in line for name in named)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for command in commands():
            command = command.replace("python run.py", f"python {ROOT / 'run.py'}")
            subprocess.run(command, shell=True, cwd=folder, check=True, env=os.environ | {"MPLBACKEND": "agg"})
        for figure in FIGURES:
            shutil.copy(Path(folder) / figure, ROOT / "docs" / "assets" / figure)
