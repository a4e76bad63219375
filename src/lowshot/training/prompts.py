"""The prompts of the classes: from texts to class embeddings, and what of it is the same in every training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..adapters import rows_are_alike
from ..models import Backbone, Partway

_AT_ONCE = 64  # prompts that go through frozen blocks in one pass, of which nothing is kept


@dataclasses.dataclass(frozen=True)
class Owners:
    """Which class each prompt belongs to.

    Args:
        index: The class of each, ``(P,)``: from 0 to C - 1 without a gap, those of a class next to each other.
        classes: C; a number of its own, because asking a device for it would mean waiting for it.
    """

    index: Tensor
    classes: int

    def averaged(self, prompts: Tensor) -> Tensor:
        """Class embeddings ``(C, D)`` of the prompts' unit embeddings, ``(P, D)``.

        That of a class is the mean of its prompts', brought to length 1 (arXiv 2103.00020, section 3.1.4). Where each
        class has one prompt it is the prompt's, to the last bit.
        """
        if len(prompts) == self.classes:
            return prompts
        sums = prompts.new_zeros(self.classes, prompts.shape[1]).index_add(0, self.index, prompts)
        return functional.normalize(sums, dim=-1)  # a mean and a sum have the same direction


def tokenized(backbone: Backbone, prompts: Sequence[str | Sequence[str]]) -> tuple[dict[str, Tensor], Owners]:
    """Tokens of the prompts of all classes.

    Args:
        backbone: Whose tokenizer it is.
        prompts: For each of C classes its prompt, or its prompts: one or more. P of them together.

    Returns:
        Token ids and mask, ``(P, L)`` each, class after class; and the class of each prompt.

    Raises:
        LongPromptError: A prompt is longer than the text tower takes.
    """
    of_class = [[said] if isinstance(said, str) else list(said) for said in prompts]
    assert all(of_class), "a class without a prompt"
    owners = [index for index, said in enumerate(of_class) for _ in said]
    tokens = backbone.tokenize([prompt for said in of_class for prompt in said])
    return tokens, Owners(torch.tensor(owners, device=backbone.device), len(of_class))


def encode_classes(backbone: Backbone, tokens: Mapping[str, Tensor], owners: Owners, at_once: int) -> Tensor:
    """Class embeddings ``(C, D)`` of tokenised prompts.

    Args:
        backbone: Its text tower encodes them.
        tokens: Of P prompts, ``(P, L)`` each.
        owners: The class of each prompt.
        at_once: Prompts in one pass.
    """
    starts = range(0, len(owners.index), at_once)
    chunks = [{name: ids[start : start + at_once] for name, ids in tokens.items()} for start in starts]
    return owners.averaged(torch.cat([backbone.encode_prompts(chunk) for chunk in chunks]))


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
            return self._backbone.embed_prompts(tokens, self.shared)
        with torch.no_grad():
            return self._backbone.advance(self._backbone.embed_prompts(tokens, self.shared), self.stage)
