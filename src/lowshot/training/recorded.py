"""Steps of which a device knows all that it needs: recorded once, as a CUDA graph, and replayed.

A step launches more than a thousand kernels. Launched from Python each waits longer for the processor than it computes.
Here everything that differs from step to step lies in buffers on the device: the batch's pixels, rows and labels, the
number of the step and its learning rate. One step, from both towers forward to the optimiser's update, is recorded over
these buffers and replayed as a whole. A batch that is smaller than the others is filled up with rows that the loss
leaves out.

The loss is read every few steps. A step whose loss, or in float16 whose gradients, are no numbers changes nothing, nor
does any after it: the device sees to that itself, and the run is found as it was before that step.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from ..models import TowerState
from .images import ImagesOf
from .loop import within_memory
from .scoring import IGNORED
from .state import TrainingState, unscaled
from .step import Batch, StepGradients

AHEAD = 16
"""Steps that are begun before their losses are read."""
LAUNCHED_FIRST = 2
"""Steps that are launched before one is recorded: the first makes what all others use again, such as the optimiser's
moments and the libraries' workspaces."""


class Recorder(Protocol):
    """Records work on a device."""

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that does this work. Recording it need not do it: it is done when the function is called."""

    def working(self) -> AbstractContextManager[None]:
        """Around whatever is launched: all of it happens in the order in which it was launched."""


class CudaRecorder:
    """Records CUDA graphs, on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._failed: RuntimeError | None = None

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Recorder``.

        Raises:
            OutOfMemoryError: There is not as much memory as the work needs.
            RuntimeError: The work cannot be recorded. Nothing else is tried then: torch's allocator stays in the middle
                of a recording that failed.
        """
        if self._failed is not None:
            raise self._failed
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may take pinned memory meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                work()
        except RuntimeError as error:
            # Where recording fails, ending it fails as well and hides the reason.
            first: BaseException = error
            while first.__context__ is not None and not isinstance(first, torch.OutOfMemoryError):
                first = first.__context__
            reason = first if isinstance(first, RuntimeError) else error
            if not isinstance(reason, torch.OutOfMemoryError):
                self._failed = reason
            raise reason from error
        return graph.replay

    @contextmanager
    def working(self) -> Iterator[None]:
        """Launch on the stream that records; what was launched before, elsewhere, is done first, and so is this."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)


def recorder_on(device: torch.device) -> Recorder | None:
    """Return the recorder of a device's steps; None where nothing has to be recorded."""
    return _cuda_recorder(device, threading.get_ident()) if device.type == "cuda" else None


@functools.cache
def _cuda_recorder(device: torch.device, thread: int) -> CudaRecorder:  # noqa: ARG001
    """One for all fits of a thread: cuBLAS keeps a workspace for every stream it has seen."""
    return CudaRecorder(device)


class PlainRecorder:
    """Does the work again each time, as it did it first: what a graph is compared with."""

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def working(self) -> nullcontext[None]:
        """Nothing is to be done."""
        return nullcontext()


@dataclasses.dataclass
class Buffers:
    """Tensors on the device that a step reads and writes.

    Args:
        device: Where they lie.
        size: B, rows of a full batch.
        ahead: Losses that there is room for.
        classes: C, where a row's labels are as many numbers; else nothing.
    """

    device: torch.device
    size: int
    ahead: int
    classes: Sequence[int] = ()

    def __post_init__(self) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        self.number = zeros(dtype=torch.int64)
        """Number of the step, from 0."""
        self.rows = zeros(self.size, dtype=torch.int64)
        self.labels = zeros(self.size, *self.classes, dtype=torch.int64)
        """The batch's; ``IGNORED`` is the label of what only fills it up."""
        self.count, self.rate, self.scale = zeros(), zeros(), zeros()
        """Rows that are not ignored, learning rate, and what the loss is multiplied by."""
        self.losses = zeros(self.ahead, dtype=torch.float64)
        """Losses of the steps since they were last read."""
        self.place = zeros(1, dtype=torch.int64)
        """Where among them the next one goes: how many steps there were."""
        self.sound = zeros(dtype=torch.int64)
        """How many of those were sound."""
        self.stopped = zeros()
        """1 from the first step on that was not."""
        self.images: Tensor | TowerState | None = None
        """The batch's; made with the first one, whose shape tells theirs."""

    def begin(self, number: int, scale: float) -> None:
        """Go on from a step, with no loss in the buffer."""
        self.number.fill_(number)
        self.scale.fill_(scale)
        for tensor in (self.place, self.sound, self.stopped, self.losses):
            tensor.zero_()

    def fill(self, rows: Sequence[int], labels: Tensor, images: Tensor | TowerState, rate: float) -> None:
        """Put a batch in, in the order of the stream that steps are taken on; nothing waits for it."""
        count = len(rows)
        on_host = torch.tensor(list(rows), dtype=torch.int64)
        on_host = on_host.pin_memory() if self.device.type == "cuda" else on_host
        self.rows[:count].copy_(on_host, non_blocking=True)
        self.labels.fill_(IGNORED)
        self.labels[:count] = labels[self.rows[:count]]
        self.count.fill_(count)
        self.rate.fill_(rate)
        if self.images is None:
            self.images = _zeros_like(images, self.size)
        here, new = (each.hidden if isinstance(each, TowerState) else each for each in (self.images, images))
        here[:count].copy_(new, non_blocking=True)

    def some_images(self, places: range) -> Tensor | TowerState:
        """The images at some places of the batch."""
        assert self.images is not None
        if isinstance(self.images, TowerState):
            return self.images.rows(places.start, places.stop)
        return self.images[places.start : places.stop]


