"""lowshot: teach CLIP-like models your classes from a handful of images, with an adapter of a few kilobytes.

Torch is imported when a classifier is first asked for, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .errors import LowshotError
from .settings import Recipe
from .torchvision_guard import guard_transformers

if TYPE_CHECKING:
    from .classifier import FewShotClassifier
    from .data.task import Task

__version__ = "0.1.0"
__all__ = ["FewShotClassifier", "LowshotError", "Recipe", "Task", "__version__", "errors"]

guard_transformers()


def __getattr__(name: str) -> Any:
    if name == "FewShotClassifier":
        from .classifier import FewShotClassifier

        return FewShotClassifier
    if name == "Task":
        from .data.task import Task

        return Task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
