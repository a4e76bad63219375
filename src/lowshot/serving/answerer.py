"""The work of the one thread that owns the model: batches of rows, each by an adapter or by the backbone alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Prompts, long_prompts_named
from ..data.decoding import load_picture
from ..errors import LowshotError
from ..explaining import Explanation
from ..models.classes import embedded
from .bank import AdapterBank, Answer, batch_on
from .predictions import Prediction

_PROMPTS_AT_ONCE = 64
_MOST_CLASS_TABLES = 64


@dataclasses.dataclass(frozen=True)
class Query:
    """A question about one image."""

    adapter: str
    to_backbone: bool = False
    """Whether the backbone answers as it is, without what the adapter learnt."""
    explained: bool = False
    """Whether the answer is which parts of the image spoke for a class."""
    class_name: str | None = None
    """That class; the most probable one if not given."""


@dataclasses.dataclass(frozen=True, eq=False)
class BackboneAnswer:
    """The view that the backbone as it is has of an image, among the classes of an adapter."""

    embedding: NDArray[np.float32]
    """Unit embedding ``(D,)``."""
    zero_shot: Prediction | None
    """None where it has no text tower."""


Reply: TypeAlias = Answer | BackboneAnswer | Explanation


class Answerer:
    """A bank, and its backbone as it is.

    Args:
        bank: The adapters.
    """

    def __init__(self, bank: AdapterBank) -> None:
        self.bank = bank

        @functools.lru_cache(_MOST_CLASS_TABLES)
        def class_embeddings(prompts: Prompts) -> Tensor:
            return embedded(bank.backbone, prompts, _PROMPTS_AT_ONCE)[0]

        self._class_embeddings = class_embeddings

    def crop(self, content: bytes) -> Tensor:
        """The part of an image's file that the model sees: ``(3, S, S)``, float32 in [0, 1]. For any thread.

        Raises:
            DataError: It is no image, damaged, too large or too narrow.
        """
        crop = self.bank.crop(load_picture(content))
        return crop.contiguous().clone()  # a view would keep all of a long panorama

    def replies(self, crops: Sequence[Tensor], queries: Sequence[Query]) -> list[Reply]:
        """The reply to each query about its crop, or the error that befell it alone."""
        by_row: dict[int, Reply] = {
            row: self.bank.explain(crops[row], query.adapter, query.class_name)
            for row, query in enumerate(queries)
            if query.explained
        }
        for to_backbone in (False, True):
            rows = [
                row for row, query in enumerate(queries) if not query.explained and query.to_backbone == to_backbone
            ]
            if rows:
                pixels, names = [crops[row] for row in rows], [queries[row].adapter for row in rows]
                replies: Sequence[Reply]
                if to_backbone:
                    replies = self.backbone_answers(pixels, names)
                else:
                    replies = self.bank.answers_to_crops(torch.stack(pixels), names)
                by_row.update(zip(rows, replies, strict=True))
        return [by_row[row] for row in range(len(queries))]

    @torch.no_grad()
    def backbone_answers(self, crops: Sequence[Tensor], names: Sequence[str]) -> list[BackboneAnswer | LowshotError]:
        """The backbone's own answer about each crop, among the classes of the adapter that is named for it."""
        backbone = self.bank.backbone
        by_name: dict[str, tuple[tuple[str, ...], Tensor] | LowshotError] = {}
        for name in dict.fromkeys(names):  # class names and their unit embeddings by the text tower as it is
            try:
                record = self.bank.describe(name).record
                with long_prompts_named(record.classes, record.prompts):
                    by_name[name] = record.classes, self._class_embeddings(record.prompts)
            except LowshotError as error:
                by_name[name] = error
        tables = [by_name[name] for name in names]
        embeddings = backbone.encode_images(batch_on(backbone.device, crops))
        scores = [
            torch.softmax(backbone.logits(embedding[None], table[1]).float(), dim=-1)[0]
            for embedding, table in zip(embeddings, tables, strict=True)
            if not isinstance(table, LowshotError)
        ]
        rows = [*embeddings.float(), *scores]
        ends = np.cumsum([len(row) for row in rows])
        numbers = np.split(torch.cat(rows).cpu().numpy(), ends[:-1])  # the device is waited for once
        probabilities = iter(numbers[len(names) :])
        answers: list[BackboneAnswer | LowshotError] = []
        for name, table, embedding in zip(names, tables, numbers[: len(names)], strict=True):
            if isinstance(table, LowshotError):
                answers.append(table)
            else:
                prediction = Prediction(name, table[0], next(probabilities), embedding)
                answers.append(BackboneAnswer(embedding, prediction if backbone.has_text else None))
        return answers
