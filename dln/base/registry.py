"""One class for everything that can be registered by name: metrics, teacher matrices, callbacks.

Parameters are checked against the function's annotations, types and `Bounds`, before anything runs.
"""

import functools
import importlib
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dln.errors import USER_FAULTS, ConfigError, DlnError, ExtensionError, suggestion


@dataclass(frozen=True)
class Bounds:
    """What a number may be, as a mark on its annotation: `top: Annotated[int | None, Bounds(least=1)] = None`."""

    least: float | None = None
    above: float | None = None
    most: float | None = None

    def hold(self, value: Any) -> bool:
        """Whether a value is within the bounds; a value that is not a number counts as within."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        told = {"at least": self.least, "above": self.above, "at most": self.most}
        return " and ".join(f"{word} {bound:g}" for word, bound in told.items() if bound is not None)


@dataclass(frozen=True)
class Entry:
    """A registered function: its name, the parameters a config may set, and marks given at registration."""

    kind: str
    name: str
    function: Callable[..., Any]
    parameters: Mapping[str, inspect.Parameter] | None
    """What a config may set under `params`; None where the function takes a free dict."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """For a function that takes a `params` dict: the defaults of what is not given."""
    marks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def usage(self) -> str:
        """The parameters as they would be written, e.g. `step, batch_size` or `rank=2`."""
        return ", ".join(
            name if p.default is p.empty else f"{name}={_written(p.default)}"
            for name, p in (self.parameters or {}).items()
        )

    def too_large(self, where: str, given: Mapping[str, Any]) -> DlnError:
        """Return the error of numbers that are not finite: a ConfigError for dln's own, else an ExtensionError."""
        told = f"{self.kind} {self.name!r} comes to numbers that are not finite"
        if self.function.__module__.startswith("dln."):
            return ConfigError(f"{where}: {told}, with {dict(given)}")
        return ExtensionError(f"{told}; it must return finite ones")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; user code is entered here, and stack traces shown to users begin here."""
        return self.function(*args, **kwargs)

    @functools.cached_property
    def asks_for(self) -> list[str]:
        """Arguments that no config sets: the caller supplies them."""
        return [name for name in inspect.signature(self.function).parameters if name not in (self.parameters or {})]

    def call(
        self,
        what: str,
        *args: Any,
        named: Mapping[str, Any],
        read: Callable[[Any], Any] = lambda value: value,
        where: str = "",
    ) -> Any:
        """Call the function and return what `read` makes of its value; what goes wrong is told as the function's fault.

        Args:
            what: What fails, for messages: "event 'plateaus'".
            args: Arguments by position.
            named: Arguments by name.
            read: Takes the value; what it raises counts as the function's fault too.
            where: The key of its parameters, with which the message of a ConfigError that it raises begins.

        Raises:
            ConfigError: The function raised it.
            ExtensionError: It raised anything else.
        """
        try:
            return read(self(*args, **named))
        except ConfigError as error:
            if not where:
                raise
            raise ConfigError(f"{where}: {error}") from error
        except USER_FAULTS as error:
            raise ExtensionError(f"{what} failed: {error!r}") from error

    def type_of(self, name: str) -> Any:
        """Return the type of one of its parameters, marks included; Any where nothing says it."""
        return _type(self.function, (self.parameters or {})[name])

    def check(self, params: Mapping[str, Any], where: str) -> None:
        """Raise ConfigError unless `params` fits: no unknown, missing or wrongly typed parameter.

        Args:
            params: What the config gives.
            where: The config key to name in the message, e.g. `callbacks[0].params`.
        """
        if self.parameters is None:
            return
        owner = f"{self.kind} {self.name!r}"
        for name, value in params.items():
            if name not in self.parameters:
                raise ConfigError(f"{where}.{name}: {owner} has no such parameter; {suggestion(name, self.parameters)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{where}.{name} must be a finite number, not {value}")
            hint = self.type_of(name)
            if not _fits(value, hint):
                raise ConfigError(f"{where}.{name}: {owner} takes {_spell(hint)} here, not {value!r}")
        for name, parameter in self.parameters.items():
            if parameter.default is parameter.empty and name not in params:
                raise ConfigError(f"{where}.{name}: {owner} needs this parameter; it takes: {self.usage}")


class Registry:
    """Named functions of one kind.

    >>> shapes = Registry("shape")
    >>> @shapes.register("square")
    ... def square(side: float): ...
    >>> shapes.names()
    ['square']
    >>> shapes.get("sqare")
    Traceback (most recent call last):
    dln.errors.ConfigError: unknown shape 'sqare'; did you mean 'square'? (known: square)
    """

    def __init__(self, kind: str, supplied: Iterable[str] | Callable[[], Iterable[str]] = ()) -> None:
        """Make an empty registry.

        Args:
            kind: What an entry is called in messages.
            supplied: Names of arguments that the caller supplies and a config therefore cannot set; a function that
                returns them where more may be added.
        """
        self.kind = kind
        self._supplied = supplied if callable(supplied) else tuple(supplied)
        self._entries: dict[str, Entry] = {}

    @property
    def supplied(self) -> tuple[str, ...]:
        """Names of arguments that the caller supplies, as of now."""
        return tuple(self._supplied()) if callable(self._supplied) else self._supplied

    def register(
        self,
        name: str,
        defaults: Mapping[str, Any] | None = None,
        also: Mapping[str, inspect.Parameter] | None = None,
        **marks: Any,
    ) -> Callable:
        """Return a decorator that registers a function under `name` and leaves it unchanged.

        Args:
            name: The name used in configs. Taken names are an error, except by the same function defined again
                (a notebook cell run twice).
            defaults: For functions that receive one `params` dict: the parameters it knows, with their defaults.
                Without it any parameter is accepted.
            also: Parameters that a config may set beside those of the function: the caller reads them.
            marks: Anything a caller wants to know about the function later; `of` lists further arguments it supplies.

        Raises:
            ConfigError: Another function has that name.
        """

        def decorate(function: Callable) -> Callable:
            old = self._entries.get(name)
            if old is not None and _identity(old.function) != _identity(function):
                raise ConfigError(
                    f"{self.kind} {name!r} is registered already, by {_identity(old.function)}; "
                    f"choose another name ({suggestion(None, self._entries)})"
                )
            settable = self._settable(function, defaults, marks.get("of", ()))
            self._entries[name] = Entry(
                self.kind,
                name,
                function,
                settable if settable is None else settable | dict(also or {}),
                defaults or {},
                marks,
            )
            return function

        return decorate

    def get(self, name: str, where: str = "") -> Entry:
        """Return the entry called `name`; unknown names raise ConfigError with the nearest known one."""
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            prefix = f"{where}: " if where else ""
            raise ConfigError(f"{prefix}unknown {self.kind} {name!r}; {suggestion(name, self._entries)}") from None

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter([self._entries[name] for name in self.names()])

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _settable(
        self, function: Callable, defaults: Mapping[str, Any] | None, supplied: Collection[str]
    ) -> dict[str, inspect.Parameter] | None:
        keyword = inspect.Parameter.KEYWORD_ONLY
        if defaults is not None:
            return {
                name: inspect.Parameter(name, keyword, default=value, annotation=Any if value is None else type(value))
                for name, value in defaults.items()
            }
        parameters = inspect.signature(function).parameters
        if "params" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return None
        return {name: p for name, p in parameters.items() if name not in (*self.supplied, *supplied)}


def import_extensions(modules: Iterable[str]) -> None:
    """Import the user's modules so that what they register is known.

    Raises:
        ConfigError: A module does not exist.
        ExtensionError: A module exists but raised while it was imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a script finds modules beside itself only
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
                raise ConfigError(
                    f"extensions: no module {module!r} can be imported; write it as a dotted path that Python finds "
                    f"from here (a file my_lab/metrics.py is my_lab.metrics)"
                ) from None
            raise ExtensionError(f"extensions: importing {module!r} failed: {error}") from error
        except ConfigError:
            raise
        except USER_FAULTS as error:
            raise ExtensionError(f"extensions: importing {module!r} failed: {error!r}") from error


