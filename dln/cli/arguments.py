"""The words of a command line in the order in which Hydra takes them: on one side of its options it reads overrides."""

from __future__ import annotations

from argparse import Action
from collections.abc import Mapping, Sequence

from dln.composing.hydra_internals import options
from dln.errors import ConfigError


def options_first(words: Sequence[str]) -> list[str]:
    """Return the arguments of a door, its options before its overrides.

    Raises:
        ConfigError: There is no such option, or one is without its value.

    >>> options_first(["max_steps=5", "-m", "training.lr=1,2", "-cn", "rich_lazy", "dtype=float64"])
    ['-m', '-cn', 'rich_lazy', 'max_steps=5', 'training.lr=1,2', 'dtype=float64']
    """
    known, rest = options(), list(words)
    first: list[str] = []
    overrides: list[str] = []
    last: list[str] = []  # those that would take the first override for their value
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, equals, _ = word.partition("=")
        action = _option(name, known)
        if equals or action.nargs == 0:
            first.append(word)
        elif action.nargs == "?":
            last += [word, *([rest.pop(0)] if rest and rest[0] in (action.choices or ()) else [])]
        elif rest:
            first += [word, rest.pop(0)]
        else:
            raise ConfigError(f"{name} needs a value: {name}=VALUE")
    return [*first, *overrides, *last]


def _option(name: str, known: Mapping[str, Action]) -> Action:
    """Return the option of a name, which may be cut short if it begins with two dashes."""
    begun = [option for option in known if name.startswith("--") and option.startswith(name)]
    if name not in known and len(begun) != 1:
        key = name.lstrip("-").replace("-", "_")
        raise ConfigError(f"no option {name!r}; settings have no dashes: {key}=VALUE (--help tells all there are)")
    return known[name if name in known else begun[0]]
