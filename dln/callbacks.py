"""Interventions in the middle of training: each is called with (step, trainer) before the step's batch is drawn."""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from dln.base.registry import Registry
from dln.base.streams import stream
from dln.base.values import check_batch_size, whole_number
from dln.config import CallbackConfig
from dln.errors import ConfigError, ExtensionError
from dln.ingredients.teachers import make_teacher
from dln.subject import Callback, Subject, callback_name
from dln.timeline import acting_at, every

if TYPE_CHECKING:
    from dln.data import Dataset
    from dln.model import DeepLinearNetwork

CALLBACKS = Registry("callback")


def register_callback(name: str):
    """Register a factory that returns `callback(step, trainer)`; the factory's arguments are the config's `params`."""
    return CALLBACKS.register(name)


def lr_schedule(factor: Callable[[np.ndarray], np.ndarray], start: int = 0, interval: int = 1) -> Callback:
    """Return a callback that multiplies the learning rate of each step by a factor of its own.

    It carries the factors of any steps, `lr_scale`, so that the compiled engine need not call it at every one. The
    schedules below are cached: members of an ensemble with the same parameters share one, and find its factors once.

    Args:
        factor: Maps numbers of steps since `start`, an array of floats that are 0 or more, to factors, one by one.
        start: The first step it acts on.
        interval: The factor changes only so often, counted from `start`.

    >>> lr_schedule(lambda since: 1 / (1 + since), start=2).lr_scale(np.arange(5)).tolist()
    [1.0, 1.0, 1.0, 0.5, 0.3333333333333333]
    """
    start, interval = whole_number(start, "start", least=0), whole_number(interval, "interval")

    def lr_scale(steps: np.ndarray) -> np.ndarray:
        since = np.maximum(steps - start, 0)
        since = since - since % interval if interval > 1 else since
        with np.errstate(over="ignore"):  # what grows without end makes the run diverge
            return np.where(steps < start, 1.0, factor(since.astype(np.float64)))

    @functools.lru_cache(maxsize=1)
    def at(step: int) -> float:
        return float(lr_scale(np.array([step]))[0])

    def callback(step: int, trainer: Subject) -> None:
        trainer.lr_scale *= at(step)

    callback.lr_scale = lr_scale  # type: ignore[attr-defined]
    return acting_at(every(1, start), callback)


