"""How an image of any size becomes the square that a model takes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

ResizeMode = Literal["shortest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]


class Resizing(NamedTuple):
    """How images are resized that are judged; crops to learn from are resized as open_clip's are, all bicubic."""

    mode: ResizeMode = "shortest"
    """``shortest`` fits the shorter side and cuts out the middle; ``squash`` fits both sides, whatever their ratio."""
    interpolation: Interpolation = "bicubic"
    """With antialiasing either way."""

    @classmethod
    def of(cls, value: Any) -> Resizing:
        """From the list that a record has of it.

        Raises:
            ValueError: It is not such a list.
        """
        expected = [get_args(ResizeMode), get_args(Interpolation)]
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"resizing is {value!r}; expected two words")
        for word, words in zip(value, expected, strict=True):
            if word not in words:
                raise ValueError(f"resizing has {word!r}; expected {' or '.join(words)}")
        return cls(*value)

    def __str__(self) -> str:
        """In words."""
        sides = "both sides fitted" if self.mode == "squash" else "the shorter side fitted and the middle cut out"
        return f"{sides}, {self.interpolation}"
