"""One training run, written to be read: the definition that every other engine must agree with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from dln.base.arithmetic import uniform
from dln.base.clock import Clock
from dln.base.values import layer_factors, real_number, whole_number
from dln.batches import Batches, make_batches
from dln.checkpoints import Saved, State, clock_state, given_state, memories, named, present_state, remember
from dln.config import MetricConfig
from dln.data import Dataset
from dln.errors import ConfigError
from dln.history import History
from dln.ingredients.edge import Optimizer
from dln.ingredients.optimizers import build_criterion, build_optimizer
from dln.lockstep import OnRecord, StepByStep, columns_of, events_of, fire, naming
from dln.measure.data_quantities import Later, constants
from dln.measure.quantities import scaled
from dln.measure.supply import Supply
from dln.metrics import MODEL_METRICS, Metric, MetricData, Value, build_metrics, keeps_time, looks_back
from dln.model import DeepLinearNetwork
from dln.subject import Callback
from dln.timeline import Steps, chosen_steps

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from dln.theory.lanes import TheoryLane


class Trainer:
    """Gradient descent on one model, in plain PyTorch.

    theta_0 are the initial weights; update s maps theta_s to theta_{s+1}; there are `max_steps` updates. A record at
    step s describes theta_s throughout, and taking it changes nothing. A run whose batch loss stops being finite has
    diverged: it ends there, with the step in `diverged_at`.

    Callbacks may set `batch_size`, `lr` and `lr_scale`, change the weights of `model`, and call `evaluate`, `gradient`,
    `gradient_norm`, `teach` and `stop`.
    """

    engine = "autograd"

    def __init__(
        self,
        model: DeepLinearNetwork,
        dataset: Dataset,
        *,
        lr: float = 0.0005,
        lr_factors: Sequence[float] | None = None,
        max_steps: int = 2500,
        batch_size: int | None = None,
        batch_seed: int = 0,
        replacement: bool = False,
        label_noise: float = 0.0,
        optimizer: str = "SGD",
        optimizer_params: Mapping[str, Any] | None = None,
        criterion: str = "MSELoss",
        criterion_params: Mapping[str, Any] | None = None,
        evaluate_every: int = 1,
        evaluate_at: Steps | None = None,
        metrics: Sequence[str | MetricConfig] | Sequence[Metric] = (),
        callbacks: Sequence[Callback] = (),
        resume: Saved | None = None,
        theories: Sequence[TheoryLane] = (),
    ) -> None:
        """Set up a run.

        Args:
            model: The network to train, in place.
            dataset: Training and test data; they are taken in the model's precision, on its device.
            lr: Learning rate.
            lr_factors: Factors on it, layer by layer; 0 freezes a layer; None: all are 1.
            max_steps: Number of updates.
            batch_size: Samples a step; None is the full batch.
            batch_seed: Seed of the batch order (offline) or of the samples (online), and of label noise.
            replacement: Whether samples of a batch are drawn with replacement, not in epochs.
            label_noise: Standard deviation of fresh noise on the targets of every batch.
            optimizer: Name in torch.optim.
            optimizer_params: Its further arguments.
            criterion: Name of a loss in torch.nn.
            criterion_params: Its arguments.
            evaluate_every: Steps between records.
            evaluate_at: Steps to record instead: a list, {"log": n} or {"linear": n}; 0 and the last are recorded too.
            metrics: Names of metrics to record, MetricConfigs, or what `build_metrics` made of them.
            callbacks: Called with (step, trainer), in this order.
            resume: A checkpoint to go on from; `model` is what that run started from.
            theories: What is predicted of the run, recorded beside it.
        """
        _check_fit(model, dataset)
        dataset = dataset.to(model.weights[0].dtype, model.weights[0].device)
        self.model = model
        self.dataset = dataset
        self.max_steps = max_steps
        self.recorded = chosen_steps(max_steps, evaluate_every, evaluate_at)
        self.callbacks = list(callbacks)
        self.constants = _constants(dataset)
        self._first_dataset, self._teacher = dataset, None
        self.start = copy.deepcopy(model)
        self.previous, self.earlier = (_filled(model, math.nan) for _ in range(2))
        self.steps_by = Optimizer(optimizer, optimizer_params or {}, lr_factors)
        """What `optimizer` is, in words."""
        self.criterion = build_criterion(criterion, criterion_params or {})
        self.metrics = build_metrics(
            metrics,
            MODEL_METRICS,
            shapes=[model.shapes],
            dataset=dataset,
            criterion=self.criterion,
            optimizer=self.steps_by,
        )
        self.looks_back = looks_back(self.metrics)
        """Whether metrics need `previous` and `earlier`, the weights one and two steps before."""
        self.keeps_time = keeps_time(self.metrics)
        """Whether they need `time`, which `clock` then tells."""
        self.clock = Clock(1)
        self.optimizer = build_optimizer(optimizer, _groups(model, lr_factors), lr, optimizer_params or {})
        self.lr = lr
        self.lr_scale = 1.0
        self.replacement, self.label_noise = replacement, label_noise
        self.batches = self._batches(batch_size, batch_seed)
        self.history = History()
        self.step = 0
        self.train_loss = math.nan
        self.diverged_at: int | None = None
        self.stopped_at: int | None = None
        self.resume = resume
        self.theories = theories
        self._given = given_state(lr, batch_size, batch_seed)
        if resume is not None:
            self._go_on(resume, lr, batch_size, batch_seed)

    @property
    def first(self) -> int:
        """The step that a run begins with."""
        return 0 if self.resume is None else self.resume.step

    def run(self, on_record: OnRecord | None = None) -> History:
        """Train from the first step to the end and return the records, each passed to `on_record` as it is taken."""
        return StepByStep({"": self}, self.max_steps, self.recorded, self.history, first=self.first).run(on_record)

    def begin(self, step: int) -> None:
        """Start step `step`: callbacks fire, the batch is drawn, its loss and gradients are computed."""
        self.step, self.lr_scale = step, 1.0
        if self.resume is not None and step == self.first:  # callbacks have acted before it was saved
            self.lr_scale = self.resume.lr_scale
        elif self.stopped_at is None:
            fire(self.callbacks, step, self)
        self.inputs, self.targets = self.batches.draw()
        self.model.zero_grad()
        loss = self.criterion(self.model(self.inputs), self.targets)
        loss.backward()
        self.train_loss = loss.item()
        if not math.isfinite(self.train_loss):
            self.diverged_at = step

    def update(self) -> None:
        """End the step: the optimizer's update, theta_s to theta_{s+1}; of a run that is stopped they are equal."""
        if self.looks_back:
            self.previous, self.earlier = _copied(self.model), self.previous
        rate = self.lr * self.lr_scale if self.stopped_at is None else 0.0
        if self.keeps_time:
            self.clock.tell(self.step, np.array([rate]))
        if self.stopped_at is not None:
            return
        try:
            self._step(rate)
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            # torch raises where the rate, or what Adam computes from it, is too large for the weights' precision.
            self._step(math.copysign(math.inf, rate))

    def _step(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        self.optimizer.step()

    def measure(self, supply: Supply, suffix: str = "") -> dict[str, Value]:
        """Return what a record says of theta_s, each name followed by `suffix`; `supply` is what metrics may name."""
        values: dict[str, Value] = {f"train_loss{suffix}": self.train_loss}
        if self.dataset.test_inputs is not None:
            values[f"test_loss{suffix}"] = self.evaluate("test")
        values |= columns_of(self.metrics, supply, self.step, suffix)
        for theory in self.theories:
            with naming(f"theory {theory.theory.label!r}", self.step):
                values |= theory.record(self.step, suffix, supply["end_to_end"])
        return values

    @property
    def conditions(self) -> dict[str, float]:
        """How good the theories are for this run, by names that end in the theory's."""
        return {name: value for theory in self.theories for name, value in theory.conditions(0).items()}

    def supply(self) -> Supply:
        """Return what metrics may name at this step."""
        data = MetricData.of(self.inputs, self.targets, copy.copy(self.criterion), self.dataset)
        size = torch.tensor(len(self.inputs), dtype=torch.float64)
        lr = torch.tensor(self.lr * self.lr_scale, dtype=torch.float64)
        given = {"model": self.model, "start": self.start, "previous": self.previous, "earlier": self.earlier}
        sampling = {"replacement": self.replacement, "fresh_noise": torch.tensor(self.label_noise, dtype=torch.float64)}
        time = Later(lambda step=self.step: torch.from_numpy(self.clock.at(step))[0])
        batch = Later(lambda: scaled(data.inputs, data.targets, bool(self.model.biases)))
        steps = {"data": data, "batch": batch, "batch_size": size, "lr": lr, "time": time, "optimizer": self.steps_by}
        return Supply(given | steps | sampling | self.constants)

    def state(self) -> State:
        """Return what, beside the weights, makes the next steps what they are, as `dln.checkpoints` keeps it."""
        present = present_state(self.step, self.lr, self.lr_scale, self.batch_size, self.steps_by.name)
        kept = {
            f"optimizer.{name}.{key}": value.detach().cpu().numpy()
            for name, parameter in named(self.model.weights, self.model.biases).items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, torch.Tensor)
        }
        if self.looks_back:
            for name, model in (("previous", self.previous), ("earlier", self.earlier)):
                of = named(model.weights, model.biases).items()
                kept |= {f"{name}.{key}": p.detach().cpu().numpy() for key, p in of}
        kept |= self.batches.state() | memories(self.callbacks)
        kept |= {} if self._teacher is None else {"teacher": self._teacher}
        return {**self._given, **present, **kept, **(clock_state(self.clock) if self.keeps_time else {})}

    def _go_on(self, saved: Saved, lr: float, batch_size: int | None, batch_seed: int) -> None:
        """Take the weights and the state of a checkpoint; lr, batch_size and batch_seed are those of the config."""
        trained = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        models = {"": self.model, "previous": self.previous, "earlier": self.earlier}
        for kind, model in models.items():
            values = (saved.past(kind) if kind else saved.parameters) or {}
            with torch.no_grad():
                for name, p in named(model.weights, model.biases).items():
                    p.copy_(torch.from_numpy(values[name]) if values else p)
        for name, p in named(self.model.weights, self.model.biases).items():
            kept = {key: torch.from_numpy(a.copy()) for key, a in saved.kept(name).items()}
            if kept and id(p) in trained:
                self.optimizer.state[p] = {key: a.to(p.device) if a.ndim else a for key, a in kept.items()}
        self.lr, size = saved.lr(lr), saved.batch_size(batch_size)
        self.batches.batch_size = size
        self.batches.go_on(saved.streams(batch_seed, size))
        if saved.teacher is not None:
            self.teach(saved.teacher)
        remember(self.callbacks, saved.arrays)
        self.clock.parts[:] = saved.clock

    def add_callback(self, callback: Callback) -> None:
        """Add a callback behind the others."""
        self.callbacks.append(callback)

    @property
    def events(self) -> dict[str, Any]:
        """What is told of it once: `diverged_at`, `stopped_at`, how good theories are."""
        return events_of({"": self})

    # What callbacks may use, beside `model`:

    @property
    def lr(self) -> float:
        """The learning rate; one that is not finite makes the run diverge."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = real_number(value, "lr")

    @property
    def lr_scale(self) -> float:
        """What the learning rate is multiplied by at this step alone."""
        return self._lr_scale

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        self._lr_scale = real_number(value, "lr_scale")

    @property
    def batch_size(self) -> int | None:
        """Samples a step; None is the full batch. Setting it starts a new epoch, even at the same size."""
        return self.batches.batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        self.batches.batch_size = size

    def teach(self, teacher: np.ndarray) -> None:
        """Let all targets be those of another teacher from this step on: the same inputs, batches and noise."""
        self._teacher = teacher
        self.dataset = self._first_dataset.taught(teacher)
        self.constants = _constants(self.dataset)
        self.batches.learn_from(self.dataset)

    def reseed(self, batch_seed: int) -> None:
        """Draw batches from the streams of another seed, from their beginning on, and so a new epoch."""
        self.batches = self._batches(self.batch_size, whole_number(batch_seed, "batch_seed", least=0))

    def _batches(self, batch_size: int | None, batch_seed: int) -> Batches:
        return make_batches(
            self.dataset,
            batch_size,
            batch_seed,
            like=self.model.weights[0],
            replacement=self.replacement,
            label_noise=self.label_noise,
        )

    def stop(self) -> None:
        """Make this step the last: it is recorded, and no update follows."""
        self.stopped_at = self.step

    @uniform()
    @torch.no_grad()
    def evaluate(self, split: Literal["train", "test"]) -> float:
        """Return the loss of the present weights on the whole training or test set.

        Raises:
            ConfigError: There is no such set.
        """
        inputs = getattr(self.dataset, f"{split}_inputs")
        if inputs is None:
            raise ConfigError(f"there is no {split} set to evaluate a loss on")
        return self.criterion(self.model(inputs), getattr(self.dataset, f"{split}_targets")).item()

    @uniform()
    def gradient(self) -> list[Tensor]:
        """Return the gradient of the loss on the whole training set, one tensor a parameter of `model`."""
        return full_gradient(self.model, self.dataset, self.criterion)

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of `gradient`."""
        return math.sqrt(sum(g.double().square().sum().item() for g in self.gradient()))


