"""What a record supplies to metrics: quantities by name, each found when it is first asked for and then shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from dln.base.registry import Registry
from dln.measure.data_quantities import Later
from dln.measure.quantities import LANES, MODEL_QUANTITIES, PAIR_QUANTITIES
from dln.measure.scope import Scope

WHOLE = Scope()
"""Everything as its definition says."""


def needs(names: Iterable[str], known: Iterable[str] = (), scope: Scope = WHOLE) -> set[str]:
    """Return all that must be found or given for some quantities of a model or a pair, without lanes' suffixes.

    Args:
        names: The quantities.
        known: Those that are found by other means: what they are made from is left out.
        scope: What they are of: quantities that are others there do not count as known, and are called by both.

    Raises:
        ConfigError: There is nothing of the kind there.

    >>> sorted(needs(["end_to_end_values"])), sorted(needs(["end_to_end_values"], ["end_to_end"]))
    (['end_to_end', 'end_to_end_values', 'model'], ['end_to_end', 'end_to_end_values'])
    >>> sorted(needs(["sigma"], scope=Scope("test")))
    ['layers', 'model', 'sigma of test', 'test_input_moments']
    """
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = scope.instead(split_lane(waiting.pop())[0])
        registry, elsewhere = _registry(name), moves(scope, name)
        called = f"{name} of {scope.of}" if elsewhere else name
        if name in registry and called not in found and (elsewhere or name not in known):
            waiting += registry.get(name).asks_for
        found.add(called)
    return found


def moves(scope: Scope, name: str) -> bool:
    """Tell whether a quantity, or anything that it is made from, is another one in a scope."""
    name, registry = split_lane(name)[0], _registry(name)
    if scope.moves(name):
        return True
    return name in registry and any(moves(scope, argument) for argument in registry.get(name).asks_for)


def _registry(name: str) -> Registry:
    return PAIR_QUANTITIES if name in PAIR_QUANTITIES else MODEL_QUANTITIES


class Supply:
    """What metrics of one model may name, each found when it is first asked for and then shared."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Take what is known from the start, or `Later`."""
        self._given = given
        self._found: dict[str, Any] = {}
        self._scopes: dict[Scope, Supply] = {}

    def within(self, scope: Scope) -> Supply:
        """Return what the same metrics may name in a scope; what is the same there is found once for both."""
        if scope not in self._scopes:
            self._scopes[scope] = _Scoped(self, scope)
        return self._scopes[scope]

    @property
    def models(self) -> list[nn.Module]:
        """The network that all this is of, if it is of a single one."""
        return [model] if isinstance(model := self._given.get("model"), nn.Module) else []

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Any:
        if name in self._given:
            given = self._given[name]
            return given.find() if isinstance(given, Later) else given
        return _made(MODEL_QUANTITIES, name, self)


class _Scoped(Supply):
    """What metrics of one model may name in a scope."""

    def __init__(self, whole: Supply, scope: Scope) -> None:
        super().__init__(scope.given)
        self._whole, self._scope = whole, scope

    @property
    def models(self) -> list[nn.Module]:
        return self._whole.models

    def _find(self, name: str) -> Any:
        name = self._scope.instead(name)
        if name in self._given:
            return self._given[name]
        return _made(MODEL_QUANTITIES, name, self) if moves(self._scope, name) else self._whole[name]


class PairSupply:
    """What metrics of a pair may name: either lane's quantities with its suffix, and those of the pair."""

    def __init__(self, a: Supply, b: Supply, given: Mapping[str, Any] | None = None) -> None:
        """Take the lanes' supplies, and quantities of the pair that are known already."""
        self._lanes: dict[str, Supply] = {"_a": a, "_b": b}
        self._given = dict(given or {})
        self._found = dict(self._given)
        self._scopes: dict[Scope, PairSupply] = {}

    def within(self, scope: Scope) -> PairSupply:
        """Return what the same metrics may name in a scope."""
        if scope not in self._scopes:
            a, b = (lane.within(scope) for lane in self._lanes.values())
            self._scopes[scope] = PairSupply(a, b, self._given)
        return self._scopes[scope]

    @property
    def models(self) -> list[nn.Module]:
        """The two networks that all this is of, if it is of a single pair."""
        return [model for lane in self._lanes.values() for model in lane.models]

    def __getitem__(self, name: str) -> Any:
        kind, lane = split_lane(name)
        if lane:
            return self._lanes[lane][kind]
        if name not in self._found:
            self._found[name] = _made(PAIR_QUANTITIES, name, self)
        return self._found[name]


def _made(registry: Registry, name: str, supply: Supply | PairSupply) -> Any:
    entry = registry.get(name)
    return entry(**{argument: supply[argument] for argument in entry.asks_for})


def split_lane(name: str) -> tuple[str, str]:
    """Split what a metric wants into the quantity and the lane it is of.

    >>> split_lane("end_to_end_a"), split_lane("end_to_end"), split_lane("difference_squares")
    (('end_to_end', '_a'), ('end_to_end', ''), ('difference_squares', ''))
    """
    lane = name[-2:] if name[-2:] in LANES else ""
    return name.removesuffix(lane), lane
