"""The schema: every key an experiment's configuration may have, with its type, default, bounds and meaning.

Plain dataclasses, light to import. `dln.composing.compose` merges YAML files, overrides and dictionaries into them;
`--help` and the book's tables are generated from them. A field is *structural* (shapes, counts, names: runs that
differ in it cannot be trained together) or *batchable* (seeds, rates, scales).
"""

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import MISSING

from dln.base.setting import setting
from dln.base.values import MUP, hidden_widths, layer_factors, rate_factors
from dln.errors import ConfigError

MOST_STEPS = 2**31 - 1
"""The last step there can be: steps in tables have 32 bits."""

MOST_LAYERS = 10_000
"""Hidden layers; every layer is an object of its own."""

BASES = ("coordinates", "teacher")
"""What the axes of inputs may be."""

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
    alpha: Any = setting(
        1.0,
        "factor on all initial weights, a file's too; scales W_L...W_1 by alpha**L; or a list with one a layer",
        batchable=True,
        above=0,
        layered=True,
    )
    bias: bool = setting(False, "add biases, zero at the start")
    weights: str | None = setting(None, "start from this checkpoint (.npz) instead of random weights", batchable=True)


@dataclass
class DataConfig:
    """Training and test data: a linear teacher on random inputs, or arrays of one's own."""

    name: str = setting("linear_teacher", "how the data is made", choices=("linear_teacher",))
    params: dict[str, Any] = setting({"matrix": "diagonal"}, "the teacher: matrix and its parameters", batchable=True)
    rotate: bool = setting(False, "turn the teacher: U T V', U and V random orthogonal matrices", batchable=True)
    conjugate: bool = setting(False, "or turn it to O' T O, O random orthogonal", batchable=True, late=True)
    inputs: str = setting("gaussian", "distribution of the inputs (see below)", batchable=True)
    inputs_params: dict[str, Any] = setting({}, "its parameters", batchable=True)
    inputs_basis: str = setting(
        "coordinates", "axes of inputs; teacher: its right singular vectors", choices=BASES, batchable=True, late=True
    )
    d_active: int | None = setting(None, "inputs live along the first d_active axes; null: all", least=1)
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
    lr_factors: Any = setting(
        None,
        "factors on lr, a list with one a layer; 0 freezes a layer; null: all are 1; mup: by the layers' widths",
        least=0,
        layered=True,
        words=(MUP,),
        late=True,
    )
    batch_size: int | None = setting(None, "samples a step; null is the full batch", least=1)
    replacement: bool = setting(False, "draw the samples of a batch with replacement; false: in epochs", late=True)
    label_noise: float = setting(
        0.0, "standard deviation of fresh noise on the targets of every batch", batchable=True, least=0, late=True
    )
    optimizer: str = setting("SGD", "any torch.optim optimizer")
    optimizer_params: Any = setting({}, "its further arguments, e.g. {momentum: 0.9}")
    criterion: str = setting("MSELoss", "any torch.nn loss on (output, target)")
    criterion_params: Any = setting({}, "its arguments")
    model_seed: int = setting(0, "seed of the initial weights", batchable=True, least=0)
    batch_seed: int = setting(
        0, "seed of the batch order, of online samples, and of label noise", batchable=True, least=0
    )


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
class TheoryConfig:
    """A theory whose prediction is recorded beside the run, by its registered name; bare as metrics may be."""

    name: str = setting(MISSING, "registered name")
    params: dict[str, Any] = setting({}, "its parameters")
    label: str | None = setting(None, "what its columns end in, if not in the theory's own name")


@dataclass
class TrackerConfig:
    """A program for looking at experiments, by its registered name; bare as metrics may be."""

    name: str = setting(MISSING, "registered name")
    params: dict[str, Any] = setting({}, "its parameters")


class Branch(NamedTuple):
    """Where a run leaves its reference, and what it says of itself from there on."""

    step: int
    training: TrainingConfig
    callbacks: list[CallbackConfig]


@dataclass
class AggregateConfig:
    """What a sweep keeps of its runs in place of their curves."""

    over: Any = setting(None, "sweeps keep sums over it, e.g. training.batch_seed, or a list; null: curves")
    of: Any = setting(None, "of which columns; null: all of one number")
    keep: Any = setting(["min", "max", "log", "quantiles"], "what, beside count, mean, std")
    quantiles: Any = setting([0.5], "told unless others are asked for")
    pairs: Any = setting([], "covariances: [[NAME, NAME]]")
    curves: int = setting(0, "so many runs of each condition keep curves", least=0)


