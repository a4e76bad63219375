"""From images to probabilities, in batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.crops import central_crops
from ..data.task import Images
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
    """
    parts = []
    starts = range(0, len(images), BATCH_SIZE)
    for start in track(starts, what="evaluating", total=len(starts)):
        batch = [images[i] for i in range(start, min(start + BATCH_SIZE, len(images)))]
        parts.append(torch.softmax(learner.logits(central_crops(batch, image_size)).float(), dim=-1).cpu().numpy())
    return np.concatenate(parts)
