"""From images to probabilities, in batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.crops import central_crops
from ..data.task import Images
from ..errors import RunError
from ..progress import Track, silent
from ..training.learner import Learner

BATCH_SIZE = 256
"""Images per forward pass. The last bits of a probability depend on it, so it is the same everywhere."""


def probabilities(learner: Learner, images: Images, image_size: int, *, track: Track = silent) -> NDArray[np.float32]:
    """Softmax of the learner's scores, ``(N, C)``.

    Args:
        learner: A fitted method.
        images: N images of any sizes; their central crops are judged.
        image_size: Side of the crops, pixels.
        track: Shows progress.

    Raises:
        RunError: A probability is not finite.
    """
    parts = []
    starts = range(0, len(images), BATCH_SIZE)
    for start in track(starts, what="evaluating", total=len(starts)):
        # One image at a time is decoded and cropped: a batch of photographs in full size would be gigabytes.
        rows = range(start, min(start + BATCH_SIZE, len(images)))
        crops = torch.cat([central_crops([images[i]], image_size) for i in rows])
        parts.append(torch.softmax(learner.logits(crops).float(), dim=-1).cpu().numpy())
    table = np.concatenate(parts)
    if not np.isfinite(table).all():
        raise RunError("the classifier gives probabilities that are not finite: its training has diverged")
    return table
