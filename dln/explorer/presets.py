"""Settings named after the field's phenomena, each with what to look at and where it is from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dln.explorer.controls import BY_KEY
from dln.explorer.question import Question


@dataclass(frozen=True)
class Preset:
    """A phenomenon."""

    name: str
    look: str
    """What to look at, in a sentence."""
    source: str
    values: Mapping[str, Any]
    """Of the setting that is there, A."""
    other: Mapping[str, Any] = field(default_factory=dict)
    """What B has other values of; then the two are side by side."""
    asks: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the question."""

    def question(self) -> Question:
        """Return what the page asks for when the preset is chosen."""
        values = {**self.values, **self.other}
        reference = {key: self.values.get(key, BY_KEY[key].default) for key in self.other}
        return Question.of({"values": values, "reference": reference, **self.asks})

    def told(self) -> dict[str, Any]:
        """Return what the page needs to know of it."""
        return dataclasses.asdict(self)


PRESETS = (
    Preset(
        "Saddle to saddle",
        "The loss falls in steps: at each one more singular value leaves zero, the teacher's largest first, and "
        "between them the run lingers at a saddle; a larger gamma makes the steps longer.",
        "arXiv 2106.15933",
        {
            "model.num_hidden": 1,
            "model.gamma": 4.0,
            "data.whiten": True,
            "training.lr": 0.004,
            "max_steps": 2500,
        },
        asks={"records": 129},
    ),
    Preset(
        "Modes in closed form",
        "From an aligned start each mode learns for itself along a sigmoid, and the dashed closed form lies on what is "
        "trained; raise the learning rate, and they part.",
        "arXiv 1312.6120",
        {
            "model.num_hidden": 1,
            "model.init": "aligned",
            "model.init_params.strength": 1e-3,
            "data.whiten": True,
            "training.lr": 0.004,
            "max_steps": 1500,
        },
        asks={"seeds": 1, "theory": "aligned_modes", "records": 129},
    ),
    Preset(
        "Lazy against rich",
        "A starts large and B small: A's tangent kernel hardly moves (ntk distance) while it learns all modes at one "
        "pace, B's grows many times over while it learns the large modes first.",
        "arXiv 1812.07956, 1806.07572",
        {
            "model.num_hidden": 1,
            "model.hidden_dim": 200,
            "model.gamma": 0.5,
            "data.params.scale": 1.0,
            "data.whiten": True,
            "training.lr": 0.05,
            "max_steps": 400,
        },
        {"model.gamma": 1.5},
        {"further": "ntk_distance", "spacing": "log", "records": 129},
    ),
    Preset(
        "Edge of stability",
        "B, at a tenth of A's learning rate, comes to a minimum that is too sharp for A: A's sharpness settles at "
        "2 / lr while its loss falls all the same.",
        "arXiv 2103.00065",
        {
            "model.num_hidden": 3,
            "model.gamma": 0.8,
            "data.whiten": True,
            "training.lr": 0.034,
            "max_steps": 400,
        },
        {"training.lr": 0.0034},
        {"records": 129, "seeds": 8},
    ),
    Preset(
        "Catapult",
        "The learning rate is beyond 2 / sharpness at the start: the loss first rises, the weights come down to where "
        "it is flat enough, and then it falls.",
        "arXiv 2003.02218",
        {
            "model.num_hidden": 1,
            "model.hidden_dim": 200,
            "model.gamma": 0.5,
            "data.params.matrix": "low_rank",
            "data.params.rank": 1,
            "data.params.scale": 1.0,
            "data.whiten": True,
            "training.lr": 0.22,
            "max_steps": 60,
        },
        asks={"further": "weight_norm", "records": 65},
    ),
    Preset(
        "SGD floor",
        "Noise on the labels of every batch keeps the loss over the training set (full train loss) from falling: where "
        "it stays is as high as lr / batch size, four times as high for A as for B.",
        "arXiv 1704.04289, 1711.00489",
        {
            "model.num_hidden": 1,
            "training.label_noise": 2.0,
            "training.batch_size": 4,
            "training.lr": 0.001,
            "max_steps": 10_000,
        },
        {"training.batch_size": 16},
        {"vary": "training.batch_seed", "further": "full_train_loss", "records": 129, "sharpness": False},
    ),
    Preset(
        "Branch switch",
        "B is A, in batches of 4, up to step 1000, and goes on from there on the full batch: its test loss, dotted, "
        "snaps to that of a run without noise, A's stays above.",
        "arXiv 2306.08590",
        {"data.noise_std": 3.0, "training.batch_size": 4, "training.lr": 0.002, "max_steps": 2000},
        {"training.batch_size": None},
        {
            "branch_at": 1000,
            "vary": "training.batch_seed",
            "records": 129,
            "sharpness": False,
        },
    ),
)
"""All of them, in the order of the page."""
