"""Images or prompts that are part of the way through their tower: what is the same in every step is done once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..settings import Tower


@dataclasses.dataclass(frozen=True)
class TowerState:
    """N images or prompts at one stage of a tower.

    A tower of depth d has the stages 0 to d - 1, its blocks, and stage d, what follows them; at stage d + 1 nothing is
    left to do.

    Args:
        tower: Which.
        stage: What comes next.
        hidden: ``(N, L, D)``, what enters that stage. At stage d of a tower whose embedding is read at one token
            ``(N, 1, D)``, that token; at stage d + 1 ``(N, E)``, unit embeddings.
        token: ``(N,)``, the place in ``hidden`` of the token that the embedding is read at; None if it is read from
            all, or that token is all there is.
        shared: ``(1, P, D)``, the tokens before those in ``hidden`` if all N have these in common; ``(G, P, D)`` if
            each G-th of them has; else None.
        words: ``(N, L)``, which tokens in ``hidden`` are seen by the others, as padding is not; None if all are.
    """

    tower: Tower
    stage: int
    hidden: Tensor
    token: Tensor | None
    shared: Tensor | None = None
    words: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def rows(self, start: int, stop: int) -> TowerState:
        """Some of the N, without a copy."""
        token, words = (None if each is None else each[start:stop] for each in (self.token, self.words))
        return dataclasses.replace(self, hidden=self.hidden[start:stop], token=token, words=words)

    @property
    def nbytes(self) -> int:
        """Of the hidden states."""
        return self.hidden.nbytes + (0 if self.shared is None else self.shared.nbytes)

    @staticmethod
    def joined(parts: Sequence[TowerState]) -> TowerState:
        """All rows of several at the same stage, one after the other; what they share is that of the first."""
        hidden = torch.cat([part.hidden for part in parts])
        tokens = [part.token for part in parts if part.token is not None]
        words = [part.words for part in parts if part.words is not None]
        token, seen = (torch.cat(each) if each else None for each in (tokens, words))
        return dataclasses.replace(parts[0], hidden=hidden, token=token, words=seen)

    @staticmethod
    def evened(parts: Sequence[TowerState], rows: int) -> TowerState:
        """All rows of several at the same stage, each filled up to so many rows, and to the tokens of the longest.

        What fills up is zero, and seen by nobody else.
        """
        tokens = max(part.hidden.shape[1] for part in parts)
        joined = TowerState.joined([part._filled(rows, tokens) for part in parts])
        shared = [part.shared for part in parts if part.shared is not None]
        return dataclasses.replace(joined, shared=torch.cat(shared) if shared else None)

    def _filled(self, rows: int, tokens: int) -> TowerState:
        added, behind = rows - len(self), tokens - self.hidden.shape[1]
        if added == behind == 0:
            return self
        token, words = self.token, self.words
        if token is not None:
            token = filled(token, rows)
        if words is not None:  # a row in which nothing is seen would not be finite
            words = functional.pad(functional.pad(words, (0, behind), value=False), (0, 0, 0, added), value=True)
        hidden = self.hidden if behind == 0 else functional.pad(self.hidden, (0, 0, 0, behind))
        return dataclasses.replace(self, hidden=filled(hidden, rows), token=token, words=words)


def filled(rows: Tensor, count: int) -> Tensor:
    """Rows, and zeros behind them up to so many."""
    return functional.pad(rows, (0, 0) * (rows.ndim - 1) + (0, count - len(rows)))


def shared_tokens(ids: Tensor, token: Tensor) -> int:
    """How many tokens all prompts of a causal tower begin with, as far as those are before the token that is read.

    Args:
        ids: Token ids ``(P, L)``.
        token: ``(P,)``, the place of the token that the embedding is read at.
    """
    alike = int((ids == ids[0]).all(0).int().cumprod(0).sum())
    return min(alike, int(token.min()))
