"""What a metric is: a function of what its arguments name, registered under a name, with parameters from a config.

Arguments name the `model`, its `data`, or quantities that metrics share (`dln.measure.quantities`). The built-in
metrics (`dln.metrics`) are written once for tensors whose leading dimensions, if any, are records and members of an
ensemble.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from dln.base.registry import Bounds, Entry, Registry
from dln.config import COSTS, MetricConfig
from dln.errors import ConfigError, ExtensionError
from dln.measure.columns import check_apart, check_label, check_pair_label
from dln.measure.data_quantities import CONSTANTS
from dln.measure.quantities import IN_KERNELS, LANES, MODELS, PAIR_IN_KERNELS, PAST, of_model, of_pair
from dln.measure.scope import only_mse, parameters_of, prefix_of, scope_of
from dln.measure.supply import PairSupply, Supply, moves, needs

if TYPE_CHECKING:
    from jaxtyping import Float

    from dln.data import Dataset
    from dln.ingredients.edge import Optimizer

Value = float | list
"""What one column holds at one step: a number, or a (nested) list of them."""

Top = Annotated[int | None, Bounds(least=1)]
"""A parameter that says how many values there are, the first ones; null: all."""

Count = Annotated[int, Bounds(least=1)]
"""As `Top`, where all cannot be asked for."""

Tolerance = Annotated[float, Bounds(least=0, most=1)]
"""A parameter that is a small share of something."""

Least = Annotated[float | None, Bounds(least=0)]
"""A parameter that a value must exceed, in its own units, if that is given."""

MODEL_METRICS = Registry("metric", supplied=of_model)
COMPARATIVE_METRICS = Registry("comparative metric", supplied=of_pair)


def model_metric(name: str, **marks: Any):
    """Register `f(model) -> value`, or of any of the names that `dln.measure.quantities.of_model` lists.

    Further arguments are parameters a config can set. `p.grad` of the model's parameters holds the gradient on the
    step's batch; `data` is a `MetricData`. The value is a number, a list or array (one column of vectors), or a dict of
    them (one column `name.key` each). A metric must only read: one that changes weights or gradients is an error.

    Marks: `needs=f(shapes)` may refuse models the metric has no value for; `batched=True` says that it takes tensors
    with leading dimensions and returns a value for each member: it then asks for no `data`, and reads no `p.grad` (the
    quantity `gradients` holds them); `cost` is "cheap", "moderate" or "heavy", so that `metrics=cheap` finds it;
    `loss="mse"` says that its formula holds for the mean squared error only, and `instead` what to take for others;
    `of_optimizer=f(optimizer)` may refuse optimizers; `source` says where it is from. `sets` lists what it may be of,
    as in `dln.measure.scope`, by default the first: it then has a parameter `of`, and is given quantities of that.
    `batches=True` gives it parameters `batch_size` and `replacement`, of batches that are not the step's.
    """
    return MODEL_METRICS.register(name, also=parameters_of(marks), **marks)


def comparative_metric(name: str, **marks: Any):
    """Register `f(model_a, model_b) -> value`; further arguments are parameters a config can set.

    It may also name `dln.measure.quantities.PAIR_QUANTITIES`, and either lane's quantities: `end_to_end_a`,
    `end_to_end_b`, ...
    """
    return COMPARATIVE_METRICS.register(name, also=parameters_of(marks), **marks)


@dataclass(frozen=True)
class MetricData:
    """What a metric that asks for `data` receives: the step's batch, the whole sets (None: there is none), the loss."""

    inputs: Float[Tensor, "B in"]
    targets: Float[Tensor, "B out"]
    criterion: nn.Module
    train_inputs: Float[Tensor, "N in"] | None
    train_targets: Float[Tensor, "N out"] | None
    test_inputs: Float[Tensor, "M in"] | None
    test_targets: Float[Tensor, "M out"] | None

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor, criterion: nn.Module, sets: Dataset) -> MetricData:
        """Put a batch and its loss beside the sets it is from."""
        return cls(
            inputs, targets, criterion, sets.train_inputs, sets.train_targets, sets.test_inputs, sets.test_targets
        )


Shapes = list[list[int]]
"""Shapes of a model's parameters, layer by layer."""


