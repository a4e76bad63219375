"""How an image of any size becomes the square that a model takes."""

from __future__ import annotations

from typing import Literal, NamedTuple

ResizeMode = Literal["shortest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]


class Resizing(NamedTuple):
    """How images are resized that are judged; crops to learn from are resized as open_clip's are, all bicubic."""

    mode: ResizeMode = "shortest"
    """``shortest`` fits the shorter side and cuts out the middle; ``squash`` fits both sides, whatever their ratio."""
    interpolation: Interpolation = "bicubic"
    """With antialiasing either way."""
