"""A torchvision that was built for another torch does not load, and transformers fails wherever it finds one.

Nothing here needs torchvision. Where it does not load it is hidden from this process before transformers looks for it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _BeforeTransformers(MetaPathFinder):
    """Is asked first for every module that is imported; acts once, when transformers is looked for."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the protocol's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname == "transformers":
            with contextlib.suppress(ValueError):  # another thread has been here
                sys.meta_path.remove(self)
            torchvision_fault()
        return None


def guard_transformers() -> None:
    """Have ``torchvision_fault`` called before transformers is first imported, by whomever."""
    if "transformers" not in sys.modules and not any(
        isinstance(finder, _BeforeTransformers) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _BeforeTransformers())


@functools.cache
def torchvision_fault() -> str | None:
    """Why torchvision does not load, if it is installed and does not; then it counts as not installed from here on."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # whatever a package of another build raises
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # importing it is a ModuleNotFoundError then
        return " ".join(str(error).split())
    return None
