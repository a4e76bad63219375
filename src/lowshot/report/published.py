"""Figures that others have published, to stand beside ours: each with its source and how it is known.

They are in ``published.csv``, a figure per line, accuracies and reading errors in percent as they were published.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
import io
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from ..records import RunRecord
from ..settings import SETTINGS, Decides, Recipe, preset_recipe
from ..wording.settings import settings_as_text
from .summary import Row

KINDS = {
    "quoted": "printed in a paper, by its authors or by others who quote them",
    "readme": "printed in a repository's readme",
    "digitised": "read off a figure; the reading error is known",
    "replication": "from somebody else's run of the published method",
    "log": "from a training log in a repository, one seed",
    "withdrawn": "claimed once, and taken back by its authors",
}
"""Kinds of figures with their meaning, the most exact first. Figures of two kinds are never merged into one."""

ELEVEN = (
    "imagenet",
    "sun397",
    "fgvc",
    "eurosat",
    "stanford_cars",
    "food101",
    "oxford_pets",
    "oxford_flowers",
    "caltech101",
    "dtd",
    "ucf101",
)
"""CoOp's data sets, which most papers after it have, by their names in the catalogue, in CLIP-LoRA's order."""

AVERAGES = {
    "average11": frozenset(ELEVEN),
    "average8": frozenset(ELEVEN) - {"imagenet", "sun397", "stanford_cars"},
}
"""Averages that were published: name in place of a data set -> the data sets they are over."""

_BACKBONES = {
    "clip-vit-base-patch16": "ViT-B/16",
    "clip-vit-base-patch32": "ViT-B/32",
    "clip-vit-large-patch14": "ViT-L/14",
}
_AUTHORS = "openai"


@dataclasses.dataclass(frozen=True)
class PublishedFigure:
    """One accuracy that somebody published."""

    method: str
    """As its source calls it."""
    backbone: str
    """Such as ``ViT-B/16``: always OpenAI's CLIP."""
    dataset: str
    """Name in the catalogue, or one of ``AVERAGES``."""
    shots: int
    """Images per class; 0 for zero-shot."""
    accuracy: float
    """Fraction in [0, 1]."""
    kind: str
    """One of ``KINDS``."""
    uncertainty: float | None
    """Reading error of a digitised figure, as a fraction; None where the figure was printed."""
    source: str
    """Where it stands; several places are parted by ``; ``."""


@functools.cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """All of them, in the order of the file. What several sources say alike is one figure that names them all."""
    text = (importlib.resources.files(__package__) / "published.csv").read_text(encoding="utf-8")
    sources: dict[PublishedFigure, list[str]] = {}
    for line in csv.DictReader(io.StringIO(text)):
        # The nearest number to a percentage: division of floats would make 72.4 % 0.7240000000000001.
        fractions = {name: float(Decimal(line[name]).scaleb(-2)) for name in ("accuracy", "uncertainty") if line[name]}
        values: dict[str, Any] = {**line, "shots": int(line["shots"]), "uncertainty": None, **fractions, "source": ""}
        sources.setdefault(PublishedFigure(**values), []).append(line["source"])
    return tuple(dataclasses.replace(figure, source="; ".join(places)) for figure, places in sources.items())


def published_beside(records: Sequence[RunRecord]) -> tuple[PublishedFigure, ...]:
    """The figures that stand beside these records: on the same backbone, and on the same data or all of its average.

    An average stands beside ours only where ours is over the very same data sets. Records of the built-in model, of
    other people's weights and of a half of the classes have nothing beside them.
    """
    tasks: dict[str, set[str]] = {}
    for record in records:
        if (backbone := backbone_of(record)) is not None:
            tasks.setdefault(backbone, set()).add(record.task)
    return tuple(
        figure
        for figure in published_figures()
        if figure.dataset in (here := tasks.get(figure.backbone, set())) or figure.dataset == published_average(here)
    )


def whole_of(task: str) -> str:
    """The data set that a task is a half of; other tasks are whole."""
    return task.removesuffix(" (base)")


def published_average(tasks: Collection[str]) -> str | None:
    """Name of the published average over exactly these data sets; None where nobody published one."""
    return next((name for name, datasets in AVERAGES.items() if datasets == set(tasks)), None)


