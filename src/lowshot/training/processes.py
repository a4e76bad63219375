"""Several processes that train one adapter together, each on its share of every batch.

``accelerate launch`` or ``torchrun`` starts them. The gradient is the sum of all shares, which is that of the whole
batch: what is learnt does not depend on how many processes there are, but for rounding.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

from ..errors import InputError


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Args:
        index: Which one this is, from 0.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes."""
        return self.index == 0

    def share(self, total: int) -> range:
        """Which of ``total`` things are this process's: shares are next to each other and differ by one at most."""
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)

    def largest_share(self, total: int) -> int:
        """How many of ``total`` things any process has at most."""
        return -(-total // self.count)

    def add_up(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def refuse_different_steps(self, step: int, device: torch.device) -> None:
        """See to it that all go on from the same step, and that all have read before the first writes.

        Raises:
            InputError: They do not.
        """
        if self.count == 1:
            return
        steps = torch.zeros(self.count, dtype=torch.int64, device=device)
        steps[self.index] = step
        self.add_up(steps)
        if len(set(steps.tolist())) > 1:
            raise InputError(
                f"processes found the training state at steps {steps.tolist()}; expected one state that all can read: "
                "put the output on a disk that all machines share, or remove the state to begin anew"
            )

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes; a parameter has none only if it has none anywhere."""
        if self.count == 1:
            return
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=parameters[0].device)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([has, *(part.flatten() for part in parts)])
        distributed.all_reduce(flat)
        sums = flat[len(parameters) :].split([p.numel() for p in parameters])  # type: ignore[no-untyped-call]
        for parameter, known, total in zip(parameters, flat[: len(parameters)].tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter) if known else None


def launched_together() -> bool:
    """Whether this process is one of several, by what launchers write into the environment."""
    return _number("WORLD_SIZE", 1) > 1


def is_first_process() -> bool:
    """Whether this process is the one that shows progress and writes."""
    return not launched_together() or _number("RANK", 0) == 0


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.strip().isdigit():
        raise InputError(f"environment variable {variable} is {text!r}; expected a whole number")
    return int(text)


def join_processes(device: torch.device) -> Processes:
    """Meet the others, if there are any: over NCCL on CUDA, over gloo on a CPU."""
    if not launched_together():
        return Processes()
    from accelerate import PartialState

    ours = not distributed.is_initialized()
    state = PartialState(cpu=device.type == "cpu")
    if ours:
        atexit.register(state.destroy_process_group)
    return Processes(state.process_index, state.num_processes)
