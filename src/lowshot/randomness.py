"""Draws from torch, by generators that are nobody else's: the caller's own, and other threads, see nothing."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .threads import free_in_forks

_GLOBAL = free_in_forks(threading.RLock())
"""Held by whoever sets the state of torch's own generators for a while."""
_BLOCKS = threading.local()
"""``draws``: those of a thread's innermost block."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw what this thread draws from torch in the block from generators of its own, one for each device.

    The numbers are those that torch's own generators would give after ``torch.manual_seed(seed)``. Those are neither
    read nor changed, so that other threads may draw from them, and seed them, meanwhile. An operation that takes no
    generator, such as dropout on CUDA, is given that of its device for as long as it is launched.

    Every operation of the block goes through Python once more, which takes microseconds: a block is no place for a
    whole training.
    """
    with _Draws(seed).innermost():
        yield


@contextlib.contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Set the state of torch's own generators, on every device, for the length of a block.

    For code that seeds them itself. One such block runs at a time; a thread of the caller's may still disturb it.
    """
    with _GLOBAL, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        has_mps = torch.backends.mps.is_available()
        before = torch.mps.get_rng_state() if has_mps else None
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


def drawn_twice() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """Two blocks, the second of which draws what the first draws, if the first is inside of ``seeded``.

    It is a ``context_fn`` of torch's checkpointing, which computes a block once more in the backward pass.
    """
    draws: _Draws | None = getattr(_BLOCKS, "draws", None)
    again = contextlib.nullcontext() if draws is None else draws.as_now().innermost()
    return contextlib.nullcontext(), again


class _Draws:
    """Gives each operation that draws a generator of a seed's."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def as_now(self) -> _Draws:
        """Another that draws what this one is about to draw."""
        other = _Draws(self._seed)
        for device, generator in self._generators.items():
            other._generator(device).set_state(generator.get_state())
        return other

    @contextlib.contextmanager
    def innermost(self) -> Iterator[None]:
        """For the length of a block this thread's draws are these."""
        outer = getattr(_BLOCKS, "draws", None)
        _BLOCKS.draws = self
        try:
            mode = _Mode()
            mode.draws = self
            with mode:
                yield
        finally:
            _BLOCKS.draws = outer

    def result(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result of an operation of torch's, if what it draws is drawn here."""
        is_innermost = getattr(_BLOCKS, "draws", None) in (self, None)  # autograd's threads know of no block
        if not is_innermost or not _may_draw(operation, args, kwargs):
            return operation(*args, **kwargs)
        device = _device_of(args, kwargs)
        if device.type == "meta" or kwargs.get("generator") is not None:
            return operation(*args, **kwargs)
        takes_generator = _with_generator(operation)
        if takes_generator is None:
            return self._lent(device, functools.partial(operation, *args, **kwargs))
        return takes_generator(*args, **{**kwargs, "generator": self._generator(device)})

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]

    def _lent(self, device: torch.device, operation: Callable[[], Any]) -> Any:
        """The result of an operation that takes no generator: torch's own has this one's state meanwhile."""
        own = self._generator(device)
        if device.type == "cpu":
            theirs = torch.default_generator
        elif device.type == "mps":
            theirs = torch.mps._get_default_mps_generator()
        else:
            theirs = torch.cuda.default_generators[device.index]
        with _GLOBAL:
            before = theirs.get_state()
            try:
                theirs.set_state(own.get_state())
                result = operation()
                own.set_state(theirs.get_state())
            finally:
                theirs.set_state(before)
        return result


def _dispatched(mode: Any, operation: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:  # noqa: ARG001 - torch's
    return mode.draws.result(operation, args, kwargs or {})


# Torch would keep its compiler away from the method, and for that load it at the first operation: a second.
_OF_THE_MODE = {"__torch_dispatch__": _dispatched, "_should_skip_dynamo": classmethod(lambda cls: False)}  # noqa: ARG005
_Mode: Any = type("_Mode", (TorchDispatchMode,), _OF_THE_MODE)
"""A block in which each operation of torch's goes through ``_Draws.result``."""


def _may_draw(operation: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation may draw; attention does where it has dropout."""
    if torch.Tag.nondeterministic_seeded not in operation.tags:
        return False
    names = [argument.name for argument in operation._schema.arguments]
    if "dropout_p" not in names:
        return True
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return bool(given.get("dropout_p", 0.0))


def _device_of(args: Any, kwargs: dict[str, Any]) -> torch.device:
    """The device that an operation draws on: that of its first tensor, or the one it names."""
    tensors = (each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
    like = next(tensors, None)
    device = torch.device(kwargs.get("device") or "cpu") if like is None else like.device
    is_any = device.type == "cuda" and device.index is None
    return torch.device("cuda", torch.cuda.current_device()) if is_any else device


def _with_generator(operation: Any) -> Any:
    """The operation, or its twin, that takes a generator; None where there is none."""
    if any(argument.name == "generator" for argument in operation._schema.arguments):
        return operation
    packet, name = operation.overloadpacket, operation._overloadname
    twin = "generator" if name == "default" else f"{name}_generator"
    return getattr(packet, twin) if twin in packet.overloads() else None
