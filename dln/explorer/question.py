"""What the page asks for, read from JSON and checked, and the configs that it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dln.composing.burden import check_burden
from dln.composing.checks import check
from dln.config import DataConfig, MetricConfig, ModelConfig, SingleConfig, TheoryConfig, TrainingConfig
from dln.errors import ConfigError, suggestion
from dln.explorer.controls import BY_KEY, CONTROLS, control_of

VARIED = {
    "training.model_seed": "initial weights",
    "training.batch_seed": "batches",
    "data.data_seed": "data",
}
"""What the seeds of an ensemble may be of."""

THEORIES = ("none", "aligned_modes", "gradient_flow", "modified_flow", "lazy")
"""What may be drawn beside the runs."""

FURTHER = (
    "none",
    "ntk_distance",
    "ntk_alignment",
    "weight_norm",
    "start_distance",
    "balancedness",
    "gradient_norm",
    "noise_trace",
    "full_train_loss",
    "population_loss",
    "effective_rank",
    "teacher_distance",
)
"""Metrics one of which may be drawn too."""

OF_START = {"ntk_distance": {"relative": True}, "start_distance": {"relative": True}}
"""Their parameters on the page."""

SPACINGS = ("linear", "log")
MOST_SEEDS = 512
MOST_RECORDS = 257
MODES = 6
"""Modes and singular values that are drawn, at most."""
MOST_WORDS = 64
"""Letters of the name of a tab."""


@dataclass(frozen=True)
class Question:
    """A setting of the page, or two of them side by side, and what to draw."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Keys of controls that are not at their defaults."""
    reference: Mapping[str, Any] = field(default_factory=dict)
    """Of two settings, what the other one (lane a) has other values of."""
    branch_at: int | None = None
    """Until which step the two are one."""
    seeds: int = 32
    vary: str = "training.model_seed"
    records: int = 65
    spacing: str = "linear"
    theory: str = "none"
    further: str = "none"
    sharpness: bool = True

    @classmethod
    def of(cls, given: Any) -> Question:
        """Return what a JSON object asks for.

        Raises:
            ConfigError: It is none, or asks for what there is not.
        """
        if not isinstance(given, dict):
            raise ConfigError("a question is a JSON object")
        if unknown := next((name for name in given if name not in cls.__dataclass_fields__), None):
            raise ConfigError(f"a question has no {unknown!r}; {suggestion(unknown, cls.__dataclass_fields__)}")
        told = dict(given)
        for name in ("values", "reference"):
            if not isinstance(told.setdefault(name, {}), dict):
                raise ConfigError(f"{name} must be an object of keys and values")
        values = {key: control_of(key, "values").read(value) for key, value in told["values"].items()}
        reference = {}
        for key, value in told["reference"].items():
            control = control_of(key, "reference")
            if not control.differs:
                raise ConfigError(f"reference: {key} is the same for both settings, which see the same data")
            read = control.read(value, f"reference.{key}")
            if read != values.get(key, control.default):
                reference[key] = read
        for name, choices in _WORDS.items():
            word = told.get(name, getattr(cls, name))
            if not isinstance(word, str) or word not in choices:
                raise ConfigError(f"{name}: no such choice as {word!r}; {suggestion(word, choices)}")
        for name, (least, most) in _RANGES.items():
            number = told.get(name, getattr(cls, name))
            if type(number) is not int or not least <= number <= most:
                raise ConfigError(f"{name} must be a whole number between {least} and {most}, not {number!r}")
        if not isinstance(told.get("sharpness", True), bool):
            raise ConfigError(f"sharpness must be true or false, not {told['sharpness']!r}")
        if (branch := told.get("branch_at")) is not None and (type(branch) is not int or branch < 0):
            raise ConfigError(f"branch_at must be a step or null, not {branch!r}")
        if not reference:
            told["branch_at"] = None  # nothing differs yet
        return cls(**{**told, "values": values, "reference": reference})

    def value(self, key: str) -> Any:
        """Return what a control is set to."""
        return self.values.get(key, BY_KEY[key].default)

    def config(self) -> SingleConfig:
        """Return the config of the first run, checked: all that the page may draw is recorded.

        Raises:
            ConfigError: It cannot be run.
        """
        sections: dict[str, dict[str, Any]] = {"model": {}, "data": {}, "training": {}, "": {}}
        params: dict[str, dict[str, Any]] = {"data.params": {}, "model.init_params": {}}
        for control in CONTROLS:
            value = self.value(control.key)
            head, _, name = control.key.rpartition(".")
            if control.when is not None and self.value(control.when[0]) not in control.when[1]:
                continue
            if head in params:
                if value != control.default or name == "matrix":
                    params[head][name] = value
            else:
                sections[head][name] = value
        config = SingleConfig(
            model=ModelConfig(**sections["model"], init_params=params["model.init_params"]),
            data=DataConfig(**sections["data"], params=params["data.params"]),
            training=TrainingConfig(**sections["training"]),
            **sections[""],
            evaluate_at={self.spacing: self.records},
            metrics=[*self.drawn(), *([MetricConfig("sharpness")] if self.sharpness else [])],
            theory=[] if self.theory == "none" else [TheoryConfig(self.theory)],
            reference=dict(self.reference),
            branch_at=self.branch_at,
            comparative_metrics=self._distances(),
        )
        check(config)
        check_burden(config)
        return config

    def drawn(self) -> list[MetricConfig]:
        """Return the metrics that all members are drawn with."""
        top = min(MODES, self.value("model.in_dim"), self.value("model.out_dim"))
        metrics = [MetricConfig(name, {"top": top}) for name in ("mode_strengths", "singular_values")]
        if self.further != "none":
            metrics.append(MetricConfig(self.further, dict(OF_START.get(self.further, {}))))
        return metrics

    def _distances(self) -> list[MetricConfig]:
        """Return the metrics of two settings: of parameters where both have the same."""
        if not self.reference:
            return []
        shapes = {"model.num_hidden", "model.hidden_dim"} & set(self.reference)
        return [MetricConfig(name) for name in ("end_to_end_distance", *([] if shapes else ["param_distance"]))]

    def members(self, config: SingleConfig) -> list[SingleConfig]:
        """Return the config of each run of the ensemble: they differ in one seed, 0, 1, ..."""
        section, _, name = self.vary.partition(".")
        part = getattr(config, section)
        return [replace(config, **{section: replace(part, **{name: seed})}) for seed in range(self.seeds)]


_WORDS = {"vary": VARIED, "spacing": SPACINGS, "theory": THEORIES, "further": FURTHER}
_RANGES = {"seeds": (1, MOST_SEEDS), "records": (2, MOST_RECORDS)}


@dataclass(frozen=True)
class Request:
    """A question, and which one of which tab it is."""

    tab: str
    number: int
    question: Question

    @classmethod
    def of(cls, body: bytes) -> Request:
        """Return what the bytes of a request ask.

        Raises:
            ConfigError: They are not such JSON.
        """
        try:
            given = json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the request is no JSON: {error}") from error
        if not isinstance(given, dict) or set(given) != {"tab", "number", "question"}:
            raise ConfigError("a request is a JSON object of tab, number and question")
        tab, number = given["tab"], given["number"]
        if not isinstance(tab, str) or not 0 < len(tab) <= MOST_WORDS:
            raise ConfigError(f"tab must be a word of at most {MOST_WORDS} letters")
        if type(number) is not int or not 0 <= number < 2**53:
            raise ConfigError(f"number must be a whole number, not {number!r}")
        return cls(tab, number, Question.of(given["question"]))


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
