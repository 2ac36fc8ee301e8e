"""R members of one lane: their weights, batches and callbacks, advanced together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from dln.base.blame import for_each
from dln.base.clock import Clock
from dln.base.values import check_sampling
from dln.checkpoints import Saved, clock_state, given_state, memories, named, present_state, remember
from dln.data import Dataset
from dln.ensemble.batches import LARGE, MemberBatches
from dln.ensemble.divergence import go_through, may_overflow, records_near_limit
from dln.ensemble.groups import Group, Kept
from dln.ensemble.label_noise import with_noise
from dln.ensemble.member import NEVER, UNCHANGED, Member
from dln.ensemble.rates import Rates
from dln.ensemble.whole_sets import WholeSets, check_dims
from dln.ingredients.edge import Optimizer
from dln.kernels.batches import Draw
from dln.kernels.rules import SGD, Rule
from dln.kernels.state import State
from dln.lockstep import fire
from dln.subject import Callback
from dln.timeline import next_step

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int

    from dln.theory.lanes import TheoryLane

STRETCH = 4e9
"""About how many floating point operations are made before Python goes on, so that records appear and Ctrl-C works."""


class Lane:
    """R members that share tensor shapes, advanced together by the compiled kernels.

    A member's digits depend on nothing but its own numbers: not on how many others there are, nor on their order.
    """

    def __init__(
        self,
        weights: Sequence[Float[np.ndarray, "R out in"]],
        biases: Sequence[Float[np.ndarray, "R out"]] | None,
        datasets: Sequence[Dataset],
        *,
        dataset: Sequence[int] | None = None,
        lr: float | Sequence[float] = 0.0005,
        lr_factors: Sequence[float] | None = None,
        batch_size: int | None = None,
        batch_seeds: int | Sequence[int] = 0,
        replacement: bool = False,
        label_noise: float | Sequence[float] = 0.0,
        rule: Rule | None = None,
        max_steps: int = 2500,
        callbacks: Sequence[Sequence[Callback]] | None = None,
        resume: Saved | None = None,
        theories: Sequence[TheoryLane] = (),
    ) -> None:
        """Set up a lane.

        Args:
            weights: Initial weights of all members, layer by layer.
            biases: Initial biases, or None.
            datasets: What members train on, all of one shape, on the cpu, in the weights' precision.
            dataset: Which of the datasets each member trains on; None: all on the first.
            lr: Learning rate, one for all or one a member.
            lr_factors: Factors on it, layer by layer; None: all are 1.
            batch_size: Samples a step; None is the full batch.
            batch_seeds: Seed of the batch order or of online samples, and of label noise, one for all or one a member.
            replacement: Whether samples of a batch are drawn with replacement, not in epochs.
            label_noise: Standard deviation of fresh noise on the targets of every batch, one for all or one a member.
            rule: The update rule; None is plain SGD.
            max_steps: Number of updates.
            callbacks: Each member's callbacks; every one must declare its steps.
            resume: A checkpoint that all go on from; `weights` are what its run started from.
            theories: What is predicted of the members, recorded beside them.
        """
        members = len(weights[0])
        check_dims(datasets, (weights[0].shape[2], weights[-1].shape[1]))
        layers = zip(weights, strict=True) if biases is None else zip(weights, biases, strict=True)
        self.shapes = [list(p.shape[1:]) for layer in layers for p in layer]
        self.dtype = weights[0].dtype
        self.max_steps, self.replacement = max_steps, replacement
        self.start = [*weights, *(biases or ())]
        """Initial weights and then biases, each [R, ...]."""
        of = [0] * members if dataset is None else dataset
        self.sets = WholeSets(datasets, of, self.dtype, biases is not None, len(weights))
        self.stopped_at, self.diverged_at = (np.full(members, NEVER) for _ in range(2))
        self.last_loss = np.full(members, np.nan)
        seeds = np.broadcast_to(np.asarray(batch_seeds), (members,))
        self.label_noise = np.broadcast_to(np.asarray(label_noise, np.float64), (members,))
        """Standard deviations of fresh noise on the targets of batches [R]."""
        for std in np.unique(self.label_noise).tolist():
            check_sampling(replacement, std, datasets[0].online)
        batches = self.sets.batches(range(members), seeds.tolist(), batch_size, replacement)
        rule = rule or SGD()
        self.optimizer = Optimizer(rule.name, rule.arguments, lr_factors)
        """The optimizer, for metrics that ask for it."""
        state = State(list(weights), None if biases is None else list(biases), self.dtype, rule, lr_factors)
        self.groups = [Group(np.arange(members), state, batches, batch_size)]
        if self.label_noise.any():
            self.groups = [*self._told_apart(self.groups[0], seeds)]
        self.callbacks = [list(c) for c in callbacks] if callbacks is not None else [[] for _ in range(members)]
        self.keeps_time = False
        """Whether `clock` is to tell the time that training has taken."""
        self.clock = Clock(members)
        self.rates = Rates(np.broadcast_to(np.asarray(lr, np.float64), (members,)).copy(), self.callbacks)
        self.members: list[Member] = []
        self.step = 0
        self._lost: dict[int, list[np.ndarray]] = {}
        """Weights, and then biases, of members that have diverged, as they were when they did."""
        self.theories = theories
        self.resume, self._given = resume, (self.rates.own.copy(), batch_size, seeds)
        if resume is not None:
            self._go_on(resume)

    def __len__(self) -> int:
        return len(self.label_noise)

    def _told_apart(self, everyone: Group, seeds: Int[np.ndarray, " R"]) -> Iterator[Group]:
        """Yield the members without label noise, whose full batches are moments, and those with it."""
        still = np.flatnonzero(self.label_noise == 0)
        if len(still):
            yield everyone.select(still)
        shaken = np.flatnonzero(self.label_noise)
        group = everyone.select(shaken)
        yield replace(group, batches=with_noise(group.batches, seeds[shaken].tolist(), self.label_noise[shaken]))

    def _go_on(self, saved: Saved) -> None:
        """Let all members go on from a checkpoint."""
        rates, batch_size, seeds = self._given
        self.step = saved.step
        self.rates.own = np.array([saved.lr(rate) for rate in rates.tolist()])
        for callbacks in self.callbacks:
            remember(callbacks, saved.arrays)
        self.clock.parts[:] = saved.clock
        size, groups = saved.batch_size(batch_size), []
        for group in self.groups:
            group.state.go_on(saved.step, saved.parameters, saved.kept)
            sized = group if size == batch_size else group.resized(size)
            same = seeds[group.members] == saved.batch_seed
            for there in (True, False):
                if len(places := np.flatnonzero(same == there)):
                    groups.append(sized if len(places) == len(same) else sized.select(places))
                    groups[-1].batches.go_on(saved.streams(saved.batch_seed, size) if there else {})
        self.groups = groups
        if saved.teacher is not None:
            self.sets.teach(range(len(self)), saved.teacher)
            self.learn()
        for at, name in enumerate(("earlier", "previous")):
            for array, value in zip(self._past, (saved.past(name) or {}).values(), strict=False):
                array[at] = value

    def state(
        self, member: int, batch_size: int | None, new_epoch: bool, batch_seed: int | None
    ) -> dict[str, np.ndarray]:
        """Return what, beside the weights, makes a member's next steps what they are: see `dln.checkpoints`.

        Args:
            member: Its number.
            batch_size: Of its next batch.
            new_epoch: Whether that begins an epoch.
            batch_seed: Of the streams that begin with it; None: they go on.
        """
        group, place = self.group_of(member)
        rates, given, seeds = self._given
        lr, scale = float(self.rates.own[member]), float(self.rates.scale[member])
        arrays = given_state(float(rates[member]), given, int(seeds[member]))
        arrays |= present_state(self.step, lr, scale, batch_size, self.optimizer.name)
        fresh = None if batch_seed is None else self._fresh_batches([member], [batch_seed], batch_size)
        drawn = group.batches.state(place) if fresh is None else fresh.state(0)
        arrays |= group.state.kept(place) | drawn | memories(self.callbacks[member])
        if new_epoch and "pending" in arrays:
            arrays["pending"] = np.zeros(0, np.int64)
        arrays |= {"teacher": self.sets.teachers[member]} if member in self.sets.teachers else {}
        if self.keeps_time:
            arrays |= clock_state(self.clock, member)
        if "_past" in vars(self):
            depth = self.groups[0].state.layout.depth
            for at, name in enumerate(("earlier", "previous")):
                past = [a[at, member] for a in self._past]
                arrays |= {f"{name}.{key}": a for key, a in named(past[:depth], past[depth:]).items()}
        return arrays

    @cached_property
    def _past(self) -> list[np.ndarray]:
        """The weights two steps before `step`, and one [2, R, ...], where `advance` is asked to look back."""
        return [np.full((2, *a.shape), np.nan, self.dtype) for a in self.start]

    @property
    def moving(self) -> np.ndarray:
        """Which members [R] are still to be updated."""
        return (self.stopped_at == NEVER) & (self.diverged_at == NEVER)

    def begin(self, step: int) -> None:
        """Start a step: callbacks of moving members fire, and may change sizes, rates and weights.

        Raises:
            DlnError: What the first callback raises that fails; its `runs` are the members whose callbacks fail.
        """
        self.step = step
        self.rates.scale[:] = 1
        if self.resume is not None and step == self.resume.step:  # callbacks have acted before it was saved
            self.rates.scale[:] = self.resume.lr_scale
            return
        if not self.members and any(self.callbacks):
            self.members = [Member(self, m) for m in range(len(self))]
        sizes: dict[int, int | None] = {}
        seeds: dict[int, int] = {}

        def act(m: int) -> None:
            member = self.members[m]
            fire(self.callbacks[m], step, member)
            member.write_back()
            if member.wanted_size is not UNCHANGED:
                sizes[m] = member.wanted_size  # type: ignore[assignment]
                member.wanted_size = UNCHANGED
            if member.wanted_seed is not None:
                seeds[m], member.wanted_seed = member.wanted_seed, None

        if self.members:
            for_each(np.flatnonzero(self.moving).tolist(), act)
            self.learn()
        if sizes:
            self.groups = [new for group in self.groups for new in group.split(sizes)]
        if seeds:
            self.groups = [new for group in self.groups for new in group.reseeded(seeds, self._fresh_batches)]

    def _fresh_batches(self, members: Sequence[int], seeds: Sequence[int], batch_size: int | None) -> MemberBatches:
        """Return batches of some members from the beginning of their streams."""
        batches, std = self.sets.batches(members, seeds, batch_size, self.replacement), self.label_noise[members]
        return with_noise(batches, seeds, std) if std.any() else batches

    def learn(self) -> None:
        """Let batches go on with the targets of teachers that members have been given."""
        if self.sets.renew():
            data = self.sets.datasets, self.sets.dataset, self.sets.train
            self.groups = [group.learning_from(*data) for group in self.groups]

    def next_callback(self, step: int) -> int:
        """Return the next step after `step` at which a callback of a moving member acts, or NEVER."""
        acting = [c for m in np.flatnonzero(self.moving) for c in self.callbacks[m] if not hasattr(c, "lr_scale")]
        steps = [next_step(callback.steps, step) for callback in acting]  # type: ignore[attr-defined]
        return min((s for s in steps if s is not None), default=NEVER)

    def draw(self, steps: int) -> list[Draw]:
        """Return every group's batches of the next `steps` steps."""
        return [group.batches.draw(steps) for group in self.groups]

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        work = sum(group.state.updates_cost for group in self.groups)
        rates = LARGE // len(self) if any(self.callbacks) else LARGE
        return min(max(1, int(STRETCH / work)), max(1, rates), *(group.batches.longest_draw() for group in self.groups))

    def record_bytes(self) -> int:
        """Bytes of the weights of all members, which a record keeps."""
        return sum(group.state.nbytes for group in self.groups)

    def advance(
        self, draws: Sequence[Draw], updates: int, records: Sequence[int], keep: bool = False, back: bool = False
    ) -> tuple[Float64[np.ndarray, "t R"], Float64[np.ndarray, "t R"], list[Kept]]:
        """Make `updates` updates from the present step, and record on the way.

        Args:
            draws: The batches of these steps.
            updates: How many.
            records: The steps to record, counted from the present one.
            keep: Whether the weights of every group are returned too.
            back: Whether weights of the two steps before each record are kept with them; the same in every call.

        Returns:
            Batch losses [t, R], test losses [t, R], and the weights that are kept.
        """
        steps = len(draws[0].size)
        more = {i for r in (*records, steps) for i in (r - 2, r - 1) if i >= 0} if back else set()
        looks = np.array(sorted(more.union(records)), np.int64)
        rows = np.searchsorted(looks, records)
        shape = (len(records), len(self))
        everything = []
        losses, tests = np.full(shape, np.nan), np.full(shape, np.nan)
        lr = np.where(self.moving, self.rates.of_updates(self.step, updates), 0.0)  # 0 keeps the weights
        rates = self.rates.at(self.step, looks) if keep or back else np.zeros((0, len(self)))
        times = self.clock.go(self.step, lr, looks) if self.keeps_time else np.full((len(looks), len(self)), np.nan)
        for group, draw in zip(self.groups, draws, strict=True):
            before = group.state.copy() if updates else group.state
            kept = group.state.blank(len(looks)) if keep or back else None
            reach = np.empty((1, len(group.members)))
            own, test_of = lr[:, group.members], self.sets.dataset[group.members]
            found = group.state.train(draw, updates, own, looks, self.sets.test, test_of, kept, reach)
            self._settle(group, before, draw, updates, lr, looks, found, reach[0])
            if kept is not None:
                told = rates[:, group.members], times[:, group.members]
                seen = Kept(group.members, group.state.layout, kept, draw, looks, *told)
                everything.append(replace(seen.at(rows), past=self._look_back(seen, rows)) if back else seen)
            losses[:, group.members], tests[:, group.members] = (values[rows] for values in found)
        if len(records):
            self.last_loss = losses[-1]
        self.sets.forget()
        return losses, tests, everything if keep else []

    def _look_back(self, seen: Kept, rows: Int[np.ndarray, " t"]) -> list[list[np.ndarray]]:
        """Return a group's weights one step before each record, and two; remember the last two of all that was seen.

        Args:
            seen: What it was at the records, at the two steps before each, and at the last two.
            rows: Where the records are among them.
        """
        series = [
            np.concatenate([past[:, seen.members], a]) for past, a in zip(self._past, seen.unpacked(), strict=True)
        ]
        for past, a in zip(self._past, series, strict=True):
            past[:, seen.members] = a[-2:]
        return [[a[rows + 2 - back] for a in series] for back in (1, 2)]

    def losses(self, split: Literal["train", "test"]) -> Float64[np.ndarray, " R"]:
        """Return the loss of every member's present weights on the whole training or test set."""
        return self.sets.losses(split, self.groups, self.moving)

    def gradient_norms(self) -> Float64[np.ndarray, " R"]:
        """Return the norm of the gradient of every member's loss on the whole training set."""
        return self.sets.gradient_norms(self.groups)

    def weights(self) -> tuple[list[Float[np.ndarray, "R out in"]], list[Float[np.ndarray, "R out"]] | None]:
        """Return copies of all members' weights, and biases if there are any."""
        parts = [[*w, *(b or ())] for w, b in (group.state.weights() for group in self.groups)]
        places = np.argsort(np.concatenate([group.members for group in self.groups]))
        arrays = [np.concatenate(layer)[places] for layer in zip(*parts, strict=True)] if len(parts) > 1 else parts[0]
        for member, own in self._lost.items():
            for array, values in zip(arrays, own, strict=True):
                array[member] = values
        depth = self.groups[0].state.layout.depth
        return arrays[:depth], arrays[depth:] or None

    def parameters(self, member: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return copies of one member's present weights, and of its biases."""
        group, place = self.group_of(member)
        weights, biases = group.state.select([place]).weights()
        return [w[0] for w in weights], [b[0] for b in biases or ()]

    def group_of(self, member: int) -> tuple[Group, int]:
        """Return the group that `member` is in, and its place there."""
        for group in self.groups:
            place = np.flatnonzero(group.members == member)
            if len(place):
                return group, int(place[0])
        raise IndexError(member)

    def changed(self) -> None:
        """Forget losses of weights that a callback has changed."""
        self.sets.forget()

    def _settle(
        self,
        group: Group,
        before: State,
        draw: Draw,
        updates: int,
        lr: Float64[np.ndarray, "s R"],
        looks: Int[np.ndarray, " t"],
        found: tuple[Float64[np.ndarray, "t r"], Float64[np.ndarray, "t r"]],
        reach: Float64[np.ndarray, " r"],
    ) -> None:
        """Find which members have diverged and where, and what torch says of losses near the limit, in `found`.

        Args:
            group: The members, as they are now.
            before: What they were at the start of the stretch.
            draw: Its batches.
            updates: How many updates were made.
            lr: Learning rates of all members.
            looks: Offsets of the records.
            found: Losses at the records on the batch and on the test set; those near the limit are replaced.
            reach: What bounds the losses of all steps.
        """
        close = records_near_limit(found, draw, self.sets.test, self.dtype)
        suspects = may_overflow(reach, draw, self.dtype) | close.any((0, 1))
        places = np.flatnonzero(suspects & (self.diverged_at[group.members] == NEVER))
        if not len(places):
            return
        members = group.members[places]
        of = before.select(places), draw.select(places), updates, lr[:, members]
        for step in go_through(*of, self.sets.test, self.sets.dataset[members]):
            place, member = places[step.place], int(members[step.place])
            if not np.isfinite(step.train_loss):
                self.diverged_at[member] = self.step + step.offset
                self._lost[member] = step.parameters
            for look in np.flatnonzero(looks == step.offset):
                if close[0, look, place]:
                    found[0][look, place] = step.train_loss
                if close[1, look, place]:
                    found[1][look, place] = self.sets.torch_loss("test", member, step.parameters)
