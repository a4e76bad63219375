"""Steps of runs that are side by side, on the same frozen weights: whoever is next computes those of all that wait."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..models import TowerState, is_out_of_memory, release, share_frozen
from ..settings import EngineConfig, Recipe
from .company import Member, member_here
from .joint_step import JointStep, joined_by
from .passes import Needs, choose_passes
from .step import Batch, ExactStep, Passes
from .steps import Stage


def joined(
    stages: Sequence[Stage], parameters: Sequence[nn.Parameter], needs: Needs, recipe: Recipe, size: int
) -> Sequence[Stage]:
    """The same stages; where runs beside this one have such steps too, they will be computed together.

    The frozen weights of this run's model become those of the others, so that they are in memory once.

    Args:
        stages: Of a run.
        parameters: What it trains.
        needs: The memory that its steps need.
        recipe: Its settings.
        size: Rows of a full batch.
    """
    member, alone = member_here(), stages[0].exact
    if member is None or len(stages) > 1 or not isinstance(alone, ExactStep):
        return stages
    common = joined_by(alone, recipe)
    if common is None:
        return stages
    exact = JoinedGradients(alone, parameters, needs, size, member)
    groups = member.company.groups.setdefault(common, [])
    if not any(group.take_in(exact) for group in groups):
        groups.append(_Group(recipe.engine, exact))
    return [dataclasses.replace(stages[0], exact=exact, end=exact.leave)]


class JoinedGradients:
    """Computes the gradients of a run's steps together with those of others; see ``StepGradients``.

    Args:
        alone: Computes them alone.
        parameters: What the run trains.
        needs: The memory that its steps need.
        size: Rows of a full batch.
        member: The run.
    """

    group: _Group
    """Those with whom it is computed together."""

    def __init__(
        self, alone: ExactStep, parameters: Sequence[nn.Parameter], needs: Needs, size: int, member: Member[Any]
    ) -> None:
        self.alone, self.parameters, self.needs, self.size, self.member = alone, parameters, needs, size, member
        self.passes, self.loss_scale = alone.passes, alone.loss_scale

    def gradients(self, batch: Batch) -> Tensor:
        """See ``StepGradients``. The other runs go on meanwhile."""
        self.alone.passes, self.alone.loss_scale = self.passes, self.loss_scale
        images = batch.images(range(len(batch.rows)))  # here: one that cannot be read is an error of this run

        def some(at: range) -> Tensor | TowerState:
            return images.rows(at.start, at.stop) if isinstance(images, TowerState) else images[at.start : at.stop]

        return self.group.gradients(self, dataclasses.replace(batch, images=some))

    def leave(self) -> None:
        """No step is taken any more."""
        self.group.leave(self)


class _Group:
    """Runs whose steps are computed together.

    Args:
        engine: How their work may be cut.
        first: One of them.
    """

    def __init__(self, engine: EngineConfig, first: JoinedGradients) -> None:
        self._engine = engine
        self._members = [first]
        first.group = self
        self._waiting: dict[JoinedGradients, Batch] = {}
        self._losses: dict[JoinedGradients, Tensor] = {}
        self._cuts = first.passes
        self._step: tuple[Sequence[JoinedGradients], JointStep] | None = None
        """Those who waited last, and their step."""

    def take_in(self, run: JoinedGradients) -> bool:
        """Take a run in if there is memory for one of its images and prompts beside one of each of the others."""
        runs = [*self._members, run]
        try:
            cuts = self._cuts_of(runs)
        except InputError:  # the memory budget is too small for so many
            return False
        if min(cuts.images, cuts.prompts) < len(runs):
            return False
        if self._members:
            share_frozen(self._members[0].alone.backbone.model, run.alone.backbone.model)
        self._members, self._cuts, run.group = runs, cuts, self
        return True

    def leave(self, run: JoinedGradients) -> None:
        """Go on without a run."""
        self._members.remove(run)
        self._waiting.pop(run, None)
        self._step = None

    def gradients(self, run: JoinedGradients, batch: Batch) -> Tensor:
        """Wait for the others' batches, and compute the gradients of all of them; returns the loss of this run's."""
        self._waiting[run] = batch
        run.member.hand_over()
        if run in self._waiting:
            started = time.perf_counter()
            runs = [each for each in self._members if each in self._waiting]
            try:
                losses = [run.alone.gradients(batch)] if len(runs) == 1 else self._together(runs)
            finally:
                del self._waiting[run]  # it asks again, or has failed; the others go on
            self._losses.update(zip(runs, losses, strict=True))
            self._waiting.clear()
            seconds = time.perf_counter() - started
            run.member.add_seconds(-seconds)
            for each in runs:
                each.member.add_seconds(seconds / len(runs))
        return self._losses.pop(run)

    def _together(self, runs: Sequence[JoinedGradients]) -> list[Tensor]:
        """The losses of all that wait, whose gradients are computed with as much at once as there is memory for."""
        if self._step is None or self._step[0] != runs:
            self._step = runs, JointStep([run.alone for run in runs], self._cuts)
        step = self._step[1]
        while True:
            try:
                return step.gradients([self._waiting[run] for run in runs])
            except RuntimeError as error:
                smaller = Passes(*(max(len(runs), cut // 2) for cut in dataclasses.astuple(self._cuts)))
                if not is_out_of_memory(error) or smaller == self._cuts:
                    raise
            self._cuts = step.passes = smaller  # outside: what is caught holds on to the whole graph
            for run in runs:
                for parameter in run.parameters:
                    parameter.grad = None
            gc.collect()
            release(runs[0].alone.backbone.device)

    def _cuts_of(self, runs: Sequence[JoinedGradients]) -> Passes:
        """The cuts of steps of these runs; see ``JointStep``."""
        each, count = [run.needs for run in runs], len(runs)
        needs = dataclasses.replace(
            each[-1],  # what is resident is known best by the last one
            image=max(needs.image for needs in each),
            prompt=max(needs.prompt for needs in each),
            adapter=sum(needs.adapter for needs in each),
            cached=sum(needs.cached for needs in each),
            fixed=sum(needs.fixed for needs in each),
        )
        sizes, prompts = [run.size for run in runs], [len(run.alone.vectors) for run in runs]
        return choose_passes(needs, self._engine, count * max(sizes), count * max(prompts))
