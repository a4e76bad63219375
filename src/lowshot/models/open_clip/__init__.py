"""Checkpoints of open_clip and of OpenAI's package, read without either package."""

from .checkpoint import Checkpoint, Pixels, checkpoint_in, named_checkpoint, naming, tensors_in
from .configuration import MOST_LAYERS
from .published import Published, distinct, published, version
from .weights import refuse_others

__all__ = [
    "MOST_LAYERS",
    "Checkpoint",
    "Pixels",
    "Published",
    "checkpoint_in",
    "distinct",
    "named_checkpoint",
    "naming",
    "published",
    "refuse_others",
    "tensors_in",
    "version",
]