class LaneConfig(NamedTuple):
    """What a config says of one of its models."""

    suffix: str
    """What the lane's sections and columns end in: nothing, `_a` or `_b`."""
    model: ModelConfig
    training: TrainingConfig
    callbacks: list[CallbackConfig]
    metrics: dict[str, list[MetricConfig]]
    """What is recorded of it, by the keys that say so."""
    place: str = "{section}{suffix}"
    """Where its sections stand in the config."""
    branch: Branch | None = None
    """Where it takes on other values than those that stand here."""

    def key(self, section: str) -> str:
        """Where a section of the lane stands in the config: `model_a`, ..."""
        return self.place.format(section=section, suffix=self.suffix)

    @property
    def alphas(self) -> list[float]:
        """Factors on the initial weights, layer by layer."""
        return layer_factors(self.model.alpha, self.model.num_hidden + 1, f"{self.key('model')}.alpha")

    @property
    def lr_factors(self) -> tuple[float, ...] | None:
        """Factors on the learning rate, layer by layer; None if it is the same for all."""
        given, key = self.training.lr_factors, f"{self.key('training')}.lr_factors"
        if given == MUP and self.model.bias:
            raise ConfigError(f"{key}=mup is of weights; set {self.key('model')}.bias=false")
        return None if given is None else tuple(rate_factors(given, self.widths, self.training.optimizer, key))

    @property
    def widths(self) -> list[int]:
        """Units of every layer, inputs and outputs included."""
        model = self.model
        hidden = hidden_widths(model.hidden_dim, model.num_hidden, f"{self.key('model')}.")
        return [model.in_dim, *hidden, model.out_dim]


@dataclass
class ExperimentConfig(ABC):
    """What single and comparative experiments have in common."""

    data: DataConfig = field(default_factory=DataConfig)
    max_steps: int = setting(2500, "number of optimizer steps", least=1, most=MOST_STEPS)
    evaluate_every: int = setting(1, "steps between records; step 0 and the last are always recorded", least=1)
    evaluate_at: Any = setting(
        None, "steps to record instead: [1, 10, 100], {log: 50} or {linear: 50}: so many, spaced so"
    )
    checkpoint_every: int | None = setting(None, "steps between saved weights, last step included; null: none", least=1)
    checkpoint_at: Any = setting(None, "steps to save weights at instead, as in evaluate_at")
    resume: str | None = setting(None, "go on from this checkpoint (.npz), exactly as its run would have", late=True)
    dtype: str = setting("float32", "precision", choices=("float32", "float64"))
    device: str = setting("cpu", "cpu, cuda, cuda:1, mps, or auto")
    engine: str = setting("auto", "what trains: auto, compiled, autograd")
    events: list[Any] = setting([], "what to find in the records at the end (see below)")
    theory: Any = setting([], "theories whose predictions are recorded beside the run (see below)", late=True)
    theory_metrics: Any = setting(None, "metrics of the run and each prediction; null: end_to_end_distance", late=True)
    objective: Any = setting(None, "what others' sweepers optimise: COLUMN, {COLUMN: min}, max, a step; or a list")
    tracker: Any = setting(None, "what else is told of the run: tensorboard, wandb, trackio, mlflow (see below)")
    extensions: list[str] = setting([], "modules of yours to import, e.g. [my_lab.metrics]")
    aggregate: AggregateConfig = field(default_factory=AggregateConfig)

    @property
    def saves_weights(self) -> bool:
        """Whether runs leave checkpoints."""
        return self.checkpoint_every is not None or self.checkpoint_at is not None

    @property
    @abstractmethod
    def lanes(self) -> dict[str, LaneConfig]:
        """What it says of each model, by the lane's suffix."""

    @property
    @abstractmethod
    def pair_metrics(self) -> list[MetricConfig]:
        """Metrics of both models together."""


