"""Interventions in the middle of training: each is called with (step, trainer) before the step's batch is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from dln.config import CallbackConfig
from dln.errors import ConfigError, ExtensionError
from dln.registry import Registry
from dln.timeline import acting_at, every

if TYPE_CHECKING:
    from dln.train import Trainer

Callback = Callable[[int, "Trainer"], None]
"""Called with (step, trainer); may carry the steps it acts on (`dln.timeline.acting_at`)."""

CALLBACKS = Registry("callback")


def register_callback(name: str):
    """Register a factory that returns `callback(step, trainer)`; the factory's arguments are the config's `params`."""
    return CALLBACKS.register(name)


@register_callback("switch_batch_size")
def switch_batch_size(step: int, batch_size: int | None) -> Callback:
    """Train with another batch size from `step` on (null: full batch); a new epoch starts there."""
    return multi_switch_batch_size({step: batch_size})


@register_callback("multi_switch_batch_size")
def multi_switch_batch_size(schedule: dict[int, int | None]) -> Callback:
    """Switch the batch size several times: `schedule` maps steps to sizes, e.g. {1000: 10, 2000: null}."""
    sizes = {_count(step, "a step of the schedule", least=0): size for step, size in schedule.items()}
    for size in sizes.values():
        if size is not None:
            _count(size, "batch_size")

    def callback(step: int, trainer: Trainer) -> None:
        trainer.batch_size = sizes[step]

    # For `check_names`: a size too large is found before the run.
    callback.batch_sizes = list(sizes.values())  # type: ignore[attr-defined]
    return acting_at(sizes.keys(), callback)


@register_callback("lr_decay")
def lr_decay(factor: float, interval: int, start: int = 0) -> Callback:
    """Multiply the learning rate by `factor` every `interval` steps after `start`."""
    if not factor > 0:
        raise ConfigError(f"factor must be greater than 0, not {factor}")

    def callback(step: int, trainer: Trainer) -> None:
        trainer.lr *= factor

    first = _count(start, "start", least=0) + _count(interval, "interval")
    return acting_at(every(interval, first), callback)


@register_callback("stop_at_loss")
def stop_at_loss(target: float, loss: Literal["train", "test"] = "train", interval: int = 1) -> Callback:
    """End the run at the first step, a multiple of `interval`, whose loss on the whole set is at most `target`."""

    def callback(step: int, trainer: Trainer) -> None:
        if trainer.evaluate(loss) <= target:
            trainer.stop()

    return acting_at(every(_count(interval, "interval")), callback)


def build_callbacks(configs: Sequence[CallbackConfig], key: str = "callbacks") -> list[Callback]:
    """Return the callbacks that a config lists, in its order.

    Args:
        configs: Names and parameters.
        key: The config key to name in an error: `callbacks`, `callbacks_a` or `callbacks_b`.
    """
    return [_build(config, f"{key}[{i}]") for i, config in enumerate(configs)]


def callback_name(callback: Callback) -> str:
    """Return what a callback is known by: the factory it was made in."""
    return getattr(callback, "__qualname__", type(callback).__name__).split(".<locals>.")[-2:][0]


def _build(config: CallbackConfig, where: str) -> Callback:
    entry = CALLBACKS.get(config.name, where)
    entry.check(config.params, f"{where}.params")
    try:
        callback = entry(**config.params)
    except ConfigError as error:
        raise ConfigError(f"{where}.params: callback {config.name!r}: {error}") from error
    except Exception as error:
        raise ExtensionError(f"{where}: making callback {config.name!r} failed: {error!r}") from error
    if not callable(callback):
        raise ExtensionError(f"{where}: the factory of callback {config.name!r} must return callback(step, trainer)")
    return cast(Callback, callback)


def _count(value: Any, name: str, least: int = 1) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = None
    if number is None or number != float(value) or number < least:
        raise ConfigError(f"{name} must be a whole number, {least} or more, not {value!r}")
    return number