def _zeros_like(images: Tensor | TowerState, size: int) -> Tensor | TowerState:
    """Room for so many images of the same shape."""
    if not isinstance(images, TowerState):
        return images.new_zeros(size, *images.shape[1:])
    token = None if images.token is None else images.token[:1].expand(size).clone()
    hidden = images.hidden.new_zeros(size, *images.hidden.shape[1:])
    return dataclasses.replace(images, hidden=hidden, token=token)


class RecordedSteps:
    """Takes steps by replaying one.

    Args:
        state: Of the run; changed in place.
        exact: Computes the gradients.
        images_of: (number of the step, rows) to their images.
        labels: Of all examples, ``(N,)`` or ``(N, C)``, on the model's device.
        size: Rows of a full batch.
        recorder: Records a step.
    """

    def __init__(
        self,
        state: TrainingState,
        exact: StepGradients,
        images_of: ImagesOf,
        labels: Tensor,
        size: int,
        recorder: Recorder,
    ) -> None:
        self.ahead, self.note, self.is_whole = AHEAD, "", True
        self._state, self._exact, self._images_of, self._labels = state, exact, images_of, labels
        self._record = recorder
        self._begun: list[tuple[Sequence[int], float]] = []
        self._launched, self._is_over = 0, False
        self._replay: Callable[[], None] | None = None
        with recorder.working():
            self._buffers = Buffers(labels.device, size, AHEAD, labels.shape[1:])
            self._buffers.begin(state.step, state.loss_scale)
            for group in state.optimizer.param_groups:
                group["lr"] = self._buffers.rate
                if "capturable" in group:  # what AdamW asks for before it is recorded
                    group["capturable"] = self._buffers.device.type == "cuda"
                if group.get("momentum"):  # SGD's first step writes it even where it is to be taken again
                    for parameter in group["params"]:
                        state.optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        # The optimiser changes nothing where this is 1. That steps are launched before one is recorded is no mistake.
        vars(state.optimizer).update(found_inf=self._buffers.stopped, _warned_capturable_if_run_uncaptured=True)
        exact.loss_scale = self._buffers.scale if state.is_float16 else 1.0

    def take(self, rows: Sequence[int], rate: float) -> None:
        """Begin the next step; see ``Steps``."""
        state = self._state
        # Settling may have halved the scale.
        if self._may_double_scale() and self.settle() and self._may_double_scale():
            state.double_scale(state.step)
            self._buffers.begin(state.step, state.loss_scale)
        if self._is_over:
            return
        number = state.step + len(self._begun)
        with self._record.working():
            self._buffers.fill(rows, self._labels, self._images_of(number, rows), rate)
            self._begun.append((rows, rate))
            within_memory(state, self._launch_or_replay)

    def _may_double_scale(self) -> bool:
        return self._state.may_double_scale(self._state.step + len(self._begun))

    def settle(self) -> bool:
        """Read the losses of all steps that were begun; see ``Steps``."""
        while self._begun and not self._is_over:
            for rows, rate in self._settle_some():
                self.take(rows, rate)
        return not self._is_over

    def close(self) -> None:
        """See ``Steps``: the gradients of a recorded step hold on to all memory that it takes."""
        for parameter in self._state.parameters:
            parameter.grad = None

    def _settle_some(self) -> Sequence[tuple[Sequence[int], float]]:
        """Bring the state to where the device is; steps to be taken again, with a smaller scale, are returned."""
        state, buffers = self._state, self._buffers
        with self._record.working():
            counters = torch.stack([buffers.sound, buffers.place[0]])
            *losses, sound, steps = torch.cat([buffers.losses, counters]).tolist()  # waits
        self.is_whole = False
        again, self._begun = self._begun[int(sound) :], []
        state.losses += losses[: int(sound)]
        if sound < steps:
            may_be_range = self._state.is_float16 and math.isfinite(losses[int(sound)])
            if not (may_be_range and state.halve_scale(state.step)):
                self._is_over = True
                state.bring_back()
        with self._record.working():
            buffers.begin(state.step, state.loss_scale)
        self.is_whole = True
        return again

    def _launch_or_replay(self) -> None:
        """Do one step's work with what is in the buffers."""
        if self._exact.passes != self._state.passes:
            self._exact.passes, self._replay = self._state.passes, None
        if self._replay is None and self._launched >= LAUNCHED_FIRST:
            self._replay = self._recorded()
        (self._replay or self._work)()
        self._launched += 1

    def _recorded(self) -> Callable[[], None]:
        try:
            return self._record(self._work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.note = f"each step was launched by itself: it cannot be recorded as a CUDA graph here ({reason[0]})"
            return self._work
        finally:
            self.is_whole = True  # what is recorded has not happened

    def _work(self) -> None:
        """One step, all of it on the device."""
        buffers, state, parameters = self._buffers, self._state, self._state.parameters
        for parameter in parameters:
            parameter.grad = None
        batch = Batch(buffers.number, buffers.rows, buffers.labels, buffers.some_images, buffers.count)
        loss = self._exact.gradients(batch)
        sound = loss.isfinite()
        if self._state.is_float16:
            sound &= unscaled(parameters, buffers.scale)
        sound &= buffers.stopped == 0
        self.is_whole = False
        state.keep_where(sound)
        buffers.stopped.copy_(sound.logical_not())
        buffers.losses.index_copy_(0, buffers.place, loss[None])
        buffers.sound += sound
        buffers.place += 1
        buffers.number += 1
        state.optimizer.step()
        self.is_whole = True