def two_layers(shapes: Shapes) -> None:
    """Raise ConfigError for a net of one layer: for the mark `needs`."""
    if sum(len(shape) == 2 for shape in shapes) < 2:
        raise ConfigError("it needs at least two layers (model.num_hidden=1 or more)")


def equal_shapes(a: Shapes, b: Shapes) -> None:
    """Raise ConfigError for models of different shapes: for the mark `needs` of a metric of pairs."""
    if a != b:
        raise ConfigError(
            f"parameters of different shapes have no distance: a has {a}, b has {b}; "
            "end_to_end_distance compares the maps"
        )


# --- from names in a config to values in a record ---------------------------------------------------------------------


class Metric:
    """A registered metric with its parameters bound, and the column its values go to."""

    def __init__(self, registry: Registry, config: MetricConfig, where: str = "metrics") -> None:
        """Bind what `config` says; `where` is the config key to name in an error."""
        self._entry = registry.get(config.name, where)
        self._entry.check(config.params, f"{where}.params")
        self._scope = scope_of(self._entry.marks, config.params)
        own = inspect.signature(self._entry.function).parameters
        beside = parameters_of(self._entry.marks).keys()
        self._params = {name: v for name, v in config.params.items() if name not in beside}
        self.kind = registry.kind
        self.label = config.label or prefix_of(self._entry.marks, self._scope) + config.name
        self.called = f"{self.kind} {self.label!r}"
        """What an error calls it."""
        self.wants = [name for name in registry.supplied if name in own]
        """What it is a function of: what is given, quantities; of a pair, with the lane's suffix."""
        self._elsewhere = any(moves(self._scope, name) for name in self.wants)
        """Whether it is given anything else than its definition says."""
        self.needs = self.needs_beyond(())
        """All that must be given or found for it, without lanes' suffixes."""
        self.batched: bool = self._entry.marks.get("batched", False) and "data" not in self.needs
        self._users = not (self.batched and self._entry.function.__module__.startswith("dln."))
        """Whether it calls a user's code, which may change what it is given."""
        self.heavy = self._entry.marks.get("cost") == "heavy"
        """Whether it costs as much as many steps of training."""
        found = self.needs_beyond((*IN_KERNELS, *PAIR_IN_KERNELS))
        self._filled: dict[str, dict[str, tuple[int, ...]]] = {}
        """Shapes of the columns that its first value has filled, by their suffix."""
        self.of_quantities: bool = self.batched and not found.intersection((*MODELS, "batch"))
        """Whether it can do without weights: what the kernels find of all records and members is enough."""

    def needs_beyond(self, known: Iterable[str]) -> set[str]:
        """Return all that must be given or found for it where some quantities are found by other means.

        Raises:
            ConfigError: What it is asked to be of has nothing of the kind.
        """
        with self._naming():
            return needs(self.wants, known, self._scope)

    def check_fit(self, *shapes: Shapes) -> None:
        """Raise ConfigError if the metric has no value for models with parameters of these shapes."""
        with self._naming():
            if "needs" in self._entry.marks:
                self._entry.marks["needs"](*shapes)

    def check_setting(
        self, dataset: Dataset | None, criterion: nn.Module | None = None, optimizer: Optimizer | None = None
    ) -> None:
        """Raise ConfigError if the metric has no value on such data (no training set, no teacher) or for such steps."""
        with self._naming():
            if dataset is not None:
                self._check_data(dataset)
            mse = isinstance(criterion, nn.MSELoss) and criterion.reduction == "mean"
            if criterion is not None and not mse and only_mse(self._entry.marks, self._scope):
                instead = self._entry.marks.get("instead")
                told = f"its formula holds for MSELoss only, not for {type(criterion).__name__}"
                raise ConfigError(f"{told}; {instead}" if instead else told)
            if optimizer is not None and "of_optimizer" in self._entry.marks:
                self._entry.marks["of_optimizer"](optimizer)

    def _check_data(self, dataset: Dataset) -> None:
        try:
            for name, found_in in CONSTANTS.items():  # in their order: of several faults, always the same
                if name in self.needs:
                    found_in(dataset)
        except ConfigError as error:
            another = dataset.online and self._scope.of == "train" and "population" in self._entry.marks["sets"]
            raise ConfigError(f"{error}; of=population is there for online data" if another else str(error)) from None

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f"{self._entry.kind} {self._entry.name!r}: {error}") from None

    def __call__(self, supply: Supply | PairSupply) -> Any:
        """Return the value for what a record supplies; one that differentiates asks for `torch.enable_grad()`."""
        with torch.no_grad():
            supply = supply.within(self._scope) if self._elsewhere else supply
            models = supply.models
            thorough = self._users and bool(models)
            before = _marks(models, thorough)  # a quantity may be somebody's own code too
            given = {name: supply[name] for name in self.wants}
            before += _marks([*given.values()], thorough)
            value = self._entry(**given, **self._params)
        if _marks([*models, *given.values()], thorough) != before:
            raise ExtensionError(
                "it changed the weights, gradients or data it was given, and recording must not change the trajectory: "
                "work on copies (copy.deepcopy(model), data.inputs.clone()), or use torch.autograd.grad"
            )
        return value

    def columns(self, value: Any, suffix: str = "") -> dict[str, Value]:
        """Return the columns a value fills, e.g. {"norms_a.first": 1.0, "norms_a.last": 2.0} for a dict."""
        columns = self.plain(value, suffix)
        self.check_columns(columns, suffix)
        return columns

    def plain(self, value: Any, suffix: str = "") -> dict[str, Value]:
        """Return the columns a value fills, which may be others than those that the first one filled."""
        return {name: _plain(v) for name, v in self._parts(value, suffix).items()}

    def check_columns(self, columns: Mapping[str, Value], suffix: str = "") -> None:
        """Raise ExtensionError where `plain` columns are not those that the first value filled."""
        self._check_shapes({name: np.shape(v) for name, v in columns.items()}, suffix)

    def batched_columns(self, value: Any, suffix: str = "", lead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
        """Return the columns [*lead, ...] that the values of members fill, at records or at one."""
        columns = {name: _finite(part.detach().numpy()) for name, part in self._parts(value, suffix).items()}
        for name, column in columns.items():
            if column.shape[: len(lead)] != lead:
                raise ExtensionError(
                    f"it returned {list(column.shape)} numbers for {name!r} where leading dimensions are {list(lead)}: "
                    "with batched=True it keeps them"
                )
        self._check_shapes({name: column.shape[len(lead) :] for name, column in columns.items()}, suffix)
        return columns

    def _parts(self, value: Any, suffix: str) -> dict[str, Any]:
        name = self.label + suffix
        return {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}

    def _check_shapes(self, shapes: dict[str, tuple[int, ...]], suffix: str) -> None:
        """Raise ExtensionError where a value does not fill the columns that the first one did."""
        first = self._filled.setdefault(suffix, shapes)
        if shapes != first:
            odd = min(name for name in first.keys() | shapes.keys() if first.get(name) != shapes.get(name))
            then, now = (_numbers(told.get(odd)) for told in (first, shapes))
            raise ExtensionError(f"its values must all be of one shape, but {odd!r} has {now}, and had {then} at first")


def looks_back(metrics: Sequence[Metric]) -> bool:
    """Whether some metrics need weights of steps before the record's."""
    return any(metric.needs.intersection(PAST) for metric in metrics)


def keeps_time(metrics: Sequence[Metric]) -> bool:
    """Whether some metrics need the time that training has taken."""
    return any("time" in metric.needs for metric in metrics)


def build_metrics(
    metrics: str | Sequence[str | MetricConfig] | Sequence[Metric],
    registry: Registry = MODEL_METRICS,
    key: str = "metrics",
    shapes: Sequence[Shapes] = (),
    dataset: Dataset | None = None,
    criterion: nn.Module | None = None,
    optimizer: Optimizer | None = None,
) -> list[Metric]:
    """Return the metrics that a config lists; two that would fill the same column are an error.

    Args:
        metrics: Names, or MetricConfigs; or what was built of them, which is taken as it is. "cheap" stands for all
            cheap metrics that have a value for these models and data, "moderate" for moderate ones too, "heavy" for
            all.
        registry: Where they are registered.
        key: The config key to name in an error.
        shapes: Parameter shapes of the models, one or a pair, that each metric must have a value for.
        dataset: Data that each metric must have a value on.
        criterion: The loss that each metric must hold for.
        optimizer: The optimizer likewise.

    Raises:
        ConfigError: A metric is unknown, has wrong parameters, or has no value in this setting.
    """
    given = [metrics] if isinstance(metrics, str) else list(metrics)
    built = [metric for metric in given if isinstance(metric, Metric)]
    if built:
        return built
    configs = [MetricConfig(name=m) if isinstance(m, str) else m for m in given if not isinstance(m, Metric)]
    for i, config in enumerate(configs):
        if config.name in COSTS and config.name not in registry:
            named = {Metric(registry, c).label for c in configs if c.name in registry}
            group = [MetricConfig(entry.name) for entry in registry if _within(entry, config.name)]
            metrics_of = [Metric(registry, member) for member in group if member.name not in named]
            built += [metric for metric in metrics_of if _fits(metric, shapes, dataset, criterion, optimizer)]
        else:
            built.append(Metric(registry, config, f"{key}[{i}]"))
    for metric in built:
        (check_pair_label if registry is COMPARATIVE_METRICS else check_label)(metric.label, key)
    check_apart((metric.label for metric in built), key)
    for metric in built:
        _check(metric, shapes, dataset, criterion, optimizer)
    return built


def check_lanes(metrics: Sequence[Metric], pairs: Sequence[Metric]) -> None:
    """Raise ConfigError where a metric of each lane and one of the pair would fill the same column."""
    labels = [metric.label + lane for metric in metrics for lane in LANES]
    check_apart([*labels, *(metric.label for metric in pairs)], "comparative_metrics")


def _within(entry: Entry, cost: str) -> bool:
    """Whether a metric costs at most so much and needs no parameter."""
    given = entry.marks.get("cost")
    settled = all(p.default is not p.empty for p in (entry.parameters or {}).values())
    return given is not None and COSTS.index(given) <= COSTS.index(cost) and settled


def _check(metric: Metric, shapes: Sequence[Shapes], *setting: Any) -> None:
    if shapes:
        metric.check_fit(*shapes)
    metric.check_setting(*setting)


def _fits(metric: Metric, *setting: Any) -> bool:
    try:
        _check(metric, *setting)
    except ConfigError:
        return False
    return True


def _tensors(value: Any) -> Iterator[Tensor | np.ndarray]:
    """Yield all tensors and arrays in what a metric is given, gradients too."""
    if isinstance(value, Tensor):
        yield value
        if value.is_leaf and value.grad is not None:
            yield value.grad
    elif isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, MetricData):
        yield from _tensors(list(vars(value).values()))
    elif hasattr(value, "parameters"):
        yield from _tensors(list(value.parameters()))


