"""From the image embeddings of a batch to predictions, each row's over the classes of its own adapter."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..belonging import Belonging
from ..heads import Text
from ..models import Backbone
from .predictions import Prediction
from .residents import Resident

_SMALL_TABLE = 1 << 16
"""Numbers of a table up to which calling takes longer than computing: 128 classes of 512."""


@torch.no_grad()
def predictions(backbone: Backbone, embeddings: Tensor, residents: Sequence[Resident]) -> list[Prediction]:
    """The prediction of each row at its adapter's temperature; the number of classes may differ from row to row.

    Small tables of equal size go through one product together, large ones and heads by themselves. Nothing is copied to
    the device, and it is waited for once, when the answer of all rows is read.

    Args:
        backbone: Has the scale of cosines.
        embeddings: Unit embeddings ``(N, D)``.
        residents: The adapter of each row.
    """
    rows_of: dict[object, list[int]] = collections.defaultdict(list)
    for row, resident in enumerate(residents):
        table = resident.classes
        is_small = table.embeddings.numel() <= _SMALL_TABLE
        alone = resident.head or (None if is_small else table)
        rows_of[alone or (len(table.names), resident.likelihoods is None)].append(row)
    order = [row for rows in rows_of.values() for row in rows]
    # Put together from views and from what is on the device: an index or a list of numbers would be a copy to it.
    each = embeddings.unbind()
    embeddings = torch.stack([each[row] for row in order])
    temperatures = torch.stack([residents[row].temperature for row in order])[:, None]
    parts, start = [], 0
    for rows in rows_of.values():
        end = start + len(rows)
        some = [residents[row] for row in rows]
        scores = class_scores(backbone, embeddings[start:end], some).float()
        parts.append(_normalised(scores, some, temperatures[start:end]).flatten())
        start = end
    belonging = _Belongings(backbone, each, residents)
    flat = torch.cat([*parts, embeddings.float().flatten(), *belonging.scores]).cpu().numpy()  # one copy for all rows
    ends = np.cumsum([len(residents[row].classes.names) for row in order])
    *tables, rest = np.split(flat, ends)
    vectors, of_belonging = np.split(rest, [embeddings.numel()])
    told = belonging.told(of_belonging)
    by_row = {}
    for row, probabilities, vector in zip(order, tables, vectors.reshape(len(order), -1), strict=True):
        resident, (p_value, is_none) = residents[row], told.get(row, (None, None))
        names, likelihoods = resident.classes.names, resident.likelihoods
        labels = None if likelihoods is None else likelihoods.labels(names, probabilities)
        by_row[row] = Prediction(resident.name, names, probabilities, vector, p_value, is_none, labels)
    return [by_row[row] for row in range(len(residents))]


def _normalised(scores: Tensor, residents: Sequence[Resident], temperatures: Tensor) -> Tensor:
    """Probabilities of scores ``(n, C)``, of adapters that are all of images of one label or all of several."""
    likelihoods = [resident.likelihoods for resident in residents if resident.likelihoods is not None]
    if not likelihoods:
        return torch.softmax(scores / temperatures, dim=-1)
    slopes = torch.stack([each.slope for each in likelihoods])[:, None]
    return torch.sigmoid(slopes * scores + torch.stack([each.offsets for each in likelihoods]))


class _Belongings:
    """The scores of belonging of those rows whose adapter has learnt to tell images of none of its classes.

    Args:
        backbone: Whether it reads class prompts.
        embeddings: Each row's unit embedding ``(D,)``.
        residents: The adapter of each row.
    """

    def __init__(self, backbone: Backbone, embeddings: Sequence[Tensor], residents: Sequence[Resident]) -> None:
        self._rows_of: dict[Belonging, list[int]] = collections.defaultdict(list)
        for row, resident in enumerate(residents):
            if resident.belonging is not None:
                self._rows_of[resident.belonging].append(row)
        self.scores: list[Tensor] = []
        """Of each adapter's rows, where the backbone computes."""
        for belonging, rows in self._rows_of.items():
            images, resident = torch.stack([embeddings[row] for row in rows]), residents[rows[0]]
            is_compared = backbone.has_text or resident.head is None  # a head alone knows its classes without words
            cosines = images @ resident.classes.embeddings.to(images.dtype).T if is_compared else None
            self.scores.append(belonging.scores(images, cosines))

    def told(self, scores: NDArray[np.float32]) -> dict[int, tuple[float, bool]]:
        """The p-value of each such row, and whether it is of none of the classes, of all scores one after the other."""
        told, start = dict[int, tuple[float, bool]](), 0
        for belonging, rows in self._rows_of.items():
            p_values = belonging.held_out.p_values(scores[start : start + len(rows)]).tolist()
            told |= {row: (p, belonging.held_out.none_of_these(p)) for row, p in zip(rows, p_values, strict=True)}
            start += len(rows)
        return told


def class_scores(backbone: Backbone, embeddings: Tensor, residents: Sequence[Resident]) -> Tensor:
    """Class scores ``(n, C)`` of n rows: all by one head, or each by its own table of C classes."""
    tables, own = [resident.classes for resident in residents], residents[0].head
    if own is not None:
        table = tables[0]
        in_full = table.embeddings.to(embeddings.dtype)
        text = Text(in_full, backbone.logit_scale, table.lengths, has_words=backbone.has_text)
        return own.head.scores(embeddings, text)
    if all(table is tables[0] for table in tables):
        return backbone.logits(embeddings, tables[0].embeddings.to(embeddings.dtype))
    together = torch.stack([table.embeddings for table in tables]).to(embeddings.dtype)
    return backbone.logits(embeddings[:, None], together)[:, 0]
