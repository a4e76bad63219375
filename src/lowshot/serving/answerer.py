"""What the one thread does that owns the model: batches of rows, each by an adapter or by the backbone alone."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import long_prompts_named, recorded_prompts
from ..data.crops import central_crops
from ..data.images import decode_image
from ..errors import LowshotError
from ..models.classes import encode_classes, tokenized
from ..settings import Recipe
from .bank import AdapterBank, Answer, batch_on
from .predictions import Prediction

_PROMPTS_AT_ONCE = 64
_TABLES_KEPT = 64
_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True)
class Query:
    """What is asked about one image."""

    adapter: str
    to_backbone: bool = False
    """By the backbone as it is, without what the adapter learnt."""


@dataclasses.dataclass(frozen=True, eq=False)
class BackboneAnswer:
    """What the backbone as it is makes of an image, among the classes of an adapter."""

    embedding: NDArray[np.float32]
    """Unit embedding ``(D,)``."""
    zero_shot: Prediction


Reply: TypeAlias = Answer | BackboneAnswer


class Answerer:
    """A bank, and its backbone as it is.

    Args:
        bank: The adapters.
    """

    def __init__(self, bank: AdapterBank) -> None:
        self.bank = bank
        self._classes: dict[tuple[object, ...], Tensor] = {}  # least recently used first

    def crop(self, content: bytes) -> Tensor:
        """What the model sees of an image's file: ``(3, S, S)``, float32 in [0, 1]. For any thread.

        Raises:
            DataError: It is no image, damaged, too large or too narrow.
        """
        crop = central_crops([decode_image(content)], self.bank.backbone.image_size)[0]
        return crop.contiguous().clone()  # a view would keep all of a long panorama

    def answers(self, crops: Sequence[Tensor], asked: Sequence[Query]) -> list[Reply]:
        """Of each crop what was asked, or the error that befell it alone."""
        found: dict[int, Reply] = {}
        for to_backbone in (False, True):
            rows = [row for row, each in enumerate(asked) if each.to_backbone == to_backbone]
            if rows:
                pixels, names = [crops[row] for row in rows], [asked[row].adapter for row in rows]
                answers: Sequence[Reply]
                if to_backbone:
                    answers = self._plain_answers(pixels, names)
                else:
                    answers = self.bank.answers_to_crops(torch.stack(pixels), names)
                found.update(zip(rows, answers, strict=True))
        return [found[row] for row in range(len(asked))]

    @torch.no_grad()
    def _plain_answers(self, crops: Sequence[Tensor], names: Sequence[str]) -> list[BackboneAnswer | LowshotError]:
        backbone, by_name = self.bank.backbone, {name: self._class_table(name) for name in dict.fromkeys(names)}
        tables = [by_name[name] for name in names]
        embeddings = backbone.encode_images(batch_on(backbone.device, crops))
        scores = [
            torch.softmax(backbone.logits(embedding[None], table[1]).float(), dim=-1)[0]
            for embedding, table in zip(embeddings, tables, strict=True)
            if not isinstance(table, LowshotError)
        ]
        read = _read_together([*embeddings.float(), *scores])
        vectors, probabilities = read[: len(names)], iter(read[len(names) :])
        return [
            table
            if isinstance(table, LowshotError)
            else BackboneAnswer(vector, Prediction(name, table[0], next(probabilities)))
            for name, table, vector in zip(names, tables, vectors, strict=True)
        ]

    def _class_table(self, name: str) -> tuple[tuple[str, ...], Tensor] | LowshotError:
        """Class names and their unit embeddings ``(C, D)`` by the text tower as it is."""
        try:
            record = self.bank.describe(name).record
            prompts = recorded_prompts(record, Recipe.from_dict(record.recipe).data)
            key = tuple(map(tuple, prompts))
            with long_prompts_named(record.classes, prompts):
                return record.classes, _kept(self._classes, key, lambda: self._encoded(prompts), _TABLES_KEPT)
        except LowshotError as error:
            return error

    def _encoded(self, prompts: Sequence[str | Sequence[str]]) -> Tensor:
        tokens, owners = tokenized(self.bank.backbone, prompts)
        return encode_classes(self.bank.backbone, tokens, owners, _PROMPTS_AT_ONCE)


def _read_together(tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """Numbers ``(n,)`` of each, of any n; the device is waited for once."""
    ends = np.cumsum([len(tensor) for tensor in tensors])
    return np.split(torch.cat(list(tensors)).cpu().numpy(), ends[:-1])


def _kept(
    kept: dict[tuple[object, ...], _Value], key: tuple[object, ...], make: Callable[[], _Value], most: int
) -> _Value:
    """What is kept under a key, or made and kept now; those that were used longest ago go first."""
    value = kept.pop(key) if key in kept else make()
    kept[key] = value
    while len(kept) > most:
        kept.pop(next(iter(kept)))
    return value


class Neighbours:
    """Nearest pictures by the backbone's image embeddings, which are kept for the adapters asked about last."""

    def __init__(self, capacity_bytes: int = 64 << 20) -> None:
        self._capacity_bytes = capacity_bytes
        self._kept: collections.OrderedDict[tuple[str, object], NDArray[np.float32]] = collections.OrderedDict()

    def known(self, key: tuple[str, object]) -> NDArray[np.float32] | None:
        """Unit embeddings ``(N, D)`` of an adapter's pictures, if they are kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: tuple[str, object], embeddings: NDArray[np.float32]) -> None:
        """Keep them; those of adapters that were asked about longest ago go."""
        self._kept[key] = embeddings
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > self._capacity_bytes:
            self._kept.popitem(last=False)


def nearest(embedding: NDArray[np.float32], others: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
    """The most similar of unit embeddings ``(N, D)``: place and cosine, the most similar first."""
    similarities = others @ embedding
    order = np.argsort(-similarities, kind="stable")[:count]
    return [(int(place), float(similarities[place])) for place in order]