def _groups(model: DeepLinearNetwork, lr_factors: Sequence[float] | None) -> list[dict[str, Any]]:
    """Return the groups of parameters that have a learning rate of their own; frozen layers are in none."""
    if lr_factors is None:
        return [{"params": list(model.parameters()), "lr_factor": 1.0}]
    factors = layer_factors(lr_factors, len(model.layers), "lr_factors")
    groups = zip(model.layers, factors, strict=True)
    return [{"params": list(layer.parameters()), "lr_factor": factor} for layer, factor in groups if factor]


def full_gradient(model: DeepLinearNetwork, dataset: Dataset, criterion: Callable[..., Tensor]) -> list[Tensor]:
    """Return the gradient of the loss on the whole training set, one tensor a parameter.

    Raises:
        ConfigError: There is no training set.
    """
    if dataset.train_inputs is None:
        raise ConfigError("there is no train set to take a gradient on")
    loss = criterion(model(dataset.train_inputs), dataset.train_targets)
    return list(torch.autograd.grad(loss, list(model.parameters())))


def _copied(model: DeepLinearNetwork) -> DeepLinearNetwork:
    """Return a network with the same weights, without gradients."""
    like = model.weights[0]
    return DeepLinearNetwork.from_weights(
        model.weights, model.biases or None, dtype=like.dtype, device=like.device, check=False
    )


