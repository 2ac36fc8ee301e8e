"""What the page lets one change: keys of a config, each with the range of its slider."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from dln.base.values import check_plain
from dln.config import SingleConfig, fields, leaf_of
from dln.errors import ConfigError, suggestion


@dataclass(frozen=True)
class Control:
    """One value that the page lets one change."""

    key: str
    """Of the config; inside `data.params` and `model.init_params` a parameter."""
    label: str
    group: str
    """Under which heading it stands."""
    default: Any
    kind: str = "real"
    """What it holds: real, whole, flag, or a word of `choices`."""
    least: float = 0.0
    most: float = 1.0
    log: bool = False
    """Whether its slider is logarithmic."""
    choices: tuple[str, ...] = ()
    none: str = ""
    """What null is called on the page; empty: it cannot be null."""
    when: tuple[str, tuple[str, ...]] | None = None
    """A control and those of its words with which this one means something; otherwise it is left out."""

    @property
    def differs(self) -> bool:
        """Whether two settings side by side may differ in it: both see the same data."""
        return self.key.startswith(("model.", "training.")) and self.key not in _OF_BOTH

    def read(self, value: Any, key: str = "") -> Any:
        """Return a value as the config holds it.

        Raises:
            ConfigError: It is of another kind, or out of range.
        """
        key = key or self.key
        if value is None and self.none:
            return None
        check_plain(key, value)
        if self.kind == "flag":
            if not isinstance(value, bool):
                raise ConfigError(f"{key} must be true or false, not {value!r}")
            return value
        if self.kind == "word":
            if value not in self.choices:
                raise ConfigError(f"{key}: no such choice as {value!r}; {suggestion(value, self.choices)}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key} must be a number, not {value!r}")
        if self.kind == "whole" and value != math.floor(value):
            raise ConfigError(f"{key} must be a whole number, not {value!r}")
        if not self.least <= value <= self.most:
            raise ConfigError(f"{key} must be between {self.least:g} and {self.most:g} in the explorer, not {value:g}")
        return int(value) if self.kind == "whole" else float(value)

    def told(self) -> dict[str, Any]:
        """Return what the page needs to know of it."""
        return dataclasses.asdict(self) | {"differs": self.differs, "help": HELP.get(leaf_of(self.key) or "", "")}


_OF_BOTH = ("model.in_dim", "model.out_dim", "model.init_params.strength")
"""What two settings share, beside data."""

HELP = {key: item.metadata.get("help", "") for key, item in fields(SingleConfig)}

INITS = ("gamma", "fan_in", "mup", "orthogonal", "balanced", "aligned", "identity")
MATRICES = ("diagonal", "power_law", "low_rank", "identity", "random_normal", "random_orthogonal")

CONTROLS = (
    Control("model.num_hidden", "Depth: hidden layers", "Network", 3, "whole", 0, 12),
    Control("model.hidden_dim", "Width", "Network", 50, "whole", 1, 512, log=True),
    Control("model.gamma", "Gamma", "Network", 1.0, "real", 0.0, 4.0),
    Control("model.alpha", "Alpha: factor on the start", "Network", 1.0, "real", 1e-3, 100.0, log=True),
    Control("model.init", "Initialisation", "Network", "gamma", "word", choices=INITS),
    Control(
        "model.init_params.strength",
        "Strength of modes at the start",
        "Network",
        1e-3,
        "real",
        1e-8,
        10.0,
        log=True,
        when=("model.init", ("aligned",)),
    ),
    Control("training.lr", "Learning rate", "Training", 0.0005, "real", 1e-6, 10.0, log=True),
    Control("training.batch_size", "Batch size", "Training", None, "whole", 1, 1000, log=True, none="full batch"),
    Control("training.label_noise", "Label noise of every batch", "Training", 0.0, "real", 0.0, 10.0),
    Control("max_steps", "Steps", "Training", 2500, "whole", 1, 200_000, log=True),
    Control("data.params.matrix", "Teacher", "Data", "diagonal", "word", choices=MATRICES),
    Control("data.params.scale", "Scale of the teacher", "Data", 10.0, "real", 0.01, 100.0, log=True),
    Control(
        "data.params.alpha",
        "Exponent of its spectrum",
        "Data",
        1.0,
        "real",
        0.0,
        4.0,
        when=("data.params.matrix", ("power_law",)),
    ),
    Control("data.params.rank", "Rank", "Data", 2, "whole", 1, 32, when=("data.params.matrix", ("low_rank",))),
    Control("data.rotate", "Turn the teacher", "Data", False, "flag"),
    Control("data.whiten", "White inputs", "Data", False, "flag"),
    Control("data.noise_std", "Noise on targets", "Data", 0.0, "real", 0.0, 10.0),
    Control("data.train_samples", "Training samples", "Data", 100, "whole", 1, 1000, log=True),
    Control("model.in_dim", "Inputs", "Data", 5, "whole", 1, 32),
    Control("model.out_dim", "Outputs", "Data", 5, "whole", 1, 32),
)
"""All that can be changed, in the order of the page."""

BY_KEY = {control.key: control for control in CONTROLS}


def control_of(key: Any, where: str) -> Control:
    """Return the control of a key.

    Raises:
        ConfigError: There is none.
    """
    if key not in BY_KEY:
        raise ConfigError(f"{where}: the explorer has no {key!r}; {suggestion(key, BY_KEY)}")
    return BY_KEY[key]