def _written(value: Any) -> str:
    """Return a default as a config would have it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _identity(function: Callable) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _type(function: Callable, parameter: inspect.Parameter) -> Any:
    """Return the type that `parameter` is annotated with, or Any."""
    hint = parameter.annotation
    if isinstance(hint, str):
        called = function.__init__ if isinstance(function, type) else function
        try:
            hint = eval(hint, getattr(called, "__globals__", {}))
        except Exception:  # a name that only a type checker imports says nothing here
            return Any
    return Any if hint is parameter.empty else hint


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of type `hint`, for the types a config can hold; other hints fit anything."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _fits(value, args[0]) and all(mark.hold(value) for mark in args[1:] if isinstance(mark, Bounds))
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return value in args
    if origin in (list, tuple) or hint in (list, tuple):
        element = args[0] if args else Any
        return isinstance(value, list | tuple) and all(_fits(v, element) for v in value)
    if origin is dict or hint is dict:
        return isinstance(value, Mapping)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (str, bool, types.NoneType):
        return isinstance(value, hint)
    return True


def _spell(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Annotated:
        base, *marks = typing.get_args(hint)
        return ", ".join([_spell(base), *(str(mark) for mark in marks if isinstance(mark, Bounds))])
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    text = str(hint.__name__ if isinstance(hint, type) else hint)
    return text.replace("NoneType", "null").replace("None", "null")
