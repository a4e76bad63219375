"""The state of torch that decides what a call computes: the caller's is set aside for its length, and given back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from .threads import free_in_forks, threads_of_its_own


@contextlib.contextmanager
def own_torch_state() -> Iterator[None]:
    """Compute as torch does when nobody has changed it, whatever the caller has set; around a call, or a function.

    New tensors are float32 and on the CPU, gradients are kept, and neither inference mode nor autocast is on. TF32,
    deterministic algorithms and the number of threads stay the caller's: they are about speed, and about rounding. Only
    where a process was forked while it computed is there one thread: it would wait for the others for ever.

    All but the default type belong to this thread. That one belongs to the process: it is float32 for other threads too
    until the last call that is under way has ended.
    """
    import torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(threads_of_its_own())
        stack.enter_context(_DEFAULT_TYPE.float32())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda", *(("mps",) if torch.backends.mps.is_available() else ())):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # else it would cost every operation a little
            stack.enter_context(torch.device("cpu"))
        yield


class _DefaultType:
    """Torch's default type, which calls on several threads share."""

    def __init__(self) -> None:
        self._lock = free_in_forks(threading.RLock())
        self._calls = 0
        self._callers: Any = None

    @contextlib.contextmanager
    def float32(self) -> Iterator[None]:
        """Make it float32 for the length of a block; the last of several blocks gives back what the caller has set.

        A caller may set it on another thread while a block is under way: that is what is given back then.
        """
        import torch

        with self._lock:
            self._calls += 1
            current = torch.get_default_dtype()
            if self._calls == 1 or current != torch.float32:
                self._callers = current
            torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0 and torch.get_default_dtype() == torch.float32:
                    torch.set_default_dtype(self._callers)


_DEFAULT_TYPE = _DefaultType()
