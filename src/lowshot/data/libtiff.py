"""Complaints of libtiff, which decodes compressed TIFF files for Pillow: it writes them to the standard error.

A small file makes it write megabytes, in C, which Python's own redirections do not catch.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_MOST_CHARACTERS = 200
_OF_DIRECTORIES = (b"TIFFReadDirectory", b"TIFFFetch", b"TIFFAdvanceDirectory", b"_TIFFCheckDirNumberAndOffset")
_thread = threading.local()
_handlers: list[object] = []  # C calls them for as long as this process lives


@contextlib.contextmanager
def complaints(into: list[str]) -> Iterator[None]:
    """Collect what libtiff says of pixels on this thread in this block; where it is not found, it is not caught.

    Complaints about metadata are caught and passed over. Those after the first have no text: there may be a million.
    """
    _install()
    before, _thread.complaints = getattr(_thread, "complaints", None), into
    try:
        yield
    finally:
        _thread.complaints = before


@functools.cache
def _install() -> None:
    """Have libtiff call us instead of writing; on other threads, and outside of ``complaints``, it does what it did."""
    maps, shipped = Path("/proc/self/maps"), Path(PIL.__file__).parent / ".dylibs"
    if maps.is_file():
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
        path = next((line.split(maxsplit=5)[-1] for line in lines if "/libtiff" in line), None)
    else:
        path = next((str(each) for each in shipped.glob("libtiff*")), None)
    try:
        library = ctypes.CDLL(path)
        setters = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
        form = ctypes.CDLL(None).vsnprintf
    except (OSError, AttributeError, TypeError):  # part of Pillow itself, as on Windows, or not there at all
        return
    for setter in setters:
        setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        setter(ctypes.cast(_handler(form, setter(None)), ctypes.c_void_p))


def _handler(form: object, address: int | None) -> Any:
    previous = _Handler(address) if address else None

    def handle(module: bytes | None, template: bytes | None, arguments: int | None) -> None:
        noted: list[str] | None = getattr(_thread, "complaints", None)
        if noted is None:
            if previous is not None:
                previous(module, template, arguments)
            return
        if (module or b"").startswith(_OF_DIRECTORIES):
            return
        text = ctypes.create_string_buffer(_MOST_CHARACTERS)
        if not noted and callable(form):
            form(text, ctypes.c_size_t(_MOST_CHARACTERS), template, ctypes.c_void_p(arguments))
        noted.append(text.value.decode("utf-8", "replace").strip().rstrip("."))

    handler = _Handler(handle)
    _handlers.extend((handler, previous))
    return handler
