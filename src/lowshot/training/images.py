"""The images of a run's steps: cropped anew in every step, or views of which what can be kept is kept."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from ..data.crops import PreparedCrops, prepare_crops, random_crops
from ..data.task import Examples
from ..models import Backbone, TowerState
from ..settings import TrainingConfig
from .ahead import CROPS_BYTES, ImagesAhead
from .passes import WORKSPACE
from .views import Views

_Crops = TypeVar("_Crops")
ImagesOf: TypeAlias = Callable[[int, Sequence[int]], Tensor | TowerState]
"""(number of a step, some of its rows) to what goes into the vision tower for them."""


class StepImages(Protocol):
    """Gives steps their images, within its ``with`` block."""

    def __call__(self, number: int, rows: Sequence[int], /) -> Tensor | TowerState:
        """The images of some rows of a step; see ``ImagesOf``."""

    def watching(self, order: Iterable[Sequence[int]], first: int) -> Iterable[Sequence[int]]:
        """The same batches; those from step ``first`` on may be prepared ahead of being asked for."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...


@dataclasses.dataclass
class ImagesWhenAsked(contextlib.AbstractContextManager[Any]):
    """Images that nobody prepares: each is made when a step asks for it.

    Args:
        images_of: Makes them.
    """

    images_of: ImagesOf

    def __call__(self, number: int, rows: Sequence[int], /) -> Tensor | TowerState:
        """See ``StepImages``."""
        return self.images_of(number, rows)

    def watching(self, order: Iterable[Sequence[int]], first: int) -> Iterable[Sequence[int]]:  # noqa: ARG002
        """See ``StepImages``."""
        return order

    def __exit__(self, *_: object) -> None:
        """Nothing is to be closed."""


def step_images(examples: Examples, backbone: Backbone, config: TrainingConfig, *, beside: bool) -> StepImages:
    """Images of the steps of a run on these examples.

    Args:
        examples: What is learnt from.
        backbone: Decides size, device, and how much of a view can be kept.
        config: How images are cropped, by which seed, and whether there are so many views of each.
        beside: Whether a device makes a batch's crops while it computes the one before.
    """
    device, size = backbone.device, backbone.image_size

    def cropped(views: Sequence[tuple[int, int]], crop: Callable[..., _Crops]) -> _Crops:
        keys = [(config.seed, view, row) for row, view in views]
        images = (examples.images[row] for row, _ in views)
        return crop(images, size, crop_minimum=config.crop_minimum, flip=config.flip, keys=keys, device=device)

    if config.views is not None:
        return ImagesWhenAsked(Views(backbone, lambda views: cropped(views, random_crops), config.views, config.seed))
    if device.type == "cpu":  # each step is a view of its own
        return ImagesWhenAsked(lambda step, rows: cropped([(row, step) for row in rows], random_crops))

    def prepared(step: int, rows: Sequence[int]) -> PreparedCrops:
        return cropped([(row, step) for row in rows], prepare_crops)

    return ImagesAhead(prepared, device, beside=beside)


def pixels_bytes(device: torch.device, size: int, batch_size: int, *, beside: bool) -> int:
    """Bytes of batches' pixels on a device: those that a step reads, those that come, and what these are made from.

    Args:
        device: Where they lie; a CPU keeps none.
        size: Side of the images, pixels.
        batch_size: Images of a step.
        beside: See ``step_images``.
    """
    if device.type == "cpu":
        return 0
    batches, workspace = (3, WORKSPACE.get(device.type, 0)) if beside else (2, 0)
    return batches * batch_size * 3 * size**2 * 4 + workspace + CROPS_BYTES
