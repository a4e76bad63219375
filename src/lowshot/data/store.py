"""Images decoded once: in memory as far as that goes, then in one temporary file."""

from __future__ import annotations

import contextlib
import math
import mmap
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .images import is_decoded
from .task import Images, Pixels, place_of, whole

_LEFT_FREE_BYTES = 1 << 30  # of the disk, for what must be saved: adapters, checkpoints, records
_MAPPED_BYTES = 64 << 20  # read from one mapping of the file; see _SpillFile.view
_GATES = 64


def decoded_once(images: Images, memory_bytes: int, disk_bytes: int) -> Images:
    """Return the same images, none of them decoded twice where the two caps allow it (see ``DecodedOnce``).

    Images that are already decoded, or kept so, are returned as they are; so are some of such images.
    """
    if is_decoded(images) or isinstance(whole(images), DecodedOnce):
        return images
    return DecodedOnce(images, memory_bytes, disk_bytes)


class DecodedOnce:
    """Images that are decoded when first asked for and then kept.

    The first to be decoded stay in memory, the next ones go to a temporary file, and what fits into neither is
    decoded again whenever it is asked for. Nothing makes room for anything else: training asks for every image once
    per pass, and then whatever was used longest ago is what is needed next. What is kept outlives its source file.

    The temporary file lies in the folder for such (``$TMPDIR``; it should be on a disk, not in memory), under no name,
    so that nothing is left of it even after ``kill -9``. The last GB of the disk is never taken, and a disk that is
    full is no error.

    Several threads may ask at once; the images of a store are read-only.

    Args:
        images: Where the images come from.
        memory_bytes: Decoded images kept in memory at most.
        disk_bytes: Size of the temporary file at most; 0 for none.
    """

    def __init__(self, images: Images, memory_bytes: int, disk_bytes: int) -> None:
        self.images = images
        self._memory_bytes = memory_bytes
        self._kept: dict[int, Pixels] = {}
        self._kept_bytes = 0
        self._places: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._spill = _SpillFile(disk_bytes)
        self._lock = threading.Lock()
        self._gates = [threading.Lock() for _ in range(_GATES)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pixels:
        index = range(len(self.images))[index]  # -1 is the last one, beyond it an IndexError
        with self._gates[index % _GATES]:  # who asks for an image that is being decoded waits for it
            with self._lock:
                in_memory, place = self._kept.get(index), self._places.get(index)
            pixels = in_memory if place is None else self._spill.view(*place)
            if pixels is None:
                pixels = self.images[index].view()
                pixels.setflags(write=False)
                self._keep(index, pixels)
            return pixels

    def close(self) -> None:
        """Forget the images and give back memory and disk; from now on every image is decoded when asked for.

        The same happens by itself when nobody refers to the store any more.
        """
        with self._lock:
            self._memory_bytes = 0
            self._kept, self._kept_bytes, self._places = {}, 0, {}
        self._spill.close()

    def _keep(self, index: int, pixels: Pixels) -> None:
        with self._lock:
            if self._kept_bytes + pixels.nbytes <= self._memory_bytes:
                self._kept[index] = pixels
                self._kept_bytes += pixels.nbytes
                return
            if index in self._places:  # written before, but it could not be mapped
                return
        offset = self._spill.append(pixels)
        if offset is not None:
            with self._lock:
                self._places[index] = offset, pixels.shape


def source_of(images: Images, index: int) -> Path | bytes | None:
    """Return the file that an image is decoded from, or its bytes; None where there is none.

    A sequence of images that are decoded from files has a method ``source``, which does that for its own.
    """
    images, index = place_of(images, index)
    while isinstance(images, DecodedOnce):
        images, index = place_of(images.images, index)
    source: Callable[[int], Path | bytes | None] | None = getattr(images, "source", None)
    return None if source is None else source(index)


class _SpillFile:
    """Images one behind the other in a temporary file without a name; opened when the first one comes."""

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum_bytes = maximum_bytes
        self._bytes = 0
        self._file: BinaryIO | None = None
        self._mapping: mmap.mmap | None = None
        self._read_bytes = 0
        self._lock = threading.Lock()

    def append(self, pixels: Pixels) -> int | None:
        """Write an image, and return where it begins, or None if there is no room for it."""
        with self._lock:
            if self._bytes + pixels.nbytes > self._maximum_bytes:
                return None
            try:
                if self._file is None:
                    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the store
                    weakref.finalize(self, file.close)  # one that is only collected would be warned of
                    self._file = file
                if shutil.disk_usage(tempfile.gettempdir()).free < _LEFT_FREE_BYTES + pixels.nbytes:
                    raise OSError("the rest of the disk is left to others")
                rest = np.ascontiguousarray(pixels).data.cast("B")
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._maximum_bytes = self._bytes  # write no more, and take away what was written of this one
                with contextlib.suppress(OSError):
                    if self._file is not None:
                        self._file.truncate(self._bytes)
                return None
            self._bytes += pixels.nbytes
            return self._bytes - pixels.nbytes

    def view(self, offset: int, shape: tuple[int, ...]) -> Pixels | None:
        """Return the image that begins there, not copied; None if the system cannot map the file.

        Pages that were read through a mapping count as this process's memory until it goes. So a new one is made
        after every ``_MAPPED_BYTES``, as well as after the file has grown; an old one goes with its last view.
        """
        size = math.prod(shape)
        with self._lock:
            self._read_bytes += size
            if self._mapping is None or offset + size > len(self._mapping) or self._read_bytes > _MAPPED_BYTES:
                assert self._file is not None
                try:
                    self._mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
                except (OSError, ValueError):  # no room among the addresses; closed meanwhile
                    self._mapping = None
                self._read_bytes = size
            mapping = self._mapping
        if mapping is None:
            return None
        return np.frombuffer(mapping, np.uint8, size, offset).reshape(shape)

    def close(self) -> None:
        """Give the disk's space back as soon as nobody looks at a view any more."""
        with self._lock:
            self._maximum_bytes, self._mapping = 0, None
            if self._file is not None:
                self._file.close()
