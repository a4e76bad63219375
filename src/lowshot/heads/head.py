"""The contract of a head: what is learnt from embeddings, and turns others of them into class scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from ..progress import Report
from .shots import Shots, Text

REDUCTION = 4
"""How many times narrower a bottleneck is than the embeddings."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a head that is trained by gradient descent is trained: settings of ``TrainingConfig`` by the same names."""

    learning_rate: float
    minimum_learning_rate: float
    weight_decay: float
    batch_size: int
    seed: int


Axes: TypeAlias = Mapping[str, str]
OtherClasses: TypeAlias = Literal["text", "head", "none"]


class Head(Protocol):
    """A frozen dataclass of the tensors that ``AXES`` names; they are all that is saved."""

    AXES: ClassVar[Axes]
    """Name -> axes: C classes, D numbers of an embedding, N images, V views of all images together, H of a bottleneck;
    empty for a single number. Numbers are float32, but those of ``labels``, which are classes."""
    TRAINED: ClassVar[tuple[str, ...]]
    """Those of them that an optimiser finds; the others are computed."""
    OTHER_CLASSES: ClassVar[OtherClasses]
    """Answer to classes without shots: their prompts alone, the head as it is, or nothing."""

    def __init__(self, **tensors: Tensor) -> None: ...

    @classmethod
    def fit(cls, shots: Shots, schedule: Schedule, report: Report) -> Fit:
        """Learn from shots; the same shots in the same order give the same head.

        Raises:
            InputError: There are more of them than the method can take.
            RunError: The training diverged.
        """

    def scores(self, images: Tensor, text: Text) -> Tensor:
        """Class scores ``(B, C)`` of unit embeddings ``(B, D)``; their softmax are the probabilities.

        Nothing is read back: single numbers stay tensors too, so that no batch waits for the device.
        """


class Computed(Head, Protocol):
    """A head that is computed from the shots: with its hyper-parameters known they decide all of it, in an instant."""

    @classmethod
    def again(cls, shots: Shots, chosen: Mapping[str, float]) -> Head:
        """The head of these shots with hyper-parameters that are known, as ``Fit.chosen`` has them."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """A head, and what it took."""

    head: Head
    steps: int = 0
    """Of an optimiser."""
    final_loss: float | None = None
    """Mean over the last tenth of the steps."""
    chosen: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Hyper-parameters that the shots, or how many there are, decided."""
    notes: tuple[str, ...] = ()
    """Notes for a person, one line each."""


def tensors_of(head: Head) -> dict[str, Tensor]:
    """Tensors of a head that are saved, by name."""
    return {name: getattr(head, name) for name in head.AXES}


def blank_tensors(kind: type[Head], *, classes: int, width: int, images: int, views: int = 1) -> dict[str, Tensor]:
    """Names, shapes and types of a head's tensors, on the meta device.

    Args:
        kind: The method.
        classes: C.
        width: D, numbers of an embedding.
        images: N; only some methods keep anything of each.
        views: Of each image.
    """
    sizes = {"C": classes, "D": width, "N": images, "V": images * views, "H": bottleneck(width)}
    return {
        name: torch.empty(
            [sizes[axis] for axis in axes],
            dtype=torch.int64 if name == "labels" else torch.float32,
            device="meta",
        )
        for name, axes in kind.AXES.items()
    }


def bottleneck(width: int) -> int:
    """Width of a bottleneck between embeddings of this width."""
    return max(1, width // REDUCTION)


def trained_numbers(kind: type[Head], tensors: Mapping[str, Tensor]) -> int:
    """How many of a head's numbers an optimiser finds."""
    return sum(tensors[name].numel() for name in kind.TRAINED)


def number(value: float, like: Tensor) -> Tensor:
    """A single number as a tensor that can be saved, beside another."""
    return torch.tensor(value, dtype=torch.float32, device=like.device)


def as_saved(tensor: Tensor) -> Tensor:
    """A tensor in the type it is saved in, so that what is saved is what is judged with."""
    return tensor.detach().to(torch.float32).contiguous()


def mean_of_last_tenth(losses: Sequence[float]) -> float | None:
    """The loss at the end of a training; None where there was none."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else None
