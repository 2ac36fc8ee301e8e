"""The cells of a sweep: axes of values, zipped or crossed, from overrides as Hydra's grammar writes them.

`training.lr=0.1,0.2`, `range(0,10)`, `choice(...)`, `glob(...)` and config groups are Hydra's. Ours are `0..100` and
`0..100..10`, ends included as in the shell's {0..100}; `linspace(0,1,5)` and `logspace(1e-4,1e-1,10)`, likewise; and
1e5 for a whole number.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep, Transformer
from omegaconf import OmegaConf

from dln.base.files import from_home
from dln.composing.keys import whole_keys
from dln.config import leaf_of
from dln.errors import ConfigError

MOST_CELLS = 10_000_000
"""Runs of a sweep: every one's identity is found, and looked for on disk, before the first starts."""

JOB = "DLN_JOB"
"""The variable in `hydra.job.env_set` that tells a launcher's worker its job; jobs may not change `hydra.sweeper`."""

_QUOTES = ("'", '"')
_SPACE = re.compile(r"([+~]*[^=]+)=(linspace|logspace)\(([^(),]+),([^(),]+),([^(),]+)\)")
_NUMBER = re.compile(r"(?<![^,( ])[+-]?\d+(\.\d*)?([eE][+]?\d{1,2})?(?![^,) ])")
_AT_HOME = re.compile(r"(?<![^=,(\[: ])~[^,)\]} ]*")
_SPAN = re.compile(r"([+~]*[^=]+)=(-?\d+)\.\.(-?\d+)(?:\.\.(\d+))?")


@dataclass(frozen=True)
class Axis:
    """Keys that move together, and the values they take: one key, or several that are zipped."""

    keys: tuple[str, ...]
    """As overrides name them: with a leading + or ++ where there is one, or as `group@package`."""
    columns: tuple[Sequence[Any], ...]
    """Every key's values, as Hydra parsed them."""
    is_group: bool
    """Whether a key names a config group: what it sets is known only once it is composed."""

    def __len__(self) -> int:
        return len(self.columns[0])

    def values(self) -> list[Iterator[Any]]:
        """Return every key's values as plain Python, one after the other."""
        return [map(Override._convert_value, column) for column in self.columns]

    def overrides(self, at: int) -> list[str]:
        """Return the overrides that set these values."""
        return [f"{key}={Transformer.str(column[at])}" for key, column in zip(self.keys, self.columns, strict=True)]


@dataclass(frozen=True)
class Grid:
    """What is the same in all runs of a sweep, and the axes whose product its cells are."""

    fixed: tuple[str, ...] = ()
    """Overrides without a sweep."""
    axes: tuple[Axis, ...] = field(default=())

    def __len__(self) -> int:
        """How many cells there are; a grid without axes has one."""
        return math.prod(len(axis) for axis in self.axes)

    def place(self, cell: int) -> tuple[int, ...]:
        """Return which value of each axis a cell has; the last axis moves fastest.

        >>> grid = parse_grid(["a=1,2", "b=0..2"])
        >>> len(grid), grid.place(4)
        (6, (1, 1))
        """
        place = []
        for axis in reversed(self.axes):
            cell, value = divmod(cell, len(axis))
            place.append(value)
        return tuple(reversed(place))

    def overrides(self, cell: int) -> list[str]:
        """Return the overrides that make a cell's run alone, those that vary first."""
        return [*self.varied(cell), *self.fixed]

    def varied(self, cell: int) -> list[str]:
        """Return those of them that vary."""
        places = zip(self.axes, self.place(cell), strict=True)
        return [text for axis, at in places for text in axis.overrides(at)]


def parse_grid(overrides: Sequence[str], zips: Sequence[Sequence[str]] = (), config_loader: Any = None) -> Grid:
    """Return the grid that overrides describe.

    Args:
        overrides: As on the command line. Of two for one key the later counts.
        zips: Lists of keys that move together.
        config_loader: Hydra's, which knows the config groups.

    Raises:
        ConfigError: An override cannot be read, or zipped keys have different numbers of values.

    >>> grid = parse_grid(["a=1,2", "b=3,4", "c=5,6", "d=7"], zips=[["a", "c"]])
    >>> [grid.overrides(cell) for cell in range(len(grid))][1]
    ['a=1', 'c=5', 'b=4', 'd=7']
    """
    parser = OverridesParser.create(config_loader=config_loader)
    parsed: dict[str, Override] = {}
    for override in parser.parse_overrides([spelled_out(o) for o in overrides]):
        parsed[override.get_key_element()] = override
    swept = {key: _axis(key, o, config_loader) for key, o in parsed.items() if o.is_sweep_override()}
    fixed = [f"{key}={o.get_value_element_as_str()}" for key, o in parsed.items() if key not in swept and _sets(o)]
    fixed += [o.input_line or key for key, o in parsed.items() if key not in swept and not _sets(o)]
    axes: dict[str, Axis] = {}
    for group in zips:
        members = [_find(key, swept) for key in group]
        axes |= dict.fromkeys(members, _zipped([swept[key] for key in members]))
    ordered = {id(axis): axis for axis in (axes.get(key, swept[key]) for key in swept)}
    cells = math.prod(len(axis) for axis in ordered.values())
    if cells > MOST_CELLS:
        sizes = " x ".join(f"{len(axis)} of {axis.keys[0]}" for axis in ordered.values())
        raise ConfigError(f"a sweep of {cells:,} runs ({sizes}); one has at most {MOST_CELLS:,}, take fewer at a time")
    return Grid(tuple(fixed), tuple(ordered.values()))


