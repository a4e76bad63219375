"""Images that are in a data set twice, or nearly so, in two classes or in two splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data import Pixels, Task, bad_images_explained
from ..data.ahead import image_content
from ..evaluation import embeddings_of
from ..models import load_backbone
from ..progress import Track, silent
from ..settings import Recipe
from ..threads import cpu_threads
from ..torch_state import own_torch_state
from ..training import create_learner
from .naming import file_of

NEAR = 0.75
"""Least cosine of the embeddings of two near copies, as a share of the way from the usual one of two images to 1."""
ALIKE = 0.85
"""Least correlation of the light of two near copies, on a grid of 16 x 16."""
_SIDE = 16
_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class Copy:
    """Two images that show the same, or nearly so."""

    first: str
    """Its file, or its identity."""
    second: str
    classes: tuple[str, str]
    splits: tuple[str, str]
    is_exact: bool
    """Whether they have the same pixels."""
    correlation: float
    """Of their light."""


@own_torch_state()
def copied_images(task: Task, recipe: Recipe, *, track: Track = silent) -> list[Copy]:
    """Find the images that are in two classes or in two splits, exact copies first, then the most alike.

    Near copies are smaller, cut a little, lighter or saved anew. Their embeddings have a cosine of ``m + 0.75 (1 - m)``
    or more, m the median over pairs of images, and their light is spread alike. Mirrored and turned ones are not found.

    Args:
        task: All of its splits are looked at.
        recipe: Its model tells what is near.
        track: Shows progress.

    Raises:
        DataError: An image cannot be read.
        InputError: The model cannot be used.
    """
    splits = task.splits()
    places = [(split, row) for split, examples in splits.items() for row in range(len(examples))]
    with cpu_threads(recipe.engine.threads), bad_images_explained(recipe.data.on_bad_image):
        backbone = load_backbone(recipe.model.loaded, recipe.model.device)
        prompts = tuple((name,) for name in task.class_names)
        learner = create_learner(backbone, prompts, recipe)
        parts = [embeddings_of(learner, each.images, track=track) for each in splits.values() if len(each)]
    copies = []
    for pair in near_pairs(np.concatenate(parts)):
        (split, row), (other_split, other_row) = (places[number] for number in pair)
        here, there = splits[split], splits[other_split]
        classes = task.class_names[here.labels[row]], task.class_names[there.labels[other_row]]
        if split == other_split and classes[0] == classes[1]:
            continue
        correlation = correlation_of(here.images[row], there.images[other_row])
        if correlation < ALIKE:
            continue
        copies.append(
            Copy(
                first=str(file_of(here.images, row) or here.identities[row]),
                second=str(file_of(there.images, other_row) or there.identities[other_row]),
                classes=classes,
                splits=(split, other_split),
                is_exact=image_content(here.images, row) == image_content(there.images, other_row),
                correlation=correlation,
            )
        )
    return sorted(copies, key=lambda copy: (not copy.is_exact, -copy.correlation))


def near_pairs(embeddings: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs of images whose embeddings ``(N, D)`` are as near as those of copies, the first before the second."""
    some = embeddings[:: max(1, len(embeddings) // _AT_ONCE)]
    if len(some) < 2:
        return
    usual = float(np.median((some @ some.T)[np.triu_indices(len(some), 1)]))
    least = usual + NEAR * (1 - usual)
    for start in range(0, len(embeddings), _AT_ONCE):
        cosines = embeddings[start : start + _AT_ONCE] @ embeddings.T
        for row, other in np.argwhere(cosines >= least).tolist():
            if start + row < other:
                yield start + row, other


def correlation_of(one: Pixels, other: Pixels) -> float:
    """Of the light of two images on a grid of 16 x 16, from -1 to 1; of two even images 1."""
    grids = []
    for pixels in (one, other):
        grid = np.asarray(
            Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=float
        )
        grids.append((grid - grid.mean()).ravel())
    lengths = [float(np.linalg.norm(grid)) for grid in grids]
    if min(lengths) < 1e-6:
        return float(max(lengths) < 1e-6)
    return float(grids[0] @ grids[1] / (lengths[0] * lengths[1]))
