"""A study as a file: sweeps, what is found of their runs, the figures, and the sentences that it comes to."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from dln.base.registry import Entry, import_extensions
from dln.base.values import check_plain
from dln.composing.keys import keys
from dln.composing.yaml_file import read_yaml
from dln.config import SingleConfig, leaf_of
from dln.errors import ConfigError, suggestion
from dln.studies.aggregate import Wanted
from dln.studies.figures import FIGURES
from dln.studies.sentences import SENTENCES

T = TypeVar("T")

SUMMARY = "summary.txt"
"""What was said of a study, in its directory."""

_HERE = Path(__file__).resolve().parent
STUDIES = _HERE / "shipped" if (_HERE / "shipped").is_dir() else _HERE.parents[1] / "studies"
"""Named studies: those of the installed package, or of a clone."""


@dataclass(frozen=True)
class Table:
    """What is found of the runs of a part: arguments of `dln.aggregate`."""

    over: str | list[str]
    by: str | list[str] | None = None
    of: str | list[str] | None = None
    baseline: dict[str, Any] | str | None = None
    confidence: float = 0.95
    quantiles: list[float] = field(default_factory=lambda: [0.5])
    resamples: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """The arguments as they are given."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}


@dataclass(frozen=True)
class Part:
    """One sweep, as `python run.py -m` takes it, and its table."""

    aggregate: Table
    sweep: dict[str, Any] = field(default_factory=dict)
    zip: list[Any] = field(default_factory=list)
    about: str = ""
    store: Literal["curves", "sums"] = "curves"
    """What is kept of the runs: their curves, or sums over those of each condition, which are small."""


@dataclass(frozen=True)
class Draw:
    """A figure of each of some parts: a function's panels, in rows and columns by values of two keys."""

    name: str
    parts: list[str] | None = None
    rows: str | None = None
    columns: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Say:
    """What a study comes to, by a function that says it of the tables of some parts."""

    name: str
    parts: list[str] | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """All of a file."""

    parts: dict[str, Part]
    sentences: list[Say]
    figures: dict[str, Draw] = field(default_factory=dict)
    about: str = ""
    scale: float = 1.0
    scaled: dict[str, list[float]] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
    zip: list[Any] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)

    def parts_of(self, what: Draw | Say) -> dict[str, Part]:
        """Return the parts that something is of: by default all."""
        return {name: part for name, part in self.parts.items() if what.parts is None or name in what.parts}


def names() -> list[str]:
    """Return the names of the studies that come with the package."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def path_of(study: str | Path) -> Path:
    """Return the file of a study: one that comes with the package, by its name, or a path.

    Raises:
        ConfigError: There is none.
    """
    named = STUDIES / f"{study}.yaml"
    if str(study) in names():
        return named
    path = Path(study).expanduser()
    if path.is_file():
        return path
    raise ConfigError(f"there is no study and no file {str(study)!r}; {suggestion(study, names())}")


def load_study(study: str | Path) -> Study:
    """Return a study, checked, but for what only its sweeps' configs can tell.

    Args:
        study: The name of one that comes with the package, or a file.

    Raises:
        ConfigError: There is none, or something in it is wrong: the message has the key, the fault and the remedy.
        ExtensionError: A module that it imports raised.

    >>> load_study("golden_path").parts.keys()
    dict_keys(['offline', 'online'])
    """
    path = path_of(study)
    try:
        return _study(read_yaml(path))
    except ConfigError as error:
        raise error if str(path) in str(error) else ConfigError(f"{path.name}: {error}") from error


def _study(given: Mapping[str, Any]) -> Study:
    modules = given.get("extensions", [])
    if isinstance(modules, list):
        import_extensions(modules)
    content = dict(given)
    for section, read in {"parts": _part, "figures": _draw}.items():
        if isinstance(content.get(section), Mapping):
            content[section] = {name: read(inner, f"{section}.{name}") for name, inner in content[section].items()}
    if isinstance(content.get("sentences"), list):
        content["sentences"] = [_say(inner, f"sentences[{i}]") for i, inner in enumerate(content["sentences"])]
    study = _read(Study, content, "")
    _check_scales(study)
    if not study.parts or not study.sentences:
        raise ConfigError(f"{'sentences' if study.parts else 'parts'}: a study has at least one")
    check_plain("sweep", study.sweep)
    for name, figure in study.figures.items():
        for side in ("rows", "columns"):
            key = getattr(figure, side)
            if key is not None and leaf_of(key) is None:
                raise ConfigError(f"figures.{name}.{side}: unknown key {key!r}; {suggestion(key, keys(SingleConfig))}")
    for where, what in [*study.figures.items(), *((say.name, say) for say in study.sentences)]:
        for name in what.parts or ():
            if name not in study.parts:
                raise ConfigError(f"{where}: unknown part {name!r}; {suggestion(name, study.parts)}")
    return study


def _part(given: Any, where: str) -> Part:
    content = dict(_mapping(given, where))
    if "aggregate" in content:
        table = _read(Table, content["aggregate"], f"{where}.aggregate")
        Wanted(table.confidence, tuple(table.quantiles), table.resamples)
        content["aggregate"] = table
    part = _read(Part, content, where)
    check_plain(f"{where}.sweep", part.sweep)
    if part.store == "sums" and part.aggregate.resamples:
        raise ConfigError(f"{where}: a bootstrap draws runs anew, whose curves must be there: store: curves")
    return part


def _draw(given: Any, where: str) -> Draw:
    draw = _read(Draw, given, where)
    FIGURES.get(draw.name, f"{where}.name").check(draw.params, f"{where}.params")
    return draw


def _say(given: Any, where: str) -> Say:
    say = _read(Say, {"name": given} if isinstance(given, str) else given, where)
    SENTENCES.get(say.name, f"{where}.name").check(say.params, f"{where}.params")
    return say


def _mapping(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where or 'a study'} must be a mapping, key: value, not {given!r}")
    return given


def _read(kind: type[T], given: Any, where: str) -> T:
    """Return a section of a file as what it is, its keys and their types checked."""
    parameters = inspect.signature(kind).parameters
    prefix = f"{where}." if where else ""
    for key in _mapping(given, where):
        if key not in parameters:
            raise ConfigError(f"unknown key '{prefix}{key}'; {suggestion(key, parameters)}")
    Entry("section", where or "study", kind, parameters).check(given, where)
    return kind(**given)


def _check_scales(study: Study) -> None:
    if not 0 < study.scale <= 1:
        raise ConfigError(f"scale must lie in (0, 1], not be {study.scale}")
    for name, ends in study.scaled.items():
        fine = isinstance(ends, list) and len(ends) == 2 and all(isinstance(n, int | float) and n > 0 for n in ends)
        if not fine or not name.isidentifier() or name == "scale":
            raise ConfigError(f"scaled.{name} must be a word and two numbers, [at the file's scale, at 1], not {ends}")


def lines(study: Study) -> Iterator[str]:
    """Yield what a study is in a few lines of text."""
    yield study.about
    for name, part in study.parts.items():
        yield f"{name}: {part.about}" if part.about else name
