"""Methods on the backbone's frozen features."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..config import Recipe
from ..data.task import Examples
from ..errors import InputError
from ..models import Backbone, set_precision
from ..progress import Track
from .learner import TrainingOutcome
from .prompts import encode_classes, tokenized


class ZeroShot:
    """CLIP as it is: the class whose prompt, or mean of prompts, is nearest (arXiv 2103.00020, section 3.1.2)."""

    trainable_parameters = 0
    adapter_bytes = 0
    frozen_images = True

    def __init__(self, backbone: Backbone, prompts: Sequence[str | Sequence[str]], recipe: Recipe) -> None:
        self.backbone = backbone
        self.recipe = recipe
        linears = backbone.encoder_linears()
        set_precision(backbone.model, linears, quantize=recipe.model.quantize, precision=recipe.model.precision)
        self.classes = _encoded(backbone, prompts)

    def fit(
        self,
        examples: Examples,  # noqa: ARG002
        shots: int,  # noqa: ARG002
        track: Track,  # noqa: ARG002
        checkpoint: Path | None = None,
        contents: Sequence[str] = (),  # noqa: ARG002
    ) -> TrainingOutcome:
        """Nothing to learn.

        Raises:
            InputError: There is a state of training, which is not of this.
        """
        if checkpoint is not None and checkpoint.exists():
            raise InputError(f"training state {checkpoint} is of another run: zero-shot trains nothing; remove it")
        return TrainingOutcome()

    def with_prompts(self, prompts: Sequence[str | Sequence[str]]) -> ZeroShot:
        """The same towers, judging other classes."""
        other = copy.copy(self)
        other.classes = _encoded(self.backbone, prompts)
        return other

    def judging(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to prepare."""
        return contextlib.nullcontext()

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Scaled cosine similarities ``(B, C)``."""
        return self.backbone.logits(embeddings.to(self.classes.device), self.classes)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Scaled cosine similarities ``(B, C)``."""
        return self.logits_of(self.backbone.encode_images(images))

    def save(self, folder: Path) -> None:
        """Nothing to write: the prompts in the record say it all."""

    def load(self, folder: Path) -> None:
        """Nothing to read."""


@torch.no_grad()
def _encoded(backbone: Backbone, prompts: Sequence[str | Sequence[str]]) -> Tensor:
    """Class embeddings ``(C, D)``."""
    tokens, owners = tokenized(backbone, prompts)
    return encode_classes(backbone, tokens, owners, owners.classes)
