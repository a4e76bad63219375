"""The adapters in memory, the bytes that they take, and the order in which they make room for others."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..belonging import Belonging
from ..errors import AdapterError
from ..heads import Head, tensors_of
from ..several_labels import Presence, members_named
from .mixing import Updates

Stamp: TypeAlias = tuple[tuple[int, ...] | None, ...]
"""State of an adapter's folder: of each file its inode, times of change and size; None for one that is not there."""


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTable:
    """The classes of an adapter. Adapters with the same classes, prompts and text tower share one."""

    names: tuple[str, ...]
    """C class names in label order."""
    embeddings: Tensor
    """Unit embeddings ``(C, D)``, in half precision unless the bank was asked for full."""
    lengths: Tensor
    """Lengths of the text tower's own embeddings, ``(C,)``, float32, for the heads that need them."""

    @property
    def nbytes(self) -> int:
        """Size of both tensors."""
        return self.embeddings.nbytes + self.lengths.nbytes


@dataclasses.dataclass(frozen=True, eq=False)
class OwnHead:
    """A head learnt on frozen embeddings, which judges them beside the class table, or without it."""

    head: Head

    @property
    def nbytes(self) -> int:
        """Size of its tensors."""
        return sum(tensor.nbytes for tensor in tensors_of(self.head).values())


@dataclasses.dataclass(frozen=True, eq=False)
class Likelihoods:
    """The probability of each class by itself, of an adapter whose images have several labels.

    Args:
        presence: Its thresholds say which labels an image has.
        slope: ``()``, where the backbone computes.
        offsets: ``(C,)``, there too.
    """

    presence: Presence
    slope: Tensor
    offsets: Tensor

    @classmethod
    def on(cls, device: torch.device, presence: Presence) -> Likelihoods:
        """The same of a record's presence, on a device."""
        slope = torch.tensor(presence.slope, dtype=torch.float32, device=device)
        return cls(presence, slope, torch.tensor(presence.offsets, dtype=torch.float32, device=device))

    def __call__(self, scores: Tensor) -> Tensor:
        """Probabilities of scores, ``(..., C)``."""
        return torch.sigmoid(self.slope * scores + self.offsets)

    def labels(self, names: Sequence[str], probabilities: NDArray[np.float32]) -> tuple[str, ...]:
        """All labels of an image with these probabilities of C classes, ``(C,)``, the most probable first."""
        return members_named(names, probabilities, self.presence.present(probabilities))

    @property
    def nbytes(self) -> int:
        """Size of its tensors."""
        return self.slope.nbytes + self.offsets.nbytes


Part: TypeAlias = ClassTable | Updates | OwnHead | Belonging | Likelihoods


@dataclasses.dataclass(frozen=True, eq=False)
class Resident:
    """One adapter in memory. It never changes: an adapter that is replaced on disk becomes another resident."""

    name: str
    stamp: Stamp
    classes: ClassTable
    temperature: Tensor
    """Divisor of class scores before the softmax: one number ``()``, where the backbone computes."""
    updates: Updates
    """Updates of the vision tower."""
    head: OwnHead | None = None
    """None where cosines with the class table judge."""
    belonging: Belonging | None = None
    """None where it has not learnt to tell images of none of its classes."""
    likelihoods: Likelihoods | None = None
    """None where an image has one label, so that a softmax makes probabilities."""

    @property
    def nbytes(self) -> int:
        """Size of all ``parts``, those included that others share."""
        return sum(part.nbytes for part in self.parts)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts that take memory; adapters may share them."""
        own = (part for part in (self.head, self.belonging, self.likelihoods) if part is not None)
        return self.classes, self.updates, *own


class Residents:
    """Adapters in memory within a budget; those that were used longest ago go first. Threads may share it.

    A resident from ``get`` or ``admit`` is in use until it is released: neither an eviction nor a replacement takes it
    away from whoever computes with it.

    Args:
        budget_bytes: Most memory for all tensors, those in use included.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._by_name: dict[str, Resident] = {}  # least recently used first
        self._in_use: collections.Counter[Resident] = collections.Counter()
        self._holders: collections.Counter[Part] = collections.Counter()
        self._used_bytes = 0
        self._changed = threading.Condition()

    @property
    def used_bytes(self) -> int:
        """Size of all tensors now; what several adapters share counts once."""
        return self._used_bytes

    def names(self) -> list[str]:
        """The adapters in memory, least recently used first."""
        with self._changed:
            return list(self._by_name)

    def bytes_of(self, name: str) -> int:
        """Memory that an adapter takes, 0 if it is not there."""
        with self._changed:
            return self._by_name[name].nbytes if name in self._by_name else 0

    def get(self, name: str, stamp: Stamp) -> Resident | None:
        """The adapter as it lies on disk now, in use from here on; None if it is not in memory in this state."""
        with self._changed:
            resident = self._by_name.get(name)
            if resident is None or resident.stamp != stamp:
                return None
            self._by_name[name] = self._by_name.pop(name)
            self._use(resident)
            return resident

    def admit(self, resident: Resident, *, may_wait: bool) -> bool:
        """Take in a resident in the place of its older state; it is in use from here on.

        Args:
            resident: A new one.
            may_wait: Wait until others release what takes all the room. A caller that uses residents itself must not:
                two that wait for each other would wait for ever.

        Returns:
            Whether there was room; False only for a caller that may not wait.

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
            while (  # parts that others hold take no more room
                self._used_bytes + sum(part.nbytes for part in resident.parts if not self._holders[part])
                > self.budget_bytes
            ):
                idle = next((name for name, each in self._by_name.items() if not self._in_use[each]), None)
                if idle is not None:  # the least recently used first
                    self._drop(idle)
                elif may_wait:
                    self._changed.wait()
                else:
                    return False
            self._drop(resident.name)  # another thread may have taken it in meanwhile
            self._by_name[resident.name] = resident
            self._hold(resident)
            self._use(resident)
            return True

    def release(self, residents: Iterable[Resident]) -> None:
        """Let go of residents that the caller has used."""
        with self._changed:
            for resident in residents:
                self._in_use[resident] -= 1
                if not self._in_use[resident]:
                    del self._in_use[resident]
                self._let_go(resident)
            self._changed.notify_all()

    def drop(self, name: str) -> None:
        """Forget an adapter; callers that use it keep it until they release it."""
        with self._changed:
            self._drop(name)
            self._changed.notify_all()

    def _drop(self, name: str) -> None:
        resident = self._by_name.pop(name, None)
        if resident is not None:
            self._let_go(resident)

    def _use(self, resident: Resident) -> None:
        self._in_use[resident] += 1
        self._hold(resident)

    def _hold(self, resident: Resident) -> None:
        """Count a resident's memory for as long as anyone holds it, and parts that are shared once."""
        for part in resident.parts:
            if not self._holders[part]:
                self._used_bytes += part.nbytes
            self._holders[part] += 1

    def _let_go(self, resident: Resident) -> None:
        for part in resident.parts:
            self._holders[part] -= 1
            if not self._holders[part]:
                del self._holders[part]
                self._used_bytes -= part.nbytes
