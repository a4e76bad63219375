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
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Whether this process is the one that shows progress and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def join_processes(device: torch.device) -> Processes:
    """Meet the others, if there are any: over NCCL on CUDA, over gloo on a CPU."""
    if not launched_together():
        return Processes()
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    atexit.register(state.destroy_process_group)
    return Processes(state.process_index, state.num_processes)
