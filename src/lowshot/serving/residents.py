"""The adapters that are in memory: which they are, what they take, and which of them go when others come."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Iterable
from typing import TypeAlias

from torch import Tensor

from ..errors import AdapterError
from ..heads import Head, tensors_of
from .mixing import Updates

Stamp: TypeAlias = tuple[tuple[int, ...] | None, ...]
"""What tells one state of an adapter's folder from another: of each file inode, times of change and size."""


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTable:
    """The classes of an adapter. Adapters with the same classes, prompts and text tower share one."""

    names: tuple[str, ...]
    """C class names in label order."""
    embeddings: Tensor
    """Unit embeddings ``(C, D)``, in half precision unless the bank was asked for full."""
    lengths: Tensor
    """What the text tower's own embeddings measured, ``(C,)``, float32; some heads ask."""

    @property
    def nbytes(self) -> int:
        """Of both."""
        return self.embeddings.nbytes + self.lengths.nbytes


@dataclasses.dataclass(frozen=True, eq=False)
class OwnHead:
    """What an adapter has learnt on frozen embeddings: it judges them beside the class table, or without it."""

    head: Head

    @property
    def nbytes(self) -> int:
        """Of its tensors."""
        return sum(tensor.nbytes for tensor in tensors_of(self.head).values())


@dataclasses.dataclass(frozen=True, eq=False)
class Resident:
    """One adapter in memory. It never changes: an adapter that is replaced on disk becomes another resident."""

    name: str
    stamp: Stamp
    classes: ClassTable
    temperature: Tensor
    """What class scores are divided by before the softmax: one number ``()``, where the backbone computes."""
    updates: Updates
    """What it adds to the vision tower."""
    head: OwnHead | None = None
    """What it has learnt on the embeddings of a frozen tower; None where cosines with the class table judge."""

    @property
    def nbytes(self) -> int:
        """Of all ``parts``, those included that others share."""
        return sum(part.nbytes for part in self.parts)

    @property
    def parts(self) -> tuple[ClassTable | Updates | OwnHead, ...]:
        """What takes memory."""
        return (self.classes, self.updates) if self.head is None else (self.classes, self.updates, self.head)


class Residents:
    """Adapters in memory within a budget; those that were used longest ago go first. Threads may share it.

    What ``get`` and ``admit`` hand out is in use until it is released, and stays in memory that long: neither an
    eviction nor a replacement takes it away from whoever computes with it.

    Args:
        budget_bytes: What all tensors together may take, those in use included.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._kept: dict[str, Resident] = {}  # least recently used first
        self._in_use: collections.Counter[int] = collections.Counter()  # by the address of what is held, as below
        self._holders: collections.Counter[int] = collections.Counter()
        self._used_bytes = 0
        self._changed = threading.Condition()

    @property
    def used_bytes(self) -> int:
        """What all tensors take now; what several adapters share counts once."""
        return self._used_bytes

    def names(self) -> list[str]:
        """The adapters in memory, least recently used first."""
        with self._changed:
            return list(self._kept)

    def bytes_of(self, name: str) -> int:
        """What an adapter takes in memory, 0 if it is not there."""
        with self._changed:
            return self._kept[name].nbytes if name in self._kept else 0

    def get(self, name: str, stamp: Stamp) -> Resident | None:
        """The adapter as it lies on disk now, in use from here on; None if it is not in memory in this state."""
        with self._changed:
            resident = self._kept.get(name)
            if resident is None or resident.stamp != stamp:
                return None
            self._kept[name] = self._kept.pop(name)
            self._use(resident)
            return resident

    def admit(self, resident: Resident, *, may_wait: bool) -> bool:
        """Take in what has just been loaded, in the place of an older state of it; it is in use from here on.

        Args:
            resident: What was loaded.
            may_wait: Wait for others to release what they use where that takes all the room. Who uses something
                itself must not: two that wait for each other would wait for ever.

        Returns:
            Whether there was room; False only for who may not wait.

        Raises:
            AdapterError: It is larger than the whole budget.
        """
        if resident.nbytes > self.budget_bytes:
            raise AdapterError(
                f"adapter {resident.name} takes {resident.nbytes:,} bytes in memory, classes included; the bank has "
                f"{self.budget_bytes:,}: give it more memory"
            )
        with self._changed:
            self._drop(resident.name)
            while not self._make_room(resident):
                if not may_wait:
                    return False
                self._changed.wait()
            self._drop(resident.name)  # another thread may have taken it in meanwhile
            self._kept[resident.name] = resident
            self._hold(resident)
            self._use(resident)
            return True

    def release(self, residents: Iterable[Resident]) -> None:
        """They are no longer in use by the caller."""
        with self._changed:
            for resident in residents:
                self._in_use[id(resident)] -= 1
                if not self._in_use[id(resident)]:
                    del self._in_use[id(resident)]
                self._let_go(resident)
            self._changed.notify_all()

    def drop(self, name: str) -> None:
        """Forget an adapter; who uses it keeps it until it is released."""
        with self._changed:
            self._drop(name)
            self._changed.notify_all()

    def _drop(self, name: str) -> None:
        resident = self._kept.pop(name, None)
        if resident is not None:
            self._let_go(resident)

    def _make_room(self, resident: Resident) -> bool:
        """Whether it fits, after as many of the others have gone as have to and can."""
        for name in list(self._kept):
            if self._fits(resident):
                return True
            if not self._in_use[id(self._kept[name])]:
                self._drop(name)
        return self._fits(resident)

    def _fits(self, resident: Resident) -> bool:
        new = sum(part.nbytes for part in resident.parts if not self._holders[id(part)])
        return self._used_bytes + new <= self.budget_bytes

    def _use(self, resident: Resident) -> None:
        self._in_use[id(resident)] += 1
        self._hold(resident)

    def _hold(self, resident: Resident) -> None:
        """Count what it takes, for as long as anyone holds it. A table counts once for all adapters that share it."""
        for part in resident.parts:
            if not self._holders[id(part)]:
                self._used_bytes += part.nbytes
            self._holders[id(part)] += 1

    def _let_go(self, resident: Resident) -> None:
        for part in resident.parts:
            self._holders[id(part)] -= 1
            if not self._holders[id(part)]:
                del self._holders[id(part)]
                self._used_bytes -= part.nbytes
