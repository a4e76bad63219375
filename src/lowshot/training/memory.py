"""How much memory a block of work needed at its height."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import torch


@dataclasses.dataclass
class PeakMemory:
    """Filled when the block ends."""

    bytes: int = 0
    """CUDA: most memory allocated on the device at once. CPU: largest resident set of the process, Python and all."""


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the peak over a block.

    On Linux the kernel's high-water mark is set back first, so an earlier, larger block does not count. Elsewhere the
    mark is that of the whole process so far.
    """
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    yield peak
    peak.bytes = _resident_high_water()


def _resident_high_water() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