SETTINGS = ("zip", "grids", "rerun", "dry_run")
"""What may be written on the command line without `hydra.sweeper.` before it."""


def spelled_out(override: str) -> str:
    """Return an argument of the command line in Hydra's own words.

    Raises:
        ConfigError: A range, or numbers spaced evenly or by equal ratios, are not written as they should be.

    >>> spelled_out("training.batch_seed=0..100..10"), spelled_out("a=1")
    ('training.batch_seed=range(0,101,10)', 'a=1')
    >>> spelled_out("training.lr=logspace(1e-4,1e-1,4)"), spelled_out("max_steps=1e3,2.5e3")
    ('training.lr=0.0001,0.001,0.01,0.1', 'max_steps=1000,2500')
    >>> spelled_out("zip=[a,b]"), spelled_out("rerun=[a=[1,2],b=3]")
    ('hydra.sweeper.zip=[a,b]', "hydra.sweeper.rerun=['a=[1,2]','b=3']")
    >>> spelled_out("grids=[[a=1,2,b=3],[c=0..2]]")
    "hydra.sweeper.grids=[['a=1,2','b=3'],['c=0..2']]"
    """
    key, _, value = override.partition("=")
    name = key.removeprefix("hydra.sweeper.")
    if name in SETTINGS:
        if name == "rerun":
            value = _quoted_list(value)
        if name == "grids" and value.startswith("[") and value.endswith("]"):
            value = f"[{','.join(map(_quoted_list, _parts(value[1:-1])))}]"
        return f"hydra.sweeper.{name}={value}"
    override = written_out(override)
    spaced = _SPACE.fullmatch(override)
    if spaced is not None:
        return f"{spaced[1]}={','.join(map(repr, _spaced(override, *spaced.groups()[1:])))}"
    match = _SPAN.fullmatch(override)
    if match is None:
        return override
    key, start, stop, step = match.groups()
    start, stop, step = int(start), int(stop), int(step or 1)
    if stop < start or step == 0:
        raise ConfigError(
            f"{override}: {start}..{stop} by {step} holds no values; write FIRST..LAST or FIRST..LAST..STEP"
        )
    return f"{key}=range({start},{stop + 1},{step})"


def written_out(override: str) -> str:
    """Return an override with 1e5 as 100000 where its key holds whole numbers, and ~/path, which Hydra rejects, quoted.

    >>> written_out("max_steps=1e3"), written_out("max_steps=choice(1.5e3,1.5)"), written_out("training.lr=1e3")
    ('max_steps=1000', 'max_steps=choice(1500,1.5)', 'training.lr=1e3')
    >>> written_out("data.path=~/a.npz,~/b.npz"), written_out("~model.bias"), written_out("--config-dir=~") == "~"
    ("data.path='~/a.npz','~/b.npz'", '~model.bias', False)
    """
    key, equals, value = override.partition("=")
    if key.startswith("-"):  # an option of Hydra's
        return f"{key}{equals}{from_home(value)}" if value.startswith("~") else override
    if not any(quote in value for quote in _QUOTES):
        value = _AT_HOME.sub(r"'\g<0>'", value)
        override = f"{key}{equals}{value}"
    if leaf_of(key.lstrip("+")) not in whole_keys():
        return override
    return f"{key}{equals}{_NUMBER.sub(_whole, value)}"


def _whole(found: re.Match[str]) -> str:
    number = float(found[0])
    return str(int(number)) if number.is_integer() and not found[0].isdigit() else found[0]