@dataclass
class SingleConfig(ExperimentConfig):
    """One run of one model: `run.py`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metrics: Any = setting([], "metrics to record (see below); cheap, moderate, heavy: all that cost at most so much")
    callbacks: list[Any] = setting([], "interventions (see below)")
    reference: dict[str, Any] = setting(
        {}, "what the run is compared with: itself with other values, e.g. {training.batch_size: null}", late=True
    )
    branch_at: int | None = setting(
        None, "be the reference up to this step, and on from there the run", least=0, late=True
    )
    comparative_metrics: Any = setting([], "metrics of the reference and the run, as in run_comparative.py", late=True)

    @property
    def lanes(self) -> dict[str, LaneConfig]:
        """The one model there is; of a run with a reference that is lane b, and the reference lane a."""
        metrics = {"metrics": self.metrics}
        if self._timed:
            metrics["reference"] = [MetricConfig("time")]
        own: dict[str, Any] = {"model": self.model, "training": self.training, "callbacks": self.callbacks}
        if not self.reference:
            return {"": LaneConfig("", **own, metrics=metrics)}
        other = dict(own)
        for key, value in self.reference.items():
            section, _, name = key.partition(".")
            other[section] = dataclasses.replace(other[section], **{name: value}) if name else value
        begins, branch = own, None
        if self.branch_at is not None:
            begins, branch = other, Branch(self.branch_at, self.training, self.callbacks)
        return {
            "_a": LaneConfig("_a", **other, metrics=metrics, place="reference.{section}"),
            "_b": LaneConfig("_b", **begins, metrics=metrics, place="{section}", branch=branch),
        }

    @property
    def _timed(self) -> bool:
        """Whether the time that training has taken is recorded unasked: the reference's learning rate may differ."""
        asked = any(isinstance(one, MetricConfig) and (one.label or one.name) == "time" for one in self.metrics)
        return not (asked or {"training.lr", "callbacks"}.isdisjoint(self.reference))

    @property
    def pair_metrics(self) -> list[MetricConfig]:
        """Those of a run and its reference."""
        return self.comparative_metrics


@dataclass
class SharedConfig:
    """Values that both lanes of a comparative experiment refer to unless told otherwise."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    callbacks: list[Any] = setting([], "interventions on both models, each with its own")


@dataclass
class ComparativeConfig(ExperimentConfig):
    """Two models, a and b, trained in lockstep on the same data: `run_comparative.py`."""

    shared: SharedConfig = field(default_factory=SharedConfig)
    model_a: ModelConfig = field(default_factory=ModelConfig)
    model_b: ModelConfig = field(default_factory=ModelConfig)
    training_a: TrainingConfig = field(default_factory=TrainingConfig)
    training_b: TrainingConfig = field(default_factory=TrainingConfig)
    callbacks_a: list[Any] = setting([], "interventions on one model alone")
    callbacks_b: list[Any] = setting([], "interventions on model b alone")
    model_metrics: Any = setting([], "metrics of each model, recorded as NAME_a and NAME_b; or cheap, moderate, heavy")
    metrics_a: Any = setting([], "metrics of one model alone", late=True)
    metrics_b: Any = setting([], "metrics of model b alone", late=True)
    comparative_metrics: Any = setting([], "metrics of the pair; or cheap, moderate, heavy")

    @property
    def lanes(self) -> dict[str, LaneConfig]:
        """Both models."""
        both = {"model_metrics": self.model_metrics}
        return {
            "_a": LaneConfig(
                "_a", self.model_a, self.training_a, self.callbacks_a, {**both, "metrics_a": self.metrics_a}
            ),
            "_b": LaneConfig(
                "_b", self.model_b, self.training_b, self.callbacks_b, {**both, "metrics_b": self.metrics_b}
            ),
        }

    @property
    def pair_metrics(self) -> list[MetricConfig]:
        """What stands in `comparative_metrics`."""
        return self.comparative_metrics


Schema = type[SingleConfig] | type[ComparativeConfig]

_HERE = Path(__file__).resolve().parent
CONFIGS = _HERE / "configs" if (_HERE / "configs").is_dir() else _HERE.parent / "configs"
"""Named configs, `single` and `comparative`: those of the installed package, or of a clone."""


def folder(schema: Schema) -> str:
    """Where under `configs/` the files of a schema live."""
    return "comparative" if schema is ComparativeConfig else "single"


def fields(node: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield (dotted key, field) for every leaf of a schema class or instance, sections opened.

    >>> next(iter(fields(TrainingConfig, "training.")))[0]
    'training.lr'
    """
    yield from _fields(node if isinstance(node, type) else type(node), prefix)


@functools.cache
def _fields(schema: type, prefix: str) -> list[tuple[str, dataclasses.Field]]:
    found: list[tuple[str, dataclasses.Field]] = []
    for item in dataclasses.fields(schema):
        path = prefix + item.name
        found += _fields(item.type, f"{path}.") if dataclasses.is_dataclass(item.type) else [(path, item)]
    return found


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


def is_free_dict(item: dataclasses.Field) -> bool:
    """Whether a field holds a mapping whose keys the schema does not know."""
    return item.default_factory is not dataclasses.MISSING and isinstance(item.default_factory(), dict)
