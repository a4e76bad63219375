"""Trained tokens among those that enter a tower: before the words of a prompt, behind the patches of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

START_DEVIATION = 0.02
"""Of the normal distribution that trained tokens start from: CoOp's (arXiv 2109.01134, section 4.1)."""


class TextContext(nn.Module):
    """The token embedding of a text tower, with N rows of M trained vectors of its own beside the vocabulary's.

    A negative id stands for a trained vector: -1 to -M are the first row's, then come the next row's. Ids of the
    vocabulary, and which of them is the largest, stay what they are.

    Args:
        embedding: The model's own, which stays frozen.
        rows: N, the prompts that each prompt becomes.
        tokens: M, the trained tokens of each.
    """

    def __init__(self, embedding: nn.Embedding, rows: int, tokens: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.vectors = _started(rows, tokens, embedding.weight)
        """Trained, ``(N, M, W)``, float32; W is the tower's width."""

    @property
    def openings(self) -> tuple[tuple[int, ...], ...]:
        """The ids of each row."""
        rows, tokens, _ = self.vectors.shape
        return tuple(tuple(-1 - row * tokens - token for token in range(tokens)) for row in range(rows))

    @torch.no_grad()
    def begin_with(self, words: Sequence[Sequence[int]]) -> None:
        """Let each row start as the embeddings of words.

        Args:
            words: Of each row its ids in the vocabulary. Those beyond M are left out; where there are fewer, the other
                vectors keep their random start.
        """
        for vectors, ids in zip(self.vectors, words, strict=True):
            known = ids[: len(vectors)]
            vectors[: len(known)] = self.embedding(torch.tensor(known, device=self.vectors.device, dtype=torch.int64))

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors ``(P, L, W)`` of ids ``(P, L)``, of the type that the tower computes in."""
        embedded = cast(Tensor, self.embedding(ids.clamp(min=0)))
        trained = self.vectors.flatten(0, 1).to(embedded.dtype)
        return torch.where(ids[..., None] < 0, trained[(-1 - ids).clamp(min=0)], embedded)


class VisionContext(nn.Module):
    """M prompts of T trained tokens; each image is seen once with each of them.

    Args:
        embeddings: Makes an image into tokens; it stays what it is, but gives M rows for each image from now on.
        prompts: M.
        tokens: T.
        width: W, numbers of a token.
    """

    def __init__(self, embeddings: nn.Module, prompts: int, tokens: int, width: int) -> None:
        super().__init__()
        like = next(embeddings.parameters())
        self.vectors = _started(prompts, tokens, like.new_empty(0, width))
        """Trained, ``(M, T, W)``, float32."""
        embeddings.register_forward_hook(self._appended)

    def _appended(self, embeddings: nn.Module, inputs: Any, patches: Tensor) -> Tensor:  # noqa: ARG002 - a hook's
        return cast(Tensor, self(patches))

    def forward(self, patches: Tensor) -> Tensor:
        """Tokens ``(B, L, W)`` of images to ``(B * M, L + T, W)``, image after image."""
        images, prompts = len(patches), len(self.vectors)
        seen = patches[:, None].expand(-1, prompts, -1, -1)
        trained = self.vectors.to(patches.dtype)[None].expand(images, -1, -1, -1)
        return torch.cat([seen, trained], dim=2).flatten(0, 1)


def _started(rows: int, tokens: int, like: Tensor) -> nn.Parameter:
    """Vectors ``(rows, tokens, W)`` for a tensor ``(_, W)``, drawn on the CPU: the same on every device."""
    drawn = START_DEVIATION * torch.randn(rows, tokens, like.shape[1], device="cpu")
    return nn.Parameter(drawn.to(like.device))
