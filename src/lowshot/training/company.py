"""Runs side by side, each as if it were alone; their steps on the same frozen weights are computed together.

Each run has a thread of its own, and one of them works at a time, so that nothing here is a race. A run hands over
where the gradients of a step are asked for. When its turn comes again all others have come as far, or to their ends,
and the gradients of all that wait are computed at once. What a run does besides, from its images to its checkpoint, it
does by itself: it may be longer than others, be interrupted, diverge or end alone.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import gc
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models import TowerState, is_out_of_memory, release, share_frozen
from ..progress import Track
from ..settings import EngineConfig, Recipe
from .joint_step import JointStep, joined_by
from .passes import Needs, choose_passes
from .step import Batch, ExactStep, Passes
from .steps import Stage

THREADS = "lowshot run"
"""Name of their threads."""
_GLANCE_SECONDS = 0.5
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Abandoned(BaseException):
    """Another run has failed, or nobody waits for this one any more. No run but one of ``Company`` ever meets it."""


class Company(Generic[_Result]):
    """Runs that are side by side.

    Args:
        most: How many at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._turns: collections.deque[_Member[_Result]] = collections.deque()
        """Runs that have not ended. The first of them works, or it is the turn of whoever waits for results."""
        self._ended: _Member[_Result] | None = None
        self._to_main, self._is_here = threading.Semaphore(0), True
        self.groups: dict[object, list[_Group]] = {}
        """What steps must have in common to be computed together -> those who do."""
        self.is_over = False

    def results(self, works: Iterable[Callable[[], _Result]]) -> Generator[_Result, None, None]:
        """Do works, each a run from its beginning to its end, and yield what each returns as it ends.

        A work is asked for when there is room for it, and begins when its turn comes. Closing the iterator, or an
        exception in it or in a work, ends the others: their states are written first.

        Args:
            works: The works. Where there is one at a time it is done by the caller's own thread.
        """
        left = iter(works)
        if self.most == 1:
            yield from (work() for work in left)
            return
        try:
            while True:
                while len(self._turns) < self.most and (work := next(left, None)) is not None:
                    self._turns.append(_Member(self, work))
                if not self._turns:
                    return
                ended = self._next_to_end()
                if ended.error is not None:
                    raise ended.error
                yield ended.result
        finally:
            self.is_over = True
            while self._turns:
                self._next_to_end()

    def watched(self, track: Track) -> Track:
        """The same for works, which end at the next item where nobody waits for them any more.

        Python interrupts no thread but the first one.
        """

        def until_over(items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:
            for item in track(items, what=what, total=total):
                if self.is_over:
                    raise Abandoned
                yield item

        return until_over

    def _next_to_end(self) -> _Member[_Result]:
        """Wait for a run to end; the turn is here again then."""
        if self._is_here:
            self._turns[0].go_on()
        self._is_here = False
        while not self._to_main.acquire(timeout=_GLANCE_SECONDS):
            pass  # a signal may have come, which some systems tell of between two waits alone
        self._is_here = True
        ended = self._ended
        assert ended is not None
        ended.join()
        return ended

    def hand_over(self, member: _Member[_Result]) -> None:
        """Let every other run go on to where it hands over, then return.

        Raises:
            Abandoned: The run is to end here.
        """
        if not self.is_over and len(self._turns) > 1:
            self._turns.rotate(-1)
            self._turns[0].go_on()
            member.wait()
        if self.is_over:
            raise Abandoned

    def end(self, member: _Member[_Result]) -> None:
        """Leave; whoever waits for results is told."""
        self._turns.remove(member)
        self._ended = member
        self._to_main.release()


class _Member(Generic[_Result]):
    """A run, and its thread."""

    result: _Result

    def __init__(self, company: Company[_Result], work: Callable[[], _Result]) -> None:
        self.company = company
        self.error: BaseException | None = None
        self.is_at_work = False
        self._work = work
        self._turn = threading.Semaphore(0)
        self._seconds, self._since = 0.0, 0.0
        is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._device = torch.cuda.current_device() if is_used else None
        context = contextvars.copy_context()
        # What a run is about when the process ends is lost, as it would be without a thread.
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=THREADS, daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Give it the turn; the caller waits for its own then."""
        self._turn.release()

    def join(self) -> None:
        """Wait for the thread of a run that has ended."""
        self._thread.join()

    def wait(self) -> None:
        """Wait for the turn."""
        self._seconds, self.is_at_work = self.seconds(), False
        self._turn.acquire()
        self.is_at_work, self._since = True, time.perf_counter()

    def seconds(self) -> float:
        """Time that this run has worked, with its share of what was computed together."""
        return self._seconds + (time.perf_counter() - self._since if self.is_at_work else 0.0)

    def add_seconds(self, seconds: float) -> None:
        """Count time that another run has worked for this one; less than none where this one has for others."""
        self._seconds += seconds

    def _run(self) -> None:
        self.wait()
        _MEMBER.set(self)
        try:
            if self._device is not None:  # each thread has its own
                torch.cuda.set_device(self._device)
            if not self.company.is_over:
                self.result = self._work()
        except BaseException as error:
            self.error = error
        finally:
            self.company.end(self)


_MEMBER: contextvars.ContextVar[_Member[Any] | None] = contextvars.ContextVar("member", default=None)
"""The run of this thread."""


def working_seconds() -> float:
    """A clock that stands while a run beside others waits for its turn; elsewhere that of ``time.perf_counter``."""
    member = _MEMBER.get()
    return time.perf_counter() if member is None else member.seconds()


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
    member, alone = _MEMBER.get(), stages[0].exact
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
        self, alone: ExactStep, parameters: Sequence[nn.Parameter], needs: Needs, size: int, member: _Member[Any]
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
        self._step: JointStep | None = None
        """Of those who waited last."""

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
        run.member.company.hand_over(run.member)
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
        steps = [run.alone for run in runs]
        if self._step is None or self._step.steps != steps:
            self._step = JointStep(steps, self._cuts)
        while True:
            try:
                return self._step.gradients([self._waiting[run] for run in runs])
            except RuntimeError as error:
                smaller = Passes(*(max(len(runs), cut // 2) for cut in dataclasses.astuple(self._cuts)))
                if not is_out_of_memory(error) or smaller == self._cuts:
                    raise
            self._cuts = self._step.passes = smaller  # outside: what is caught holds on to the whole graph
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
