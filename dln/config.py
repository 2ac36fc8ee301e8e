"""The schema: every key an experiment's configuration may have, with its type, default, bounds and meaning.

Plain dataclasses, light to import. `dln.composing.compose` merges YAML files, overrides and dictionaries into them;
`--help` and the README's table are generated from them. A field is *structural* (shapes, counts, names: runs that
differ in it cannot be trained together) or *batchable* (seeds, rates, scales).
"""

import dataclasses
import functools
import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from dln.errors import ConfigError, suggestion


def setting(
    default: Any,
    help: str,
    *,
    batchable: bool = False,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare one field of the schema.

    Args:
        default: Its default; lists and dicts are copied for every instance.
        help: One line for `--help`.
        batchable: Whether runs that differ only in it share tensor shapes and can be trained together.
        least: The smallest value allowed.
        above: A bound the value must exceed.
        most: The largest value allowed.
        choices: The only values allowed.
    """
    bounds = {"least": least, "above": above, "most": most, "choices": choices}
    metadata = {"help": help, "batchable": batchable, **bounds}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


LARGEST = 2**63 - 1
"""The largest whole number: what tables hold."""

MOST_STEPS = 2**31 - 1
"""The last step there can be: steps in tables have 32 bits."""

MOST_LAYERS = 10_000
"""Hidden layers; every layer is an object of its own."""

COSTS = ("cheap", "moderate", "heavy")
"""What metrics may cost; in place of a list, each stands for all metrics that cost at most so much."""


@dataclass
class ModelConfig:
    """A deep linear network: num_hidden + 1 weight matrices."""

    in_dim: int = setting(5, "input dimension", least=1)
    out_dim: int = setting(5, "output dimension", least=1)
    num_hidden: int = setting(3, "hidden layers; weight matrices are one more", least=0, most=MOST_LAYERS)
    hidden_dim: Any = setting(50, "width of the hidden layers: a number, or a list with one a layer")
    gamma: float = setting(1.0, "initial weights ~ N(0, width**-gamma)", batchable=True)
    init: str = setting("gamma", "initialisation (see below)")
    init_params: Any = setting({}, "its parameters", batchable=True)
    alpha: float = setting(
        1.0, "factor on all initial weights, a file's too; scales W_L...W_1 by alpha**L", batchable=True, above=0
    )
    bias: bool = setting(False, "add biases, zero at the start")
    weights: str | None = setting(None, "start from this checkpoint (.npz) instead of random weights", batchable=True)


@dataclass
class DataConfig:
    """Training and test data: a linear teacher on random inputs, or arrays of one's own."""

    name: str = setting("linear_teacher", "how the data is made", choices=("linear_teacher",))
    params: dict[str, Any] = setting({"matrix": "diagonal"}, "the teacher: matrix and its parameters", batchable=True)
    rotate: bool = setting(False, "turn the teacher: U T V', U and V random orthogonal matrices", batchable=True)
    inputs: str = setting("gaussian", "distribution of the inputs (see below)", batchable=True)
    inputs_params: dict[str, Any] = setting({}, "its parameters", batchable=True)
    d_active: int | None = setting(None, "inputs live in the first d_active coordinates; null: in all", least=1)
    whiten: bool = setting(False, "make X'X/N of the training inputs exactly I; test inputs stay as drawn")
    path: str | None = setting(None, "own data (.npz); keys of teacher and inputs are then ignored")
    train_samples: int = setting(100, "size of the training set (unused when online)", least=1)
    test_samples: int = setting(100, "size of the test set", least=1)
    noise_std: float = setting(0.0, "standard deviation of the noise on training targets", batchable=True, least=0)
    online: bool = setting(False, "draw fresh samples for every batch; needs training.batch_size")
    data_seed: int = setting(0, "seed of teacher, inputs and noise", batchable=True, least=0)

    @property
    def samples(self) -> int | None:
        """Size of the training set; None if data are online.

        Raises:
            ConfigError: `path` is no archive with training inputs.
        """
        if self.path is None:
            return None if self.online else self.train_samples
        from dln.base.arrays import count_samples  # imports numpy

        try:
            return count_samples(self.path)
        except ConfigError as error:
            raise ConfigError(f"data.path: {error}") from error


@dataclass
class TrainingConfig:
    """Optimisation of one model."""

    lr: float = setting(0.0005, "learning rate", batchable=True, above=0)
    batch_size: int | None = setting(None, "samples a step; null is the full batch", least=1)
    optimizer: str = setting("SGD", "any torch.optim optimizer")
    optimizer_params: Any = setting({}, "its further arguments, e.g. {momentum: 0.9}")
    criterion: str = setting("MSELoss", "any torch.nn loss on (output, target)")
    criterion_params: Any = setting({}, "its arguments")
    model_seed: int = setting(0, "seed of the initial weights", batchable=True, least=0)
    batch_seed: int = setting(0, "seed of the batch order, and of online samples", batchable=True, least=0)


@dataclass
class CallbackConfig:
    """A mid-training intervention, by its registered name."""

    name: str = setting(MISSING, "registered name")
    params: dict[str, Any] = setting({}, "its parameters", batchable=True)


@dataclass
class MetricConfig:
    """A metric, by its registered name; a bare name in the YAML is short for one without parameters."""

    name: str = setting(MISSING, "registered name")
    params: dict[str, Any] = setting({}, "its parameters", batchable=True)
    label: str | None = setting(None, "column name, if not the metric's own")


@dataclass
class EventConfig:
    """Something to find in the records of a run that has ended, by its registered name; bare as metrics may be."""

    name: str = setting(MISSING, "registered name")
    params: dict[str, Any] = setting({}, "its parameters", batchable=True)
    label: str | None = setting(None, "what it is called in results, if not by its own name")


@dataclass
class ExperimentConfig:
    """What single and comparative experiments have in common."""

    data: DataConfig = field(default_factory=DataConfig)
    max_steps: int = setting(2500, "number of optimizer steps", least=1, most=MOST_STEPS)
    evaluate_every: int = setting(1, "steps between records; step 0 and the last are always recorded", least=1)
    evaluate_at: Any = setting(None, "steps to record instead: [1, 10, 100], or {log: 50} for 50 spaced geometrically")
    checkpoint_every: int | None = setting(None, "steps between saved weights, last step included; null: none", least=1)
    checkpoint_at: Any = setting(None, "steps to save weights at instead, as in evaluate_at")
    dtype: str = setting("float32", "precision", choices=("float32", "float64"))
    device: str = setting("cpu", "cpu, cuda, cuda:1, mps, or auto")
    engine: str = setting("auto", "what trains", choices=("auto", "compiled", "autograd"))
    events: list[Any] = setting([], "what to find in the records at the end (see below)")
    extensions: list[str] = setting([], "modules of yours to import, e.g. [my_lab.metrics]")

    @property
    def saves_weights(self) -> bool:
        """Whether runs leave checkpoints."""
        return self.checkpoint_every is not None or self.checkpoint_at is not None


@dataclass
class SingleConfig(ExperimentConfig):
    """One run of one model: `run.py`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metrics: Any = setting([], "metrics to record (see below); cheap, moderate, heavy: all that cost at most so much")
    callbacks: list[Any] = setting([], "interventions (see below)")


@dataclass
class SharedConfig:
    """Values that both lanes of a comparative experiment refer to unless told otherwise."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class ComparativeConfig(ExperimentConfig):
    """Two models, a and b, trained in lockstep on the same data: `run_comparative.py`."""

    shared: SharedConfig = field(default_factory=SharedConfig)
    model_a: ModelConfig = field(default_factory=ModelConfig)
    model_b: ModelConfig = field(default_factory=ModelConfig)
    training_a: TrainingConfig = field(default_factory=TrainingConfig)
    training_b: TrainingConfig = field(default_factory=TrainingConfig)
    callbacks_a: list[Any] = setting([], "interventions on model a")
    callbacks_b: list[Any] = setting([], "interventions on model b")
    model_metrics: Any = setting([], "metrics of each model, recorded as NAME_a and NAME_b; or cheap, moderate, heavy")
    comparative_metrics: Any = setting([], "metrics of the pair; or cheap, moderate, heavy")


Schema = type[SingleConfig] | type[ComparativeConfig]

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
"""The configs of a clone: `configs/single` and `configs/comparative`."""


def folder(schema: Schema) -> str:
    """Where under `configs/` the files of a schema live."""
    return "comparative" if schema is ComparativeConfig else "single"


def fields(node: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield (dotted key, field) for every leaf of a schema class or instance, sections opened.

    >>> next(iter(fields(TrainingConfig, "training.")))[0]
    'training.lr'
    """
    for item in dataclasses.fields(node):
        if dataclasses.is_dataclass(item.type):
            yield from fields(item.type, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def leaf_of(path: str) -> str | None:
    """Return the leaf of either schema that a dotted path is, or is inside of; None if there is no such key.

    >>> leaf_of("data.params.scale"), leaf_of("max_steps"), leaf_of("train_loss")
    ('data.params', 'max_steps', None)
    """
    ends = [i for i, c in enumerate(path) if c == "."] + [len(path)]
    return next((path[:i] for i in ends if path[:i] in _leaves()), None)


@functools.cache
def _leaves() -> frozenset[str]:
    return frozenset(key for schema in (SingleConfig, ComparativeConfig) for key, _ in fields(schema))


def keys(schema: Schema) -> list[str]:
    """Every key of the schema, dotted, sections included."""
    leaves = [key for key, _ in fields(schema)]
    sections = {".".join(key.split(".")[:i]) for key in leaves for i in range(1, key.count(".") + 1)}
    return sorted({*leaves, *sections})


def is_free_dict(item: dataclasses.Field) -> bool:
    """Whether a field holds a mapping whose keys the schema does not know."""
    return item.default_factory is not dataclasses.MISSING and isinstance(item.default_factory(), dict)


def check(config: ExperimentConfig) -> None:
    """Raise ConfigError, naming the key, where a resolved config has a value that no run can have.

    Only what the schema alone can tell: names of metrics, teachers and so on are checked where they are looked up.
    """
    for key, item in fields(config):
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if is_free_dict(item) and not isinstance(value, Mapping):
            raise ConfigError(f"{key} must be a mapping such as {{name: value}}, not {value!r}")
        if item.type == list[str] and not all(isinstance(word, str) for word in value):
            raise ConfigError(f"{key} must be a list of words, not {value!r}")
        check_value(key, value, item.metadata)
    _check_own_data(config.data)
    for suffix in ("_a", "_b") if isinstance(config, ComparativeConfig) else ("",):
        _check_lane(config, suffix)
    if isinstance(config, ComparativeConfig):
        for dim in ("in_dim", "out_dim"):
            a, b = getattr(config.model_a, dim), getattr(config.model_b, dim)
            if a != b:
                raise ConfigError(f"model_b.{dim} is {b} but model_a.{dim} is {a}; both models see the same data")


def check_value(key: str, value: Any, bounds: Mapping[str, Any]) -> None:
    """Raise ConfigError where one value is not what its field's metadata allow."""
    if value is None:
        return
    check_plain(key, value)
    if bounds.get("choices") and value not in bounds["choices"]:
        raise ConfigError(f"{key}: no such choice as {value!r}; {suggestion(value, bounds['choices'])}")
    if bounds.get("above") is not None and not value > bounds["above"]:
        raise ConfigError(f"{key} must be greater than {bounds['above']}, not {value}")
    if bounds.get("least") is not None and not value >= bounds["least"]:
        raise ConfigError(f"{key} must be at least {bounds['least']}, not {value}")
    if bounds.get("most") is not None and not value <= bounds["most"]:
        raise ConfigError(f"{key} must be at most {bounds['most']}, not {value}")


def check_plain(key: str, value: Any) -> None:
    """Raise ConfigError unless a value is made of words, truths, finite numbers, and lists and mappings of them."""
    if isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_plain(f"{key}[{i}]", inner)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            check_plain(f"{key}.{name}", inner)
    elif dataclasses.is_dataclass(value):  # a callback, metric or event
        check_plain(f"{key}.params", getattr(value, "params", None))
    elif isinstance(value, int):
        if not -LARGEST - 1 <= value <= LARGEST:
            said = str(value) if value.bit_length() < 128 else f"one of {value.bit_length()} bits"
            raise ConfigError(f"{key} must be at most {LARGEST}, a number of 64 bits, not {said}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{key} must be a finite number, not {value}")
    elif not isinstance(value, str | None):
        raise ConfigError(f"{key}: {value!r} is nothing that a config holds; it holds words, numbers, lists, mappings")


def _check_own_data(data: DataConfig) -> None:
    """Raise ConfigError where arrays of one's own are asked for together with what only drawn samples can be."""
    for key in ("online", "whiten", "d_active"):
        value = getattr(data, key)
        if data.path is not None and value:
            off = "null" if key == "d_active" else "false"
            raise ConfigError(f"data.{key} is for inputs that are drawn, not for those of data.path; set it to {off}")


def _check_lane(config: Any, suffix: str) -> None:
    model: ModelConfig = getattr(config, f"model{suffix}")
    training: TrainingConfig = getattr(config, f"training{suffix}")
    hidden_widths(model.hidden_dim, model.num_hidden, f"model{suffix}.")
    check_batch_size(training.batch_size, config.data.samples, f"training{suffix}.batch_size")


Kind = type[CallbackConfig] | type[MetricConfig] | type[EventConfig]


def named(kind: Kind, entry: Any, where: str) -> Any:
    """Return an entry of a list of metrics, events or callbacks as a `kind`; `where` is its key, for messages.

    >>> named(MetricConfig, "weight_norm", "metrics[0]")
    MetricConfig(name='weight_norm', params={}, label=None)
    """
    if isinstance(entry, kind):
        return entry
    if isinstance(entry, str) and kind is not CallbackConfig:
        return kind(name=entry)
    if not isinstance(entry, Mapping):
        short = "" if kind is CallbackConfig else "a name or "
        raise ConfigError(f"{where} must be {short}a mapping such as {{name: NAME, params: {{...}}}}, not {entry!r}")
    known = [item.name for item in dataclasses.fields(kind)]
    for key in entry:
        if key not in known:
            raise ConfigError(f"unknown key '{where}.{key}'; {suggestion(key, known)}")
    if not isinstance(entry.get("name"), str):
        raise ConfigError(f"{where}.name is missing: the registered name")
    if not isinstance(entry.get("params", {}), Mapping):
        raise ConfigError(f"{where}.params must be a mapping, not {entry['params']!r}")
    if not isinstance(entry.get("label", ""), str | None):
        raise ConfigError(f"{where}.label must be a name, not {entry['label']!r}")
    return kind(**entry)


def whole_number(value: Any, name: str, least: int = 1) -> int:
    """Return `value`, which may be a float without a fraction, as an int; raise ConfigError where it is none.

    >>> whole_number(1e3, "step")
    1000
    """
    try:
        number = None if isinstance(value, bool | str) else int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != value or number < least:
        raise ConfigError(f"{name} must be a whole number, {least} or more, not {value!r}")
    check_plain(name, number)
    return number


def real_number(value: Any, name: str) -> float:
    """Return `value`, which may be of numpy or torch, as a float; raise ConfigError where it is no number.

    >>> real_number(1, "lr")
    1.0
    """
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ConfigError(f"{name} must be a number, not {reprlib.repr(value)}") from None


def check_batch_size(batch_size: Any, samples: int | None, key: str = "batch_size") -> int | None:
    """Return the size of a batch; raise ConfigError where batches of this size cannot be drawn.

    Args:
        batch_size: Samples a step; None is the full batch.
        samples: Size of the training set; None if data are online.
        key: Where the size stands, for messages.
    """
    size = None if batch_size is None else whole_number(batch_size, key)
    if samples is None and size is None:
        raise ConfigError(f"{key} must be a number when data.online is true: there is no full batch")
    if samples is not None and size is not None and size > samples:
        raise ConfigError(
            f"{key} is {size} but there are only {samples} training samples; take fewer, or null for the full batch"
        )
    return size


def hidden_widths(hidden_dim: Any, num_hidden: int, prefix: str = "model.") -> list[int]:
    """Return the widths of the hidden layers, one a layer.

    Args:
        hidden_dim: One width for all, or a list with one a hidden layer.
        num_hidden: Number of hidden layers.
        prefix: Where the keys stand, for messages.

    >>> hidden_widths(50, 3), hidden_widths([4, 3], 2)
    ([50, 50, 50], [4, 3])
    """
    is_list = isinstance(hidden_dim, list | tuple)
    if is_list and not hidden_dim:
        raise ConfigError(f"{prefix}hidden_dim must be a number where there is no hidden layer: it sets the scale")
    widths = list(hidden_dim) if is_list else [hidden_dim] * max(num_hidden, 1)
    for width in widths:
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise ConfigError(f"{prefix}hidden_dim must be a positive integer or a list of them, not {hidden_dim!r}")
    if is_list and len(widths) != num_hidden:
        raise ConfigError(
            f"{prefix}hidden_dim lists {len(widths)} widths but {prefix}num_hidden is {num_hidden}; "
            f"set {prefix}num_hidden={len(widths)}"
        )
    return widths[:num_hidden]
