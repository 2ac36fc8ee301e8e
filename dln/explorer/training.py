"""A question answered piece by piece: the first members at once, then all, then what takes longer.

Every piece is an ensemble of the compiled engine, of configs that differ from the one that the page offers only in what
is recorded: a value at a step is the same whatever else is recorded, and whoever is trained beside.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from dln import factory
from dln.blueprint import Blueprint, recorded_steps
from dln.config import MetricConfig, SingleConfig
from dln.errors import ConfigError
from dln.explorer.copies import as_command, as_python, as_yaml
from dln.explorer.cost import FIRST, LATER, LEAST_STRIDE, USUAL_PACE, check_cost, fitting, sharp_stride, work_of
from dln.explorer.frames import drawn, frame, joined
from dln.explorer.question import MODES, Question

SHARP_MEMBERS = 4
"""Of how many members the sharpness is found, which takes longer than their training."""

PAUSE = 0.15
"""Seconds between the picture of all members and what takes longer."""

SHARP_PATIENCE = 5.0
"""Seconds after which the sharpness of no further member is begun."""

PARTS = 0.3
"""Seconds after which what there is of the first members is sent, before they have come to the last step."""


class SupersededError(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class Pace:
    """How fast members have been trained of late, in multiplications a second."""

    value: float = USUAL_PACE

    def learn(self, work: float, seconds: float) -> None:
        """Take what was timed into account; half its weight is that of the last time."""
        if seconds > 0:
            self.value = float(np.sqrt(self.value * max(work / seconds, 1e6)))


@dataclass
class Answer:
    """What trains the ensemble of a question, and tells of it frame by frame."""

    question: Question
    tell: Callable[[str, bytes], None]
    """Takes the kind of a frame, and the frame: a later one of its kind holds all that the earlier ones did."""
    wanted: Callable[[], bool]
    """Whether someone still waits."""
    pace: Pace = field(default_factory=Pace)

    def pieces(self) -> Generator[None]:
        """Answer; yields between pieces, so that others have their turn.

        Raises:
            ConfigError: The question cannot be answered.
            SupersededError: Nobody waits any more.
        """
        question, started = self.question, time.perf_counter()
        config = question.config()
        check_cost(config, question.seeds)
        self._begin(config)
        members = question.members(replace(config, metrics=question.drawn(), theory=[]))
        steps = sorted(recorded_steps(config))
        parts: list[Mapping[str, np.ndarray]] = []
        done = diverged = 0
        while done < len(members):
            rest = members[done:]
            piece = rest[: fitting(rest, self.pace.value, LATER if done else FIRST)]
            begun = time.perf_counter()
            ensemble = self._train(piece, self._partial(question.seeds) if not done else None)
            self.pace.learn(work_of(config) * len(piece), time.perf_counter() - begun)
            parts.append(ensemble.curves())
            done += len(piece)
            diverged += sum(any(n.startswith("diverged_at") for n in ensemble.events(r)) for r in range(len(piece)))
            told = {"seeds": done, "of": len(members), "diverged": diverged, "steps": steps}
            told["seconds"] = round(time.perf_counter() - started, 4)
            self._send("curves", told, drawn(joined(parts, steps)))
            yield
        self._pause()
        yield from self._theory(config, steps)
        if question.sharpness:
            yield from self._sharpness(config)
        self._send("done", {"seconds": round(time.perf_counter() - started, 4)}, {})

    def figure(self) -> Generator[None]:
        """Tell the first run whole, as the PDF that `dln.plotting.plot_history` draws of it.

        Raises:
            ConfigError: The question cannot be answered, or its theory says nothing of the run.
            SupersededError: Nobody waits any more.
        """
        from dln.figures.columns import metrics_of  # matplotlib takes its time
        from dln.plotting import plot_history

        config = self.question.config()
        check_cost(config, 1)
        if self.question.sharpness and sharp_stride(config, len(recorded_steps(config))) > LEAST_STRIDE:
            config = replace(config, metrics=self.question.drawn())
        history = self._train([config]).history(0)
        yield
        history.config = asdict(config)
        figure = plot_history(history, [name for name in metrics_of(history) if name != "time"])
        page = io.BytesIO()
        figure.savefig(page, format="pdf")
        self.tell("figure", page.getvalue())

    def _begin(self, config: SingleConfig) -> None:
        """Tell what is about to be drawn, and how to have it elsewhere."""
        outline = Blueprint(config).outline
        values: list[float] = []
        if outline.teacher is not None:
            values = np.linalg.svd(outline.teacher.double().numpy(), compute_uv=False)[:MODES].tolist()
        copies = {name: make(self.question, config) for name, make in _COPIES.items()}
        rates = {suffix: lane.training.lr for suffix, lane in config.lanes.items()}
        self._send("begin", {"teacher": values, "lr": rates, **copies}, {})

    def _theory(self, config: SingleConfig, steps: Sequence[int]) -> Generator[None]:
        """Tell what a theory says of the first member."""
        if not config.theory:
            return
        try:
            ensemble = self._train([replace(config, metrics=self.question.drawn())])
        except ConfigError as error:
            self._send("theory", {"fault": str(error)}, {})
        else:
            theory = config.theory[0].name
            columns = {
                name: values
                for name, values in joined([ensemble.curves()], steps).items()
                if theory in name and "end_to_end_distance" not in name
            }
            conditions = {name: value for name, value in ensemble.events(0).items() if theory in name}
            told = {"steps": list(steps), "theory": theory, "conditions": _finite(conditions)}
            self._send("theory", told, drawn(columns, members=False))
        yield

    def _sharpness(self, config: SingleConfig) -> Generator[None]:
        """Tell the sharpness of the first members at some of the records, one member after the other."""
        steps, started = sorted(recorded_steps(config)), time.perf_counter()
        sparse = replace(
            config,
            metrics=[MetricConfig("sharpness")],
            comparative_metrics=[],
            theory=[],
            evaluate_at=steps[:: sharp_stride(config, len(steps))],
        )
        steps, parts = sorted(recorded_steps(sparse)), []
        for member in self.question.members(sparse)[:SHARP_MEMBERS]:
            parts.append(self._train([member]).curves())
            columns = {name: v for name, v in joined(parts, steps).items() if name.startswith("sharpness")}
            told = {"steps": steps, "seeds": len(parts), "of": min(self.question.seeds, SHARP_MEMBERS)}
            self._send("sharpness", told, drawn(columns))
            yield
            if time.perf_counter() - started > SHARP_PATIENCE:
                break

    def _train(self, members: Sequence[SingleConfig], partial: Callable[[Any], None] | None = None) -> Any:
        """Return the ensemble of some members, trained.

        Raises:
            SupersededError: Between two stretches nobody waited any more.
        """
        self._check()
        ensemble = factory.build_ensemble([Blueprint(member) for member in members])
        self._check()

        def look(_: int) -> None:
            self._check()
            if partial is not None:
                partial(ensemble)

        return ensemble.run(look)

    def _partial(self, seeds: int) -> Callable[[Any], None]:
        """Return what tells of members that are under way, every now and then."""
        last = time.perf_counter()

        def tell(ensemble: Any) -> None:
            nonlocal last
            if time.perf_counter() - last < PARTS or ensemble.steps[-1] == ensemble.max_steps:
                return
            last = time.perf_counter()
            curves = ensemble.curves()
            steps = curves["step"].tolist()
            told = {"seeds": len(ensemble), "of": seeds, "diverged": 0, "steps": steps, "partial": True}
            self._send("curves", told, drawn(joined([curves], steps)))

        return tell

    def _pause(self) -> None:
        """Wait a moment before what takes longer: while a slider is dragged, the next question comes now."""
        until = time.perf_counter() + PAUSE
        while time.perf_counter() < until:
            self._check()
            time.sleep(PAUSE / 30)

    def _check(self) -> None:
        if not self.wanted():
            raise SupersededError

    def _send(self, kind: str, told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.tell(kind, frame(kind, told, arrays))


_COPIES = {"command": as_command, "yaml": as_yaml, "python": as_python}


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return numbers as JSON has them: null where they are not finite."""
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
