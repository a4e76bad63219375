"""Vectors that images are compared with: one of each class, which its prompts give or a trained classifier holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from ..data.task import Examples
from ..models.classes import Owners
from ..progress import Track


class TextShape(NamedTuple):
    """The tokens that go through the text tower with each prompt."""

    config: Any
    """The tower's configuration."""
    own: int
    """Tokens that are a prompt's own."""
    shared: int
    """Tokens that all prompts begin with, which go through once for all."""


class StepVectors(Protocol):
    """P unit vectors as a step needs them: a few at a time, and with a graph where they are trained."""

    def __len__(self) -> int: ...

    def encode(self, chunk: range, *, anew: bool = False) -> Tensor:
        """Some of them, ``(N, D)``.

        Args:
            chunk: Which.
            anew: Whether to compute all of it, and to keep nothing of it for the next step.
        """

    @property
    def cached_bytes(self) -> int:
        """Bytes that are kept from step to step."""

    @property
    def text(self) -> TextShape | None:
        """The tokens of each in the text tower; None where that has no part in it."""


class ClassVectors(Protocol):
    """P vectors, of one or several of which each class is made.

    ``TokenizedPrompts`` are those of a model that reads class names. ``Classifier`` has a row for each class, for an
    image encoder that reads none.
    """

    @property
    def texts(self) -> tuple[str | Sequence[str], ...]:
        """Of each class its prompt, or its prompts: what it is called, whether or not they are read."""

    @property
    def owners(self) -> Owners:
        """The class of each vector."""

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """Parameters of theirs that are trained beside the adapter."""

    def __len__(self) -> int: ...

    def embeddings(self) -> Tensor:
        """Unit vectors ``(P, D)``."""

    def in_steps(self) -> StepVectors:
        """The same for the steps of a run."""

    def begin(self, examples: Examples, track: Track) -> None:
        """Take the values that training starts from, while the adapter is as it was added.

        Args:
            examples: What is learnt from.
            track: Shows progress.
        """

    def keep_share(self, share: float) -> None:
        """Keep this share of what training has changed of ``parameters``."""

    @property
    def nbytes(self) -> int:
        """Size of the file that ``save`` writes; 0 where it writes none."""

    def save(self, folder: Path) -> None:
        """Write what was trained of them into an existing folder."""

    def load(self, folder: Path) -> None:
        """Read it back, strictly.

        Raises:
            AdapterError: It is not what ``save`` writes for these classes.
        """
