"""What code asks of a device, counted without one: torch's meta device, and what its dispatcher is not told."""

import contextlib
import dataclasses
import functools
import importlib
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

META = torch.device("meta")
_BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class Answers(TorchFunctionMode):
    """Counts whole tensors that are read, and gives zeros for them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.cpu and args[0].is_meta:
            self.count += 1
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


@dataclasses.dataclass
class Counts:
    """Of one block of code; complete when it has ended."""

    copies: int = 0
    """To the device."""
    waits: int = 0
    """Values read back that are no answer; on the meta device the first one is an error too."""
    answers: int = 0
    """Whole tensors that are read."""
    kernels: int = 0


@contextlib.contextmanager
def counted():
    """What a block asks of the meta device."""
    counts = Counts()
    counting = _operations()
    operations = counting.Operations()
    with operations, counting.HostTensors(operations), Answers() as answers:
        yield counts
    counts.copies, counts.waits = operations.from_host.total(), operations.read_back.total()
    counts.answers = answers.count
    counts.kernels = operations.kernels.total()


@functools.cache
def _operations():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_BENCHMARKS))
        return importlib.import_module("operations")


def on_meta(thing):
    """A dataclass of tensors, other such dataclasses and what is neither, with its tensors on the meta device."""
    fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    return dataclasses.replace(thing, **{name: _moved(value) for name, value in fields.items()})


def _moved(value):
    if isinstance(value, torch.Tensor):
        return value.to(META)
    if isinstance(value, dict):
        return {name: _moved(each) for name, each in value.items()}
    return on_meta(value) if dataclasses.is_dataclass(value) else value