def _spaced(override: str, kind: str, first: str, last: str, count: str) -> list[float]:
    """Return numbers spaced evenly, or by equal ratios, ends included, to 12 digits: a thousandth is 0.001."""
    try:
        start, stop, n = float(first), float(last), int(count)
    except ValueError:
        raise ConfigError(f"{override}: write {kind}(FIRST,LAST,COUNT), three numbers") from None
    if not 2 <= n <= MOST_CELLS or not math.isfinite(stop - start):
        raise ConfigError(f"{override}: COUNT must be from 2 to {MOST_CELLS:,}, and FIRST and LAST finite")
    if kind == "logspace" and not (start > 0 and stop > 0):
        raise ConfigError(f"{override}: numbers spaced by equal ratios are positive; linspace takes others")
    shares = [i / (n - 1) for i in range(n)]
    if kind == "linspace":
        values = [start + share * (stop - start) for share in shares]
    else:
        values = [start * (stop / start) ** share for share in shares]
    return [float(f"{value:.12g}") for value in values]


def quoted(text: str) -> str:
    """Return words as an override's value that means just them, whatever is in them.

    >>> quoted("a, b=c")
    "'a, b=c'"
    """
    return "'" + re.sub(r"(\\*)('|\$\{|$)", _escaped, text) + "'"


def _escaped(found: re.Match[str]) -> str:
    backslashes, special = found.groups()
    return 2 * backslashes + (f"\\{special}" if special else "")


def value_of(override: str) -> Any:
    """Return the value that an override sets; `quoted` words come back."""
    value = OverridesParser.create().parse_override(override).value()
    return OmegaConf.create({"value": value}).value


def values_by_key(overrides: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values that overrides name, one or several in the grammar of a sweep, by key.

    Raises:
        ConfigError: One cannot be read, or names a key again.

    >>> values_by_key(["a=0..2", "b=choice(x,y)", "c=[1,2]"])
    {'a': [0, 1, 2], 'b': ['x', 'y'], 'c': [[1, 2]]}
    """
    found: dict[str, list[Any]] = {}
    for override in OverridesParser.create().parse_overrides([spelled_out(o) for o in overrides]):
        key = override.key_or_group
        if key in found:
            raise ConfigError(f"{key} is named twice; name it once, with all its values: {key}=0,1")
        swept = override.is_sweep_override()
        found[key] = [*_axis(key, override, None).values()[0]] if swept else [override.value()]
    return found


def _parts(text: str) -> list[str]:
    """Split at the commas that stand in no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _quoted_list(text: str) -> str:
    """Return a list of overrides with each in quotes, so that Hydra reads it as a list of words."""
    if not (text.startswith("[") and text.endswith("]")):
        return text
    overrides: list[str] = []
    for part in _parts(text[1:-1]):
        if overrides and "=" not in part:  # the next value of a sweep
            overrides[-1] += f",{part}"
        else:
            overrides.append(part)
    return f"[{','.join(o if o[0] in _QUOTES else repr(o) for o in overrides)}]"


def _sets(override: Override) -> bool:
    return override.type is not OverrideType.DEL


def _axis(key: str, override: Override, config_loader: Any) -> Axis:
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: intervals have no values to sweep over; give a list or a range")
    sweep = override._value
    if isinstance(sweep, RangeSweep) and _length(sweep) > MOST_CELLS:
        raise ConfigError(f"{override.input_line}: these are more than {MOST_CELLS:,} values; take fewer at a time")
    steps = sweep.range() if isinstance(sweep, RangeSweep) and not sweep.shuffle else None
    values = steps if isinstance(steps, range) else list(override.sweep_iterator())  # a range of millions stays one
    if not values:
        raise ConfigError(f"{override.input_line}: there is no value to sweep over")
    return Axis((key,), (values,), config_loader is not None and _is_group(override, config_loader))


def _length(sweep: RangeSweep) -> float:
    """Return how many values a range has, about."""
    assert sweep.start is not None
    assert sweep.stop is not None
    return (sweep.stop - sweep.start) / sweep.step if sweep.step else math.inf


def _is_group(override: Override, config_loader: Any) -> bool:
    return override.package is not None or config_loader.get_group_options(override.key_or_group) != []


def _find(key: str, swept: dict[str, Axis]) -> str:
    for name in swept:
        if name.lstrip("+") == key.lstrip("+"):
            return name
    known = ", ".join(swept) or "nothing"
    raise ConfigError(f"hydra.sweeper.zip names {key!r}, which is not swept over; swept: {known}")


def _zipped(axes: Sequence[Axis]) -> Axis:
    lengths = {len(axis) for axis in axes}
    if len(lengths) > 1:
        counts = ", ".join(f"{axis.keys[0]} has {len(axis)}" for axis in axes)
        raise ConfigError(f"zipped keys need equally many values: {counts}")
    if len({axis.keys for axis in axes}) < len(axes):
        raise ConfigError(f"hydra.sweeper.zip names {axes[0].keys[0]!r} twice")
    return Axis(
        tuple(key for axis in axes for key in axis.keys),
        tuple(column for axis in axes for column in axis.columns),
        any(axis.is_group for axis in axes),
    )
