"""How much each part of an image spoke for a class, from one pass through the vision tower and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError, UnknownNameError
from ..models import Attended, Backbone


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Where a classifier looked."""

    class_name: str
    """The class that is asked about."""
    probability: float
    """Of that class."""
    crop: NDArray[np.uint8]
    """The crop that the model saw, ``(S, S, 3)``."""
    relevance: NDArray[np.float32]
    """How much each place of the crop spoke for the class, ``(h, w)``: shares that sum to 1, zeros where none did."""

    def places_for(self, share: float) -> int:
        """The fewest places that make up a share of the relevance together, in (0, 1]; 0 where none spoke for it."""
        if not self.relevance.any():
            return 0
        gathered = np.cumsum(np.sort(self.relevance, axis=None)[::-1], dtype=np.float64)
        return min(int(np.searchsorted(gathered, share - 1e-6)) + 1, gathered.size)


def explain(
    backbone: Backbone,
    crop: Tensor,
    scores: Callable[[Tensor], Tensor],
    classes: Sequence[str],
    class_name: str | None = None,
    *,
    temperature: float = 1.0,
    each: Callable[[Tensor], Tensor] | None = None,
) -> Explanation:
    """How much each place of an image spoke for a class.

    What is asked for is the log-odds of the class, ``y = s_c - log sum_{j != c} exp(s_j)``: what all classes have in
    common speaks for none. Where images have several labels it is the score itself, ``y = s_c``.

    In a transformer read at one token it is the rule of Chefer et al. (arXiv 2103.15679, equations 5 and 6). The
    attention A of a block, weighted with its gradient, is averaged over heads,
    ``B = mean_h max(0, dy/dA_h * A_h)``, and carried through the blocks, ``R <- R + B R`` from the identity on; the
    row of the token that is read says what each patch gave it.

    Where the embedding is the mean of a feature map F it is Grad-CAM (arXiv 1610.02391, equations 1 and 2):
    ``max(0, sum_k a_k F_k)`` with ``a_k`` the mean of ``dy/dF_k`` over all places.

    Args:
        backbone: With whatever is adapted in it.
        crop: What it sees, ``(3, S, S)`` in [0, 1].
        scores: Unit embeddings ``(1, D)`` to class scores ``(1, C)``; gradients go through it.
        classes: The names of the C classes.
        class_name: The one that is asked about; the most probable if not given.
        temperature: What scores are divided by before they are probabilities.
        each: Where images have several labels: scores ``(C,)`` to the probability of each class by itself.

    Raises:
        InputError: Neither rule is made for such a model.
        UnknownNameError: There is no such class.
    """
    _refuse_others(backbone)
    if class_name is not None and class_name not in classes:
        raise UnknownNameError("class", class_name, classes)
    with torch.enable_grad(), backbone.watched() as watched:
        embedding = backbone.encode_images(crop[None].clone().requires_grad_())
        read = embedding.detach().requires_grad_()
        [row] = scores(read).float()
        likely = torch.softmax(row.detach() / temperature, 0) if each is None else each(row.detach())
        column = int(likely.argmax()) if class_name is None else classes.index(class_name)
        others = torch.cat([row[:column], row[column + 1 :]])
        asked = row[column] - torch.logsumexp(others, 0) if each is None else row[column]
        [to_embedding] = torch.autograd.grad(asked, [read])
        tensors = [block.mixed for block in watched.blocks] or watched.feature_maps
        gradients = torch.autograd.grad(embedding, tensors, to_embedding)
    if patches := backbone.patches:
        places = _carried(watched.blocks, gradients)[:, patches].mean(0)  # of each of its views, where it has several
        places = places.reshape(math.isqrt(len(places)), -1)
    else:
        features, gradient = tensors[0][0].detach(), gradients[0][0]
        places = (gradient.mean((1, 2), keepdim=True) * features).sum(0).clamp(min=0).float()
    total = places.sum()
    return Explanation(
        class_name=classes[column],
        probability=likely[column].item(),
        crop=(255 * crop).round().byte().permute(1, 2, 0).cpu().numpy(),
        relevance=(places / total if total > 0 else places).cpu().numpy(),
    )


def _refuse_others(backbone: Backbone) -> None:
    if backbone.beside:
        raise InputError(
            f"explain looks into one model, but {backbone.identity.id} has {backbone.beside[0].identity.id} beside it"
        )
    if backbone.patches is None and not backbone.has_feature_map:
        raise InputError(
            "explain follows attention to the one token that an image is read at, and "
            f"{backbone.identity.id} has none; expected a CLIP, a ViT, a DINO or photos"
        )


def _carried(blocks: Sequence[Attended], gradients: Sequence[Tensor]) -> Tensor:
    """Share of each token in the first, which is read, ``(N, L)``; that one is all that the last block looks from."""
    count, _, length, _ = blocks[0].key.shape
    carried = torch.eye(length, device=blocks[0].key.device).expand(count, -1, -1)
    for block, to_mixed in zip(blocks, gradients, strict=True):
        query, key, value = (each.detach().float() for each in (block.query, block.key, block.value))
        attention = torch.softmax(block.scale * query @ key.mT, -1)
        spoken = (attention * (to_mixed.float() @ value.mT)).clamp(min=0).mean(1)  # (N, Q, L)
        carried = (carried if len(spoken[0]) == length else carried[:, :1]) + spoken @ carried
    return carried[:, 0]
