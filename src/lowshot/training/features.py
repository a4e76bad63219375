"""Methods on the backbone's frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..config import Recipe
from ..data.task import Examples
from ..models import Backbone, set_precision
from ..progress import Track
from .learner import TrainingOutcome


class ZeroShot:
    """CLIP as it is: the class whose prompt is nearest (arXiv 2103.00020, section 3.1.2)."""

    trainable_parameters = 0
    adapter_bytes = 0

    def __init__(self, backbone: Backbone, prompts: Sequence[str], recipe: Recipe) -> None:
        self.backbone = backbone
        linears = backbone.encoder_linears()
        set_precision(backbone.model, linears, quantize=recipe.model.quantize, precision=recipe.model.precision)
        with torch.no_grad():
            self.classes = backbone.encode_prompts(backbone.tokenize(prompts))

    def fit(self, examples: Examples, shots: int, track: Track) -> TrainingOutcome:  # noqa: ARG002
        """Nothing to learn."""
        return TrainingOutcome()

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Scaled cosine similarities ``(B, C)``."""
        return self.backbone.logits(self.backbone.encode_images(images), self.classes)

    def save(self, folder: Path) -> None:
        """Nothing to write: the class names in the record say it all."""

    def load(self, folder: Path) -> None:
        """Nothing to read."""