def backbone_of(record: RunRecord) -> str | None:
    """The backbone's name in papers, such as ``ViT-B/16``; None for all but OpenAI's CLIP.

    It goes by the model's name: a copy in a folder of one's own counts if it has kept it.
    """
    *before, name = str(record.model.get("id", "")).rstrip("/").split("/")
    of_authors = before == [_AUTHORS] or len(before) != 1  # owner/name is another owner's model on the Hub
    return _BACKBONES.get(name) if of_authors else None


def same_method(figure: PublishedFigure, row: Row) -> bool:
    """Whether a published method is that of one of our rows: the same method, base and settings.

    Settings of the data and of how a result is computed make no difference, backbone and shots are not compared. A
    setting that a row's records do not have is younger than they are: it was as it is by default.
    """
    ours = _OURS.get(figure.method)
    if ours is None or (row.method, row.quantize) != (ours.method, ours.quantize):
        return False
    if row.is_zero_shot:
        return dict(row.settings).get("descriptions", "None") == "None"
    settings = _of_whole_steps({**settings_as_text(Recipe().to_dict()), **dict(row.settings)})
    expected = {**_published_settings(ours.method), **ours.settings}
    return all(settings[name] in values for name, values in expected.items())


class _Method(NamedTuple):
    """A published method as one of ours."""

    method: str
    quantize: str = "none"
    settings: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Where they differ from the preset ``paper``: values of which any will do."""


# What CLIP-QLoRA's logs are of, in every mode: PEFT's alpha/r, the text embedded once and never trained. Its optimiser
# keeps moments in 8 bits, but not for factors of fewer than 4,096 numbers, and those of rank 2 have no more than 1,536.
_LOGGED: Mapping[str, tuple[str, ...]] = {
    "encoder": ("vision",),
    "scaling": ("rank",),
    "optimizer": ("adamw", "paged-adamw-8bit"),
    "adam_epsilon": ("1e-05",),
}
# No settings are known of the claim, and the code changed while it stood: text trained and alpha/sqrt(r) when it was
# printed (921f2bf), neither three days later.
_CLAIMED: Mapping[str, tuple[str, ...]] = {
    **_LOGGED,
    "encoder": ("both", "vision"),
    "scaling": ("sqrt-rank", "rank"),
    "adam_epsilon": ("1e-08", "1e-05"),
}
_OURS = {
    "CLIP zero-shot": _Method("zero-shot"),
    "CLIP-LoRA": _Method("lora"),
    "CLIP-LoRA, re-run by CLIP-SVD's authors": _Method("lora"),
    "CLIP-LoRA, rank 2": _Method("lora"),
    "CLIP-LoRA, rank 8": _Method("lora", settings={"rank": ("8",)}),
    "LoRA in CLIP-QLoRA's code, batch 8x4, text not trained": _Method("lora", settings=_LOGGED),
    "CLIP-SVD": _Method("clip-svd"),
    "Tip-Adapter": _Method("tip-adapter"),
    "Tip-Adapter-F": _Method("tip-adapter-f"),
    "GDA": _Method("gda"),
    "ProKeR": _Method("proker"),
    "LP++": _Method("lp++"),
    "CLIP-Adapter": _Method("clip-adapter"),
    "TaskRes": _Method("task-res"),
    "linear probe": _Method("linear-probe"),
    "CLIP-QLoRA": _Method("lora", "nf4", _LOGGED),
    "CLIP-QLoRA, claim of July 2025": _Method("lora", "nf4", _CLAIMED),
    "CLIP-QLoRA, batch 32, text not trained": _Method("lora", "nf4", _LOGGED),
    "CLIP-QLoRA, batch 8x4, text not trained": _Method("lora", "nf4", _LOGGED),
    "QLoRA in CLIP-QLoRA's code, batch 8x4, text not trained": _Method("lora", "nf4", _LOGGED),
}


@functools.cache
def _published_settings(method: str) -> dict[str, tuple[str]]:
    """A method's published settings as text, each its one value, from the preset that has them."""
    recipe = preset_recipe("paper", method).to_dict()
    settings = _of_whole_steps(settings_as_text({section: recipe[section] for section in ("method", "training")}))
    return {name: (value,) for name, value in settings.items() if SETTINGS[name].decides is Decides.RESULT}


def _of_whole_steps(settings: Mapping[str, str]) -> dict[str, str]:
    """The same with a step's images as one batch: accumulated from parts they are the same step."""
    images = int(settings["batch_size"]) * int(settings["gradient_accumulation_steps"])
    return {**settings, "batch_size": str(images), "gradient_accumulation_steps": "1"}
