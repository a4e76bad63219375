"""Published models that can be named with ``--model``: their size, their licence, and how they do without training.

They are in ``catalogue.csv``. The accuracies are those of open_clip's own table, ``docs/openclip_results.csv`` of
mlfoundations/open_clip at commit 89fb801, in percent.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
import io

FIGURES_FROM = "https://github.com/mlfoundations/open_clip/blob/89fb801/docs/openclip_results.csv"
"""Source of every accuracy here."""

_BYTES = {"fp32": 4, "half": 2}


@dataclasses.dataclass(frozen=True)
class CatalogueModel:
    """One model as it is published."""

    model: str
    """The argument of ``--model``."""
    open_clip: str
    """Its name and its weights' tag in open_clip, by which the figures are found."""
    parameters: int
    """Of both towers, to the nearest ten thousand."""
    image_side: int
    """Pixels."""
    licence: str
    """Of the weights; empty where no source was at hand."""
    licence_from: str
    imagenet: float
    """Zero-shot accuracy on ImageNet, percent."""
    mean_of_38: float
    """Zero-shot accuracy over open_clip's 38 data sets, percent."""

    @property
    def weights_bytes(self) -> dict[str, int]:
        """Memory of the frozen weights, in float32, as on a CPU, and in half precision, as on a GPU."""
        return {precision: size * self.parameters for precision, size in _BYTES.items()}


@functools.cache
def models_to_begin_with() -> tuple[CatalogueModel, ...]:
    """All of them, the smaller first, and among those of one size the better first."""
    text = importlib.resources.files(__package__).joinpath("catalogue.csv").read_text(encoding="utf-8")
    models = [
        CatalogueModel(
            model=row["model"],
            open_clip=row["open_clip"],
            parameters=round(float(row["parameters_millions"]) * 1e6),
            image_side=int(row["image_side"]),
            licence=row["licence"],
            licence_from=row["licence_from"],
            imagenet=float(row["imagenet"]),
            mean_of_38=float(row["mean_of_38"]),
        )
        for row in csv.DictReader(io.StringIO(text))
    ]
    return tuple(sorted(models, key=lambda each: (each.parameters // 10**7, -each.mean_of_38)))