def _constants(dataset: Dataset) -> dict[str, Later]:
    return {name: Later(lambda c=c: c.find()[0]) for name, c in constants([dataset]).items()}


def _filled(model: DeepLinearNetwork, value: float) -> DeepLinearNetwork:
    """Return a network of the same shapes, all of whose weights are one number."""
    filled = _copied(model)
    with torch.no_grad():
        for parameter in filled.parameters():
            parameter.fill_(value)
    return filled


def _check_fit(model: DeepLinearNetwork, dataset: Dataset) -> None:
    """Raise ConfigError unless the dataset has the model's dimensions."""
    first, last = model.weights[0], model.weights[-1]
    dims = (first.shape[1], last.shape[0])
    for split in ("train", "test"):
        x: Float[Tensor, "N in"] | None = getattr(dataset, f"{split}_inputs")
        y: Float[Tensor, "N out"] | None = getattr(dataset, f"{split}_targets")
        if x is None or y is None:
            continue
        if (x.shape[1], y.shape[1]) != dims:
            raise ConfigError(
                f"the model maps {dims[0]} to {dims[1]} but the {split} set has {x.shape[1]} to {y.shape[1]}"
            )
    if dataset.teacher is not None and dataset.online and tuple(dataset.teacher.shape) != dims[::-1]:
        raise ConfigError(f"the model maps {dims[0]} to {dims[1]} but the teacher is {list(dataset.teacher.shape)}")
