"""The prompts of the classes in training: what of them is the same in every step is done once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..adapters import rows_are_alike
from ..models import Backbone, Partway
from ..models.classes import Owners, encode_classes, encode_each, encode_with_lengths, tokenized

__all__ = ["ClassPrompts", "Owners", "encode_classes", "encode_each", "encode_with_lengths", "tokenized"]

_AT_ONCE = 64  # prompts that go through frozen blocks in one pass, of which nothing is kept


class ClassPrompts:
    """Prompts that start where training begins.

    Below the first block with anything trained in it nothing changes from step to step, so what enters that block is
    computed once and kept. From there on the tokens that all prompts begin with ("a photo of a") go through a causal
    tower once for all of them, where no dropout tells one prompt from another.

    Args:
        backbone: With its adapter.
        tokens: The prompts of all classes, ``(P, L)`` each.
        shared_prefix: Whether to put what they begin with through the tower once where that is exact.
        partway: Whether to keep what enters the first trained block.
    """

    def __init__(
        self, backbone: Backbone, tokens: Mapping[str, Tensor], *, shared_prefix: bool = True, partway: bool = True
    ) -> None:
        self._backbone = backbone
        self._tokens = dict(tokens)
        self._kept: Partway | None = None
        self.stage = backbone.first_trained_stage("text") if partway else 0
        """Where they start; see ``Partway``."""
        may_share = shared_prefix and len(self) > 1 and rows_are_alike(backbone.model.text_model.encoder)
        self.shared = backbone.shared_tokens(self._tokens) if may_share else 0
        """Tokens that go through the tower once for all."""

    def __len__(self) -> int:
        return len(self._tokens["input_ids"])

    @property
    def kept_bytes(self) -> int:
        """What is kept from step to step."""
        return 0 if self.stage == 0 else len(self) * self.begin(range(1)).hidden.nbytes

    def of(self, chunk: range) -> Partway:
        """Some of the prompts at ``stage``; what has to be computed for it is kept for the next time."""
        if self.stage == 0:
            return self.begin(chunk)
        if self._kept is None:
            parts = [range(start, min(start + _AT_ONCE, len(self))) for start in range(0, len(self), _AT_ONCE)]
            self._kept = Partway.joined([self.begin(part) for part in parts])
        return self._kept.rows(chunk.start, chunk.stop)

    def begin(self, chunk: range) -> Partway:
        """Some of the prompts at ``stage``, computed anew."""
        tokens = {name: ids[chunk.start : chunk.stop] for name, ids in self._tokens.items()}
        if self.stage == 0:
            return self._backbone.embed_prompts(tokens, self.shared, checked=True)
        with torch.no_grad():
            return self._backbone.advance(self._backbone.embed_prompts(tokens, self.shared, checked=True), self.stage)
