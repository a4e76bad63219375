"""The devices that torch computes on: which one a setting names, and in what they differ."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from ..errors import InputError, RunError
from .efficientnet import PHOTOS

_EXPECTED = "expected auto, cpu, cuda, cuda:N or mps"
_SMALL = ("builtin", PHOTOS)
"""Models that take a Mac's processor milliseconds: to launch their work on its GPU would take about as long."""


def pick_device(device: str, model: str | None = None) -> torch.device:
    """The device a setting names.

    ``auto`` is CUDA where there is some. Else it is a Mac's GPU (``mps``) for a model that is neither the built-in one
    nor ``photos``, and the CPU for those.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. Where several processes train together each gets a
            CUDA device of its own for ``auto`` and ``cuda``.
        model: The model that it is for; if not given ``auto`` is no Mac's GPU.

    Raises:
        InputError: Not a device, or not on this machine.
    """
    together = "LOCAL_RANK" in os.environ
    if device == "auto":
        is_large = model is not None and model not in _SMALL
        on_mac = "mps" if is_large and torch.backends.mps.is_available() and not together else "cpu"
        device = "cuda" if torch.cuda.is_available() else on_mac
    if device == "cuda" and together:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise InputError(f"device is {device!r}; {_EXPECTED}") from None
    if picked.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device is {device!r}; {_EXPECTED}")
    if picked.type == "mps":
        _check_mps(device, together)
        return torch.device("mps")
    if picked.index is not None and together and picked.index != int(os.environ["LOCAL_RANK"]):
        raise InputError(f"device is {device!r}, but each of several processes needs its own; expected cuda or auto")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {device!r}, but this machine has {torch.cuda.device_count()} CUDA device(s); try cpu"
        )
    return picked


def _check_mps(device: str, together: bool) -> None:
    """Refuse a Mac's GPU where there is none, or several processes would share it."""
    if not torch.backends.mps.is_available():
        has = "torch was built without it" if not torch.backends.mps.is_built() else "this machine has none"
        raise InputError(f"device is {device!r}, the GPU of a Mac, but {has}; try auto or cpu")
    if together:
        raise InputError(f"device is {device!r}, but processes that train together cannot share it; expected cpu")


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; Metal does not."""
    return device.type != "mps"


def settle(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU has when it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def release(device: torch.device) -> None:
    """Give back what torch holds of a device's memory without need."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device has said that its memory does not suffice; Metal's error has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or str(error).startswith("MPS backend out of memory")


@contextlib.contextmanager
def lacking_named(device: torch.device) -> Iterator[None]:
    """Say what to do where torch has no kernel for a Mac's GPU; elsewhere nothing changes.

    Raises:
        RunError: An operation, or one of its types, does not exist there.
    """
    try:
        yield
    except (NotImplementedError, TypeError) as error:
        if device.type != "mps" or "MPS" not in str(error):
            raise
        raise RunError(
            f"the GPU of this Mac cannot compute this: {str(error).splitlines()[0][:200]}; say --device cpu "
            "(device='cpu' from Python), or set PYTORCH_ENABLE_MPS_FALLBACK=1"
        ) from error
