"""How much memory a block of work needs: what was there before it, and at its height."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import torch


@dataclasses.dataclass
class MemoryUse:
    """Bytes: on a CPU the resident set of the whole process, Python and all; on a GPU what is allocated there."""

    static: int = 0
    """Before the block: weights, adapter, and on a CPU the libraries."""
    peak: int = 0
    """Most at once; filled when the block ends."""
    reserved: int = 0
    """On a GPU: most that the allocator held of the device for it, gaps included; 0 on a CPU."""


@contextlib.contextmanager
def memory_use(device: torch.device) -> Iterator[MemoryUse]:
    """Measure a block.

    On Linux the kernel's high-water mark is set back first, and what the allocator holds without need is given back to
    the kernel, so an earlier, larger block does not count. Elsewhere the mark is that of the whole process so far.
    """
    # What earlier work freed would else count as there before, and what the block takes of it not at all.
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
    use = MemoryUse(static=resident_bytes(device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield use
        use.peak, use.reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        return
    if device.type == "mps":  # Metal keeps no high-water mark: what torch holds when the block ends is near it
        torch.mps.empty_cache()
        yield use
        use.peak = use.reserved = torch.mps.driver_allocated_memory()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    yield use
    use.peak = _resident_high_water()


def resident_bytes(device: torch.device) -> int:
    """Bytes in use now: on a GPU what is allocated, on a CPU the process's resident set; 0 where Linux does not say."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    return _kernel_says("VmRSS") or 0


def free_bytes(device: torch.device) -> int | None:
    """Bytes left on a GPU, with what torch holds of it without need; None on a CPU, which others use too."""
    if device.type == "mps":  # memory that the processor has too: as much as Metal recommends to take
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def _resident_high_water() -> int:
    """The most bytes that were resident; 0 where no system tells."""
    high_water = _kernel_says("VmHWM")
    if high_water is not None:
        return high_water
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kernel_says(field: str) -> int | None:
    """A line of Linux's account of this process, in bytes; None elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None
