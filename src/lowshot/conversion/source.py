"""The adapter that is exported: opened strictly, with probes to compare by."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..classifier import FewShotClassifier, saved_adapter
from ..errors import RunError
from ..hub import adapter_folder
from ..models import Backbone, load_structure
from ..records import RunRecord
from ..settings import Recipe
from ..training.prompts import encode_classes, tokenized

PROBES = 8
"""Made-up images by which an export is compared with the classifier it was made from."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A saved adapter, and its classifier's answers to the probes."""

    folder: Path
    name: str
    """The folder's, or the repository's without its owner."""
    record: RunRecord
    recipe: Recipe
    """The record's, but for where the backbone is now; on the CPU."""
    classifier: FewShotClassifier
    """As it was loaded."""
    probes: NDArray[np.uint8]
    """Images ``(PROBES, S, S, 3)``; S is the side the backbone takes, so that nothing resizes them."""
    probabilities: NDArray[np.float32]
    """``(PROBES, C)``, as ``FewShotClassifier.predict_proba`` gives them."""

    @property
    def temperature(self) -> float:
        """Divisor of the class scores; 1 where it is not calibrated."""
        return self.record.temperature

    @property
    def quantize(self) -> str:
        """Precision of the base that the adapter was trained on."""
        return self.recipe.model.quantize

    @property
    def is_float32(self) -> bool:
        """True where the classifier itself is computed in float32, as every export is."""
        model = self.recipe.model
        return model.precision == "fp32" or (model.precision == "auto" and model.quantize == "none")  # on a CPU

    def refuse_difference(
        self, table: NDArray[np.float32], name: str, tolerance: float, expected: NDArray[np.float32] | None = None
    ) -> None:
        """Refuse probabilities ``(PROBES, C)`` of an export of this name that rounding alone cannot explain.

        Args:
            table: The export's.
            name: What the export is called in the message.
            tolerance: The largest difference that is accepted.
            expected: What they should be, if not the classifier's own.

        Raises:
            RunError: One is further away.
        """
        apart = largest_difference(table, self.probabilities if expected is None else expected)
        if not apart <= tolerance:
            raise RunError(
                f"the {name} of {self.folder} gives probabilities up to {apart:.1g} apart from the adapter's; "
                f"expected at most {tolerance:g}; nothing was written"
            )


def largest_difference(table: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Largest difference of a probability between two tables ``(N, C)``."""
    return float(np.abs(table - other).max())


def open_source(folder: str | os.PathLike[str], model: str | None = None) -> Source:
    """Load an adapter as strictly as for prediction, and ask it about the probes.

    Args:
        folder: What ``save_pretrained`` wrote, or a repository that ``push_to_hub`` wrote.
        model: Where its backbone is now, if not where it was.

    Raises:
        AdapterError: The folder is incomplete, damaged, or belongs to another backbone.
    """
    path = adapter_folder(folder)
    classifier = saved_adapter(path, model=model, device="cpu")
    model_config = classifier.recipe.model
    sides = [load_structure(name).image_size for name in (model_config.model, model_config.beside) if name]
    probes = probe_images(max(sides))
    return Source(
        folder=path,
        name=Path(folder).resolve().name,
        record=classifier.record_,
        recipe=classifier.recipe,
        classifier=classifier,
        probes=probes,
        probabilities=classifier.predict_proba(list(probes)),
    )


def probe_images(size: int) -> NDArray[np.uint8]:
    """Images ``(PROBES, size, size, 3)``, the same on every machine: waves of several lengths and noise upon them."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    images = []
    for number in range(PROBES):
        phases = generator.uniform(0, 2 * np.pi, 3)
        wave = np.cos(np.pi * (number + 1) * (rows * generator.normal() + columns)[..., None] + phases)
        noise = generator.uniform(-1, 1, wave.shape)
        images.append(np.clip(127.5 + 90 * wave + 6 * number * noise, 0, 255).astype(np.uint8))
    return np.stack(images)


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """Bytes ``(N, S, S, 3)`` to what towers take: ``(N, 3, S, S)``, float32 in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2).contiguous() / 255.0


@torch.no_grad()
def class_embeddings(backbone: Backbone, prompts: Sequence[Sequence[str]]) -> Tensor:
    """Unit embeddings ``(C, D)`` of classes that have these prompts."""
    tokens, owners = tokenized(backbone, prompts)
    return encode_classes(backbone, tokens, owners, owners.classes)


@torch.no_grad()
def class_probabilities(
    backbone: Backbone, prompts: Sequence[Sequence[str]], images: Tensor, temperature: float = 1.0
) -> NDArray[np.float32]:
    """Softmax over cosine similarities ``(N, C)`` of images ``(N, 3, S, S)`` in [0, 1] and classes."""
    scores = backbone.logits(backbone.encode_images(images), class_embeddings(backbone, prompts))
    probabilities: NDArray[np.float32] = torch.softmax(scores / temperature, dim=-1).numpy()
    return probabilities
