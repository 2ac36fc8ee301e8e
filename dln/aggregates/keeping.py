"""What a sweep keeps of its runs in place of their curves, as `aggregate` says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dln.aggregates.piece import KEPT
from dln.config import AggregateConfig
from dln.errors import ConfigError, suggestion


@dataclass(frozen=True)
class Keeping:
    """What `aggregate` says, each thing in one spelling."""

    over: tuple[str, ...]
    of: tuple[str, ...] | None
    """None: all columns of one number."""
    keep: tuple[str, ...]
    quantiles: tuple[float, ...]
    pairs: tuple[tuple[str, str], ...]
    curves: int
    moved: tuple[str, ...] = ()
    """Keys whose values the runs of a cell differ in: those of `over`, and those that move with them."""

    @property
    def columns(self) -> list[str]:
        """Those that are named, in `of` or in a pair."""
        return [*dict.fromkeys([*(self.of or ()), *(name for pair in self.pairs for name in pair)])]

    def told(self) -> dict[str, Any]:
        """Return it as it stands in a file.

        >>> keeping_of(AggregateConfig("training.batch_seed", of="test_loss", curves=2)).told()["of"]
        ['test_loss']
        """
        return {name: _listed(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Keeping:
        """Return what `told` was made of."""
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
        return cls(**{**values, "pairs": tuple((one, other) for one, other in told["pairs"])})


def _listed(value: Any) -> Any:
    return [_listed(inner) for inner in value] if isinstance(value, tuple) else value


def keeping_of(given: AggregateConfig) -> Keeping | None:
    """Return what an `aggregate` section says, None if it asks for nothing.

    Raises:
        ConfigError: It names something twice, or in no spelling, or what cannot be kept.
    """
    over = _words(given.over, "over") if given.over is not None else ()
    if not over:
        asked = [item.name for item in dataclasses.fields(given) if getattr(given, item.name) != _default(item)]
        if asked:
            raise ConfigError(
                f"aggregate.{asked[0]} needs aggregate.over, the key to average over, e.g. training.batch_seed"
            )
        return None
    keep = _words(given.keep, "keep")
    for name in keep:
        if name not in KEPT:
            raise ConfigError(f"aggregate.keep: no such thing as {name!r} can be kept; {suggestion(name, KEPT)}")
    quantiles = given.quantiles if isinstance(given.quantiles, Sequence) else [given.quantiles]
    for level in quantiles:
        if isinstance(level, bool) or not (isinstance(level, int | float) and 0 < level < 1):
            raise ConfigError(f"aggregate.quantiles must lie between 0 and 1, both excluded, not {level!r}")
    of = None if given.of is None else _words(given.of, "of")
    levels = tuple(map(float, quantiles)) if "quantiles" in keep else ()
    return Keeping(over, of, tuple(w for w in KEPT if w in keep), levels, _pairs(given.pairs), given.curves)


def refuse_alone(given: AggregateConfig) -> None:
    """Raise ConfigError where a run that is no part of a sweep is to be averaged over."""
    if given.over:
        raise ConfigError(
            f"aggregate.over is {given.over!r}, which a sweep averages over, and this is one run: take several values "
            "behind -m, or leave aggregate out"
        )


def _default(item: dataclasses.Field) -> Any:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def _words(given: Any, name: str) -> tuple[str, ...]:
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, Sequence) or not all(isinstance(word, str) and word for word in words):
        raise ConfigError(f"aggregate.{name} must be a name or a list of names, not {given!r}")
    if not words and name == "of":
        raise ConfigError("aggregate.of is an empty list; name a column such as test_loss, or null for all")
    return tuple(dict.fromkeys(words))


def _pairs(given: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(given, Sequence) and len(given) == 2 and all(isinstance(name, str) for name in given):
        given = [given]  # one pair
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigError(f"aggregate.pairs must be a list of pairs of columns such as [[a, b]], not {given!r}")
    for pair in given:
        two = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        if not two or not all(isinstance(name, str) for name in pair) or pair[0] == pair[1]:
            raise ConfigError(f"aggregate.pairs: a pair is two columns such as [drift, noise_trace], not {pair!r}")
    return tuple(dict.fromkeys((one, other) for one, other in given))
