"""`dln report`: one HTML file of what lies in a directory, which opens anywhere and asks for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.base.files import from_home, placing
from dln.base.machine import as_bytes
from dln.base.provenance import __version__
from dln.errors import StorageError
from dln.report.packing import Pack
from dln.report.parts import Contents, read_contents
from dln.web.page import asset, page

if TYPE_CHECKING:
    from dln.studies.baselines import Baseline

SCRIPTS = (
    "store.js",
    "state.js",
    "lines.js",
    "curves_view.js",
    "map_view.js",
    "table_view.js",
    "about_view.js",
    "report.js",
)
"""In the order in which a page runs them."""
MOST_BYTES = 2_900_000
"""Of a file."""
LEAST_RECORDS = 16
"""Of curves, below which a file may be larger."""
ROOM = "dln.report.page"


@dataclass(frozen=True)
class Written:
    """A report that has been written."""

    path: Path
    size: int
    runs: int

    def __str__(self) -> str:
        """Say so in a line."""
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        return f"report of {runs} in {self.path} ({as_bytes(self.size)})"


def report(
    directory: str | Path,
    out: str | Path | None = None,
    of: Sequence[str] | None = None,
    over: Sequence[str] | None = None,
    baseline: Baseline | None = None,
    progress: bool = False,
) -> Written:
    """Write what lies in a directory as one HTML file, and return where it is.

    The same directory gives the same file, byte for byte.

    Args:
        directory: Of a run, a comparison, a sweep or a study.
        out: The file, an .html; None: `report.html` in the directory.
        of: Which curves, or vectors; None: all.
        over: What is averaged over, ["none"] for nothing; None: the seeds that vary or, of a study, what it says.
        baseline: What curves of a sweep are divided by, as `dln.aggregate` takes it; a study says it itself.
        progress: Show how far it is, if that takes long.

    Raises:
        StorageError: There is nothing to report, or no such curve or key, or it cannot be read or written.
        DamagedError: A file is not what was written.
    """
    path = from_home(directory) / "report.html" if out is None else from_home(out)
    if path.suffix not in (".html", ".htm"):
        raise StorageError(f"cannot write a report as {path.name!r}; the suffix must be .html")
    contents = read_contents(directory, of, over, baseline, progress)
    text = as_page(contents).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placing(path) as beside:
            beside.write_bytes(text)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return Written(path, len(text), contents.runs)


def as_page(contents: Contents) -> str:
    """Return a report as HTML; curves are thinned until it is small enough."""
    while True:
        text = _page(contents)
        longest = max(part.curves.steps.shape[1] for part in contents.parts)
        if len(text) <= MOST_BYTES or longest <= LEAST_RECORDS:
            return text
        for part in contents.parts:
            part.curves = part.curves.thinner(MOST_BYTES / len(text))


def _page(contents: Contents) -> str:
    pack, parts = Pack(), []
    for i, part in enumerate(contents.parts):
        told: dict[str, Any] = {"prefix": f"{i} ", **part.to_json()}
        told["curves"] = part.curves.pack(pack, told["prefix"])
        told["rows"] = part.rows.pack(pack, told["prefix"])
        parts.append(told)
    about = {
        "title": contents.title,
        "kind": contents.kind,
        "about": contents.about,
        "sentences": contents.sentences,
        "runs": contents.runs,
        "parts": parts,
        "arrays": pack.manifest,
        "version": __version__,
        "licence": asset("uplot/LICENSE"),
    }
    return page(
        f"{contents.title}: report of dln",
        asset("body.html", ROOM),
        scripts=[asset(name, ROOM) for name in SCRIPTS],
        styles=[asset("report.css", ROOM)],
        data={"report": about},
        blocks={"numbers": pack.text()},
    )
