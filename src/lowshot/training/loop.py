"""The loop over a run's steps, from gradients to the optimiser's update: schedule, checkpoints, and what goes wrong.

A step is taken again where memory or the range of float16 does not suffice. Where the loss stops being a number the
last good values are put back.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ..errors import OutputError
from ..models import is_out_of_memory, release
from ..progress import UNREPORTED, Report, StepTaken, Track
from ..settings import TrainingConfig
from .checkpoints import CheckpointFile
from .images import ImagesOf, StepImages
from .processes import Processes
from .state import TrainingState
from .step import Batch
from .steps import Stage, Steps, stage_at

_Result = TypeVar("_Result")


@dataclasses.dataclass
class TrainingLoop:
    """Takes a run's steps, from wherever it stands.

    Args:
        state: Where it stands; changed in place.
        config: Learning rates and seed.
        stages: Of the whole run.
        steps: Takes the steps.
        images: Gives them their images.
        is_sound: Whether the trained model gives numbers; asked at the end, since no loss is computed after the last
            update.
        checkpoint: Where the state is kept; None for nowhere.
        clock: Tells seconds.
    """

    state: TrainingState
    config: TrainingConfig
    stages: Sequence[Stage]
    steps: Steps
    images: StepImages
    is_sound: Callable[[], bool]
    checkpoint: CheckpointFile | None = None
    clock: Callable[[], float] = time.perf_counter
    unwritten: str = ""
    """Why a checkpoint could not be written, if one could not."""

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def run(self, order: Iterable[Sequence[int]], track: Track, what: str, report: Report = UNREPORTED) -> str:
        """Take the steps that are left.

        The state is written at the end too, and when anything interrupts the loop, unless that happens in the middle
        of an update. Where a loss is no number, the last values that gave one are put back.

        Args:
            order: The batches of the whole run, from its first step.
            track: Shows progress.
            what: What to call it.
            report: Is told of each step.

        Returns:
            Why it stopped early, or nothing.
        """
        total, unsettled, started = self.total, list[Begun](), 0.0
        with self.images:
            left = iter(self.images.watching(order, self.state.step))
            images = sum(map(len, itertools.islice(left, self.state.step)))
            try:
                # Counted here: taking a step may settle those before it.
                for number, rows in enumerate(track(left, what=what, total=total - self.state.step), self.state.step):
                    started = started if unsettled else self.clock()
                    images += len(rows)
                    stage, first = stage_at(self.stages, number)
                    rate = stage.learning_rate(number - first, self.config)
                    self.steps.take(rows, rate)
                    unsettled.append(Begun(number + 1, rate, images))
                    is_due = self.checkpoint is not None and self.checkpoint.is_due()
                    if len(unsettled) < self.steps.ahead and number + 1 < total and not is_due:
                        continue
                    if not self._settle(unsettled, started, report):
                        return self._diverged(f"step {self.state.stopped_at} of {total}")
                    if self.checkpoint is not None and self.checkpoint.is_due():
                        self._write()
                self._write()
                if self.is_sound():
                    return ""
                self.state.bring_back()
                return self._diverged("the last step")
            except BaseException:
                if self.steps.is_whole and self._settle(unsettled, started, UNREPORTED):
                    self._write()
                raise
            finally:
                self.steps.close()

    def _settle(self, unsettled: list[Begun], started: float, report: Report) -> bool:
        """Wait for steps that were begun, count their time, and tell of those whose loss was a number."""
        is_sound, count = self.steps.settle(), len(unsettled)
        seconds = (self.clock() - started) / max(1, count)
        sound = [step for step in unsettled if step.number <= self.state.step]
        unsettled.clear()
        self.state.seconds += seconds * len(sound)
        for step in sound:
            loss = self.state.losses[step.number - 1]
            report.step(StepTaken(step.number, self.total, loss, step.rate, step.images, seconds))
        return is_sound

    def _write(self) -> None:
        """Write the state; where that fails training goes on, since what it learns may still be saved elsewhere."""
        if self.checkpoint is None:
            return
        try:
            self.checkpoint.write(self.state)
        except OutputError as error:
            self.unwritten = f"the state of training was not written: {error}"

    def _diverged(self, where: str) -> str:
        return f"training diverged at {where}; try a lower learning rate than {self.config.learning_rate:g}"


class Begun(NamedTuple):
    """A step that was begun and may not be settled."""

    number: int
    """From 1."""
    rate: float
    images: int
    """Learnt from up to and with this step."""


@dataclasses.dataclass
class LaunchedSteps:
    """Takes each step by itself, and waits for its loss.

    Args:
        state: Of the run; changed in place. The cuts and the scale that proved right are kept in it.
        stages: Of the run; each computes the gradients of its steps.
        images_of: (number of the step, rows) to their images.
        labels: Of all examples, ``(N,)`` or ``(N, C)``, on the model's device.
        processes: Those that share each batch between them.
        note: See ``Steps``.
    """

    state: TrainingState
    stages: Sequence[Stage]
    images_of: ImagesOf
    labels: Tensor
    processes: Processes = dataclasses.field(default_factory=Processes)
    note: str = ""

    def __post_init__(self) -> None:
        self.ahead, self.is_whole = 1, True
        self._is_sound = True
        self._stage: Stage | None = None

    def take(self, rows: Sequence[int], rate: float) -> None:
        """Take a step; where its loss is no number the last good values are put back."""
        state, number = self.state, self.state.step
        stage, first = stage_at(self.stages, number)
        if stage is not self._stage:
            self._stage = stage
            stage.begin(number == first)
            if number == first:
                state.optimizer.state.clear()
        if state.may_double_scale(number):
            state.double_scale(number)
        # Other processes would wait for what a smaller pass never sends.
        gradients = functools.partial(self._gradients, number, rows)
        loss = within_memory(state, gradients, may_halve=self.processes.count == 1)
        while math.isfinite(loss) and not state.unscale_gradients():
            is_smaller = state.halve_scale(number)
            loss = within_memory(state, gradients, may_halve=self.processes.count == 1) if is_smaller else math.nan
        self._is_sound = math.isfinite(loss)
        if not self._is_sound:
            state.bring_back()
            return
        state.keep()
        self.is_whole = False
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        state.losses.append(loss)
        self.is_whole = True

    def _gradients(self, number: int, rows: Sequence[int]) -> float:
        """Leave the gradients of a step on the parameters; returns the loss."""
        assert self._stage is not None
        for parameter in self.state.parameters:
            parameter.grad = None
        exact = self._stage.exact
        exact.passes, exact.loss_scale = self.state.passes, self.state.loss_scale
        labels = self.labels[torch.as_tensor(list(rows), device=self.labels.device)]
        loss = exact.gradients(Batch.of(number, rows, labels, functools.partial(self.images_of, number))).item()
        self.processes.add_up_gradients(self.state.parameters)
        return loss

    def settle(self) -> bool:
        """Whether the step's loss was a number."""
        return self._is_sound

    def close(self) -> None:
        """See ``Steps``: the gradients of the last step stay where they are."""
        for stage in self.stages:
            stage.end()


def within_memory(state: TrainingState, work: Callable[[], _Result], *, may_halve: bool = True) -> _Result:
    """Do the work of a step with as much at once as there is memory for.

    Args:
        state: Of the run. Where memory runs out its ``passes``, which the work goes by, are halved.
        work: Is done again then.
        may_halve: Else it is not.

    Raises:
        OutOfMemoryError: There is not enough memory for one image and one prompt at a time.
    """
    while True:
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            smaller = state.passes.halved()
            if smaller is None or not may_halve:
                raise
        state.passes = smaller  # outside: what is caught holds on to the whole graph
        gc.collect()
        release(state.parameters[0].device)
