"""Make the gallery's pictures, and the numbers on its pages, from the pages' own commands.

    python docs/make_gallery.py              all pages of docs/gallery
    python docs/make_gallery.py sigmoids     one of them

A page is the only source of what it shows: its bash block makes the picture NAME.png, and what its Python block prints
becomes its text block. `tests/test_gallery.py` follows the pages by the same functions.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

GALLERY = Path(__file__).resolve().parent / "gallery"
LARGEST = 150_000
"""Bytes that a picture may have."""
COMPARED = re.compile(r"^.+: measured (\S+), predicted (\S+), tolerance (\S+)$", re.MULTILINE)
"""A line of a page's text block that holds a measured number beside the predicted one."""


@dataclass(frozen=True)
class Page:
    """A page of the gallery.

    Attributes:
        path: Its file, NAME.md.
    """

    path: Path

    @property
    def name(self) -> str:
        """What the file is called, without .md."""
        return self.path.stem

    @property
    def text(self) -> str:
        """All that stands on the page."""
        return self.path.read_text(encoding="utf-8")

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of the bash block."""
        lines = self.block("bash").replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    @property
    def picture(self) -> str:
        """The name of the picture's file, here and in the directory where the commands are given."""
        return f"{self.name}.png"

    def block(self, language: str) -> str:
        """Return what stands in the page's one block of a language.

        Raises:
            ValueError: There is none, or more than one.
        """
        (block,) = re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        return block

    def compared(self) -> list[tuple[float, float, float]]:
        """Return measured number, predicted one and tolerance of each line of the text block that has them."""
        found = COMPARED.findall(self.block("text"))
        return [(float(measured), float(predicted), float(within)) for measured, predicted, within in found]


def pages(names: Sequence[str] = ()) -> list[Page]:
    """Return all pages but the index, by name; or those that are named."""
    found = [Page(path) for path in sorted(GALLERY.glob("*.md")) if path.stem != "index"]
    unknown = set(names) - {page.name for page in found}
    if unknown:
        raise SystemExit(f"error: there is no page {', '.join(sorted(unknown))} in {GALLERY}")
    return [page for page in found if not names or page.name in names]


def follow(page: Page, directory: Path) -> None:
    """Give a page's commands in a directory, which is made; a command that fails is an error with what it said.

    Raises:
        RuntimeError: A command failed, or there is no picture after them.
    """
    directory.mkdir(parents=True)
    for words in page.commands:
        if words[0] != "dln":
            raise RuntimeError(f"{page.path.name} has a command that is not dln's: {shlex.join(words)}")
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{page.path.name}: {shlex.join(words)}\n{done.stdout}{done.stderr}")
    if not (directory / page.picture).exists():
        raise RuntimeError(f"{page.path.name}: its commands make no {page.picture}")


def follow_all(wanted: Sequence[Page], scratch: Path) -> None:
    """Follow pages, as many at a time as there are cores, each in the directory of its name in `scratch`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in [pool.submit(follow, page, scratch / page.name) for page in wanted]:
            future.result()


def answer(page: Page, directory: Path) -> str:
    """Return what a page's Python block prints in the directory in which its commands were given."""
    code = compile(page.block("python"), page.path.name, "exec")
    with contextlib.chdir(directory), contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {"__name__": "__main__"})
    return printed.getvalue()


def write_answer(page: Page, printed: str) -> None:
    """Put what was printed in the place of a page's text block."""
    before = page.block("text")
    page.path.write_text(page.text.replace(f"```text\n{before}```", f"```text\n{printed}```"), encoding="utf-8")


def main(names: Sequence[str]) -> None:
    """Make the pictures and numbers of all pages, or of those named."""
    wanted = pages(names)
    with tempfile.TemporaryDirectory() as scratch:
        follow_all(wanted, Path(scratch))
        for page in wanted:
            directory = Path(scratch) / page.name
            size = (directory / page.picture).stat().st_size
            if size > LARGEST:
                raise SystemExit(f"error: {page.picture} has {size} bytes, and may have {LARGEST}")
            shutil.copyfile(directory / page.picture, GALLERY / page.picture)
            printed = answer(page, directory)
            write_answer(page, printed)
            print(f"{page.name}\n{printed}")


if __name__ == "__main__":
    main(sys.argv[1:])