@register_callback("lr_decay")
@functools.cache
def lr_decay(factor: float, interval: int, start: int = 0) -> Callback:
    """Multiply the learning rate by `factor` every `interval` steps after `start`.

    >>> lr_decay(0.5, interval=10).lr_scale(np.array([0, 9, 10, 25])).tolist()
    [1.0, 1.0, 0.5, 0.25]
    """
    _at_least(factor, "factor", above=0)
    length = whole_number(interval, "interval")
    return lr_schedule(lambda since: float(factor) ** (since // length), start, length)


@register_callback("lr_cosine")
@functools.cache
def lr_cosine(steps: int, final: float = 0.0, start: int = 0, interval: int = 1) -> Callback:
    """Bring the learning rate down to `final` times itself within `steps` after `start`, along half a cosine.

    Source: arXiv 1608.03983.

    >>> lr_cosine(10, final=0.5).lr_scale(np.array([0, 5, 10, 99])).tolist()
    [1.0, 0.75, 0.5, 0.5]
    """
    _at_least(final, "final")
    length = whole_number(steps, "steps")

    def factor(since: np.ndarray) -> np.ndarray:
        return final + (1 - final) * (1 + np.cos(np.pi * np.minimum(since / length, 1))) / 2

    return lr_schedule(factor, start, interval)


@register_callback("lr_warmup")
@functools.cache
def lr_warmup(steps: int, initial: float = 0.0, interval: int = 1) -> Callback:
    """Begin at `initial` times the learning rate and raise it linearly, to itself after `steps`.

    Source: arXiv 1706.02677.

    >>> lr_warmup(10).lr_scale(np.array([0, 5, 10, 99])).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    _at_least(initial, "initial")
    length = whole_number(steps, "steps")
    return lr_schedule(lambda since: initial + (1 - initial) * np.minimum(since / length, 1), interval=interval)


@register_callback("lr_cyclic")
@functools.cache
def lr_cyclic(period: int, max_factor: float, start: int = 0, interval: int = 1) -> Callback:
    """Let the learning rate rise linearly to `max_factor` times itself and fall back, once every `period` steps.

    Source: arXiv 1506.01186.

    >>> lr_cyclic(10, max_factor=3.0).lr_scale(np.array([0, 5, 10, 15])).tolist()
    [1.0, 3.0, 1.0, 3.0]
    """
    _at_least(max_factor, "max_factor", above=0)
    length = whole_number(period, "period", least=2)

    def factor(since: np.ndarray) -> np.ndarray:
        return 1 + (max_factor - 1) * (1 - np.abs(2 * (since % length) / length - 1))

    return lr_schedule(factor, start, interval)


@register_callback("switch_batch_size")
def switch_batch_size(step: int, batch_size: int | None) -> Callback:
    """Train with another batch size from `step` on (null: full batch); a new epoch starts there."""
    return multi_switch_batch_size({step: batch_size})


@register_callback("multi_switch_batch_size")
def multi_switch_batch_size(schedule: dict[int, int | None]) -> Callback:
    """Switch the batch size several times: `schedule` maps steps to sizes, e.g. {1000: 10, 2000: null}."""
    sizes = {whole_number(step, "a step of the schedule", least=0): size for step, size in schedule.items()}
    for size in sizes.values():
        if size is not None:
            whole_number(size, "batch_size")

    def callback(step: int, trainer: Subject) -> None:
        trainer.batch_size = sizes[step]

    return acting_at(sizes.keys(), _with_sizes(sizes.values(), callback))


@register_callback("batch_growth")
def batch_growth(factor: float, interval: int, largest: int) -> Callback:
    """Multiply the batch size by `factor` every `interval` steps, up to `largest`; a full batch stays as it is.

    Source: arXiv 1711.00489.
    """
    _at_least(factor, "factor", above=1)
    length, limit = whole_number(interval, "interval"), whole_number(largest, "largest")

    def callback(step: int, trainer: Subject) -> None:
        size = trainer.batch_size
        if size is not None and size < limit:
            trainer.batch_size = min(limit, max(size + 1, round(size * factor)))

    return acting_at(every(length, length), _with_sizes([limit], callback))


@register_callback("switch_teacher")
def switch_teacher(
    step: int,
    teacher: dict[str, Any] | None = None,
    factor: float = 1.0,
    rotate: bool = False,
    seed: int = 1,
    interval: int | None = None,
) -> Callback:
    """From `step` on learn from another teacher: `factor` times `teacher` (as `data.params`), or times the present one.

    Inputs, batches and noise stay as they are; test targets change too, and all metrics speak of the teacher of their
    step. `factor: -1` reverses the task. A random teacher is drawn under `seed`, and `rotate` is as `data.rotate`. It
    switches again every `interval` steps, if that is given: a `factor` of the present one then multiplies again.
    """
    if teacher is None and (rotate or factor == 1):
        raise ConfigError("it changes nothing: give teacher, e.g. {matrix: power_law}, or factor, e.g. -1")
    whole_number(seed, "seed", least=0)

    def next_one(dataset: Dataset) -> np.ndarray:
        if dataset.teacher is None:
            raise ConfigError("these data came without a teacher, so there is none to take the place of")
        present = dataset.teacher.cpu()
        other = present if teacher is None else make_teacher(*dataset.dims, teacher, seed, rotate)
        return float(factor) * other.numpy()

    def callback(step: int, trainer: Subject) -> None:
        trainer.teach(next_one(trainer.dataset))

    callback.teaches = next_one  # type: ignore[attr-defined]
    first = whole_number(step, "step", least=0)
    return acting_at([first] if interval is None else every(whole_number(interval, "interval"), first), callback)


@register_callback("weight_noise")
def weight_noise(std: float, interval: int = 1, start: int = 0, seed: int = 0) -> Callback:
    """Add N(0, std**2) to every parameter, every `interval` steps from `start` on."""
    _at_least(std, "std", above=0)
    whole_number(seed, "seed", least=0)

    def callback(step: int, trainer: Subject) -> None:
        rng = stream(seed, "weight noise", step)
        _move(trainer.model, [std * rng.standard_normal(tuple(p.shape)) for p in trainer.model.parameters()])

    steps = every(whole_number(interval, "interval"), whole_number(start, "start", least=0))
    return acting_at(steps, callback)


@register_callback("kick")
def kick(step: int, size: float, direction: Literal["random", "gradient"] = "random", seed: int = 0) -> Callback:
    """Move the weights by `size` at one step: in a random direction, or up the full-batch gradient (size < 0: down).

    Raises:
        ConfigError: `size` is 0 or, when it acts, the gradient is zero.
    """
    if size == 0:
        raise ConfigError("size must not be 0")
    whole_number(seed, "seed", least=0)

    def callback(step: int, trainer: Subject) -> None:
        if direction == "random":
            rng = stream(seed, "kick")
            way = [rng.standard_normal(tuple(p.shape)) for p in trainer.model.parameters()]
        else:
            way = [g.cpu().double().numpy() for g in trainer.gradient()]
        length = math.sqrt(sum(float(np.sum(w**2)) for w in way))
        if length == 0:
            raise ConfigError("the gradient is zero here and has no direction")
        _move(trainer.model, [size / length * w for w in way])

    return acting_at([whole_number(step, "step", least=0)], callback)


@register_callback("stop_at_loss")
def stop_at_loss(target: float, loss: Literal["train", "test"] = "train", interval: int = 1) -> Callback:
    """End the run at the first step, a multiple of `interval`, whose loss on the whole set is at most `target`."""

    def callback(step: int, trainer: Subject) -> None:
        if trainer.evaluate(loss) <= target:
            trainer.stop()

    return acting_at(every(whole_number(interval, "interval")), callback)


@register_callback("stop_at_gradient")
def stop_at_gradient(norm: float, interval: int = 1) -> Callback:
    """End the run at the first step, a multiple of `interval`, whose full-batch gradient has at most this `norm`."""
    _at_least(norm, "norm")

    def callback(step: int, trainer: Subject) -> None:
        if trainer.gradient_norm() <= norm:
            trainer.stop()

    return acting_at(every(whole_number(interval, "interval")), callback)


@register_callback("stop_at_plateau")
def stop_at_plateau(patience: int, tolerance: float, interval: int = 1) -> Callback:
    """End the run once the loss on the training set falls by less than `tolerance` of itself in `patience` steps.

    Raises:
        ConfigError: `patience` is no multiple of `interval`.
    """
    _at_least(tolerance, "tolerance")
    apart = whole_number(interval, "interval")
    if whole_number(patience, "patience") % apart:
        raise ConfigError(f"patience must be a multiple of interval, {apart}, not {patience}")
    losses: deque[float] = deque(maxlen=int(patience) // apart + 1)

    def callback(step: int, trainer: Subject) -> None:
        if step == 0:  # of another run
            losses.clear()
        losses.append(trainer.evaluate("train"))
        if len(losses) == losses.maxlen and losses[0] - losses[-1] < tolerance * losses[0]:
            trainer.stop()

    callback.memory = losses  # type: ignore[attr-defined]
    return acting_at(every(apart), callback)


@register_callback("stop_after")
def stop_after(seconds: float, interval: int = 100) -> Callback:
    """End the run after so much time, looked at every `interval` steps; where it ends is not reproducible."""
    _at_least(seconds, "seconds", above=0)
    started = time.monotonic()

    def callback(step: int, trainer: Subject) -> None:
        nonlocal started
        if step == 0:
            started = time.monotonic()
        elif time.monotonic() - started >= seconds:
            trainer.stop()

    return acting_at(every(whole_number(interval, "interval")), callback)


def build_callbacks(configs: Sequence[CallbackConfig], key: str = "callbacks") -> list[Callback]:
    """Return the callbacks that a config lists, in its order.

    Args:
        configs: Names and parameters.
        key: The config key to name in an error: `callbacks`, `callbacks_a` or `callbacks_b`.

    >>> from dln.subject import callback_name
    >>> [callback_name(c) for c in build_callbacks([CallbackConfig("stop_at_loss", {"target": 0.1})])]
    ['stop_at_loss']
    """
    return [_build(config, f"{key}[{i}]") for i, config in enumerate(configs)]


def sized_callbacks(configs: Sequence[CallbackConfig], samples: int | None, key: str) -> list[Callback]:
    """Return what `build_callbacks` does; raise ConfigError where one sets a batch size that there is not.

    Args:
        configs: Names and parameters.
        samples: Size of the training set; None if data are online.
        key: As there.
    """
    callbacks = build_callbacks(configs, key)
    for i, callback in enumerate(callbacks):
        for size in getattr(callback, "batch_sizes", ()):
            check_batch_size(size, samples, f"{key}[{i}].params: batch_size")
    return callbacks


def check_teachers(callbacks: Sequence[Callback], dataset: Dataset, key: str) -> None:
    """Raise ConfigError where a callback cannot give such data the teacher that it is to give them.

    Args:
        callbacks: The callbacks.
        dataset: What the run learns from.
        key: The config key to name in an error.
    """
    for callback in callbacks:
        teaches = getattr(callback, "teaches", None)
        if teaches is not None:
            try:
                teaches(dataset)
            except ConfigError as error:
                raise ConfigError(f"{key}: callback {callback_name(callback)!r}: {error}") from None


def _build(config: CallbackConfig, where: str) -> Callback:
    entry = CALLBACKS.get(config.name, where)
    entry.check(config.params, f"{where}.params")
    called = f"callback {config.name!r}"
    callback = entry.call(f"{where}: making {called}", named=config.params, where=f"{where}.params: {called}")
    if not callable(callback):
        raise ExtensionError(f"{where}: the factory of {called} must return callback(step, trainer)")
    return cast(Callback, callback)


def _with_sizes(sizes: Iterable[int | None], callback: Callback) -> Callback:
    """Note the batch sizes that a callback sets, for `check_names`: one too large is found before the run."""
    callback.batch_sizes = list(sizes)  # type: ignore[attr-defined]
    return callback


def _move(model: DeepLinearNetwork, displacement: Sequence[np.ndarray]) -> None:
    """Add to every parameter, rounding what is added to the model's precision."""
    with torch.no_grad():
        for p, change in zip(model.parameters(), displacement, strict=True):
            p += torch.from_numpy(change).to(p)


def _at_least(value: float, name: str, above: float | None = None) -> None:
    """Raise ConfigError unless `value` is 0 or more, or greater than `above`."""
    if not (value >= 0 if above is None else value > above):
        raise ConfigError(f"{name} must be {'0 or more' if above is None else f'greater than {above}'}, not {value}")