def _marks(values: Sequence[Any], thorough: bool) -> list[tuple[Any, ...]]:
    """Return what would change if anything in some values did."""
    return [_mark(tensor, thorough) for tensor in _tensors(list(values))]


def _mark(tensor: Tensor | np.ndarray, thorough: bool) -> tuple[Any, ...]:
    """Return what changes when a tensor is written to or replaced.

    torch's version counters are quick to compare, but miss what is written through `.data` or numpy; `thorough`
    compares the numbers.
    """
    if isinstance(tensor, np.ndarray):
        return (id(tensor), tensor.tobytes() if thorough else b"")
    numbers = tensor.detach().cpu().numpy().tobytes() if thorough else b""
    return id(tensor), tensor._version, tensor.requires_grad, numbers


def _numbers(shape: tuple[int, ...] | None) -> str:
    return "no value" if shape is None else "one number" if not shape else " x ".join(map(str, shape)) + " numbers"


def _plain(value: Any) -> Value:
    """Return a metric's value as a float or a list of floats."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ExtensionError(
            f"it returned {value!r}: neither a number, nor a list of numbers, nor a dict of them"
        ) from None
    return _finite(array).tolist()


def _finite(values: np.ndarray) -> np.ndarray:
    """Return values as a record holds them: what is not finite is NaN, in memory as on disk."""
    return np.where(np.isfinite(values), values, np.nan)
