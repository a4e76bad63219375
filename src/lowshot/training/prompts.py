"""The prompts of the classes in training: what of them is the same in every step is done once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..adapters import rows_are_alike
from ..data.task import Examples
from ..errors import DataError
from ..models import Backbone, TowerState
from ..models.classes import Owners, encode_classes, encode_each, read_alike, tokenized
from ..progress import Track
from .class_vectors import TextShape

__all__ = ["ClassPrompts", "Owners", "TokenizedPrompts", "encode_classes", "tokenized"]

_AT_ONCE = 64  # prompts in one pass of which nothing is kept for a backward pass


@dataclasses.dataclass(frozen=True)
class TokenizedPrompts:
    """The prompts of all classes, as the text tower takes them.

    Args:
        backbone: Its tokenizer made the tokens, and its text tower encodes them.
        texts: Of each class its prompt, or its prompts.
        tokens: Ids and mask of the prompts of all classes, ``(P, L)`` each, class after class.
        owners: The class of each prompt.
    """

    backbone: Backbone
    texts: tuple[str | Sequence[str], ...]
    tokens: dict[str, Tensor]
    owners: Owners

    @classmethod
    def of(cls, backbone: Backbone, texts: Sequence[str | Sequence[str]]) -> TokenizedPrompts:
        """Tokenize the prompts of all classes.

        Raises:
            LongPromptError: A prompt is longer than the text tower takes.
        """
        return cls(backbone, tuple(texts), *tokenized(backbone, texts))

    parameters: ClassVar[Sequence[nn.Parameter]] = ()
    """Prompts have none: what is trained of them is in the text tower or at its input."""
    nbytes: ClassVar[int] = 0

    def __len__(self) -> int:
        """Prompts of all classes together, as often as they go through the text tower."""
        return len(self.tokens["input_ids"])

    def in_steps(self, *, shared_prefix: bool = True, partway: bool = True) -> ClassPrompts:
        """The same for the steps of a run; arguments are those of ``ClassPrompts``."""
        return ClassPrompts(self.backbone, self.tokens, shared_prefix=shared_prefix, partway=partway)

    def begin(self, examples: Examples, track: Track) -> None:
        """They are what they say."""

    def keep_share(self, share: float) -> None:
        """Nothing of them was trained."""

    def save(self, folder: Path) -> None:
        """The record has them."""

    def load(self, folder: Path) -> None:
        """They were given."""

    def embeddings(self) -> Tensor:
        """Unit embeddings ``(P, D)``. All prompts at once may need more memory than training ever does."""
        return encode_each(self.backbone, self.tokens, _AT_ONCE)


def refuse_alike(backbone: Backbone, class_names: Sequence[str], prompts: Sequence[str | Sequence[str]]) -> None:
    """Refuse classes that the text tower cannot tell apart.

    Args:
        backbone: Its tokenizer decides.
        class_names: C names.
        prompts: Of each class one, or several.

    Raises:
        DataError: Two classes have the same tokens.
        LongPromptError: A prompt is longer than the text tower takes.
    """
    pair = read_alike(backbone, prompts)
    if pair is None:
        return
    (one, other), texts = (
        pair,
        [text if isinstance(text, str) else text[0] for text in (prompts[label] for label in pair)],
    )
    raise DataError(
        f"classes {class_names[one]!r} and {class_names[other]!r} are one class to the text tower of "
        f"{backbone.identity.id}: its tokenizer reads {texts[0]!r} and {texts[1]!r} as the same tokens (it may know no "
        "capitals, no punctuation, or not this script); give them other names, or say what to call them: "
        "--class-names FILE"
    )


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
        self._cached: TowerState | None = None
        self.stage = backbone.first_trained_stage("text") if partway else 0
        """Where they start; see ``TowerState``."""
        may_share = shared_prefix and len(self) > 1 and rows_are_alike(backbone.blocks("text"))
        self.shared = backbone.shared_tokens(self._tokens) if may_share else 0
        """Tokens that go through the tower once for all."""

    def __len__(self) -> int:
        return len(self._tokens["input_ids"])

    def encode(self, chunk: range, *, anew: bool = False) -> Tensor:
        """Unit embeddings ``(N, D)`` of some of the prompts; see ``StepVectors``."""
        return self._backbone.finish(self.begin(chunk) if anew else self.of(chunk))

    @property
    def text(self) -> TextShape:
        """The tokens of each in the text tower."""
        own = self._tokens["input_ids"].shape[1] - self.shared
        return TextShape(self._backbone.model.config.text_config, own, self.shared)

    @property
    def cached_bytes(self) -> int:
        """Bytes that are kept from step to step."""
        return 0 if self.stage == 0 else len(self) * self.begin(range(1)).hidden.nbytes

    def of(self, chunk: range) -> TowerState:
        """Some of the prompts at ``stage``; what has to be computed for it is kept for the next time."""
        if self.stage == 0:
            return self.begin(chunk)
        if self._cached is None:
            parts = (range(len(self))[start : start + _AT_ONCE] for start in range(0, len(self), _AT_ONCE))
            self._cached = TowerState.joined([self.begin(part) for part in parts])
        return self._cached.rows(chunk.start, chunk.stop)

    def begin(self, chunk: range) -> TowerState:
        """Some of the prompts at ``stage``, computed anew."""
        tokens = {name: ids[chunk.start : chunk.stop] for name, ids in self._tokens.items()}
        if self.stage == 0:
            return self._backbone.embed_prompts(tokens, self.shared, checked=True)
        with torch.no_grad():
            return self._backbone.advance(self._backbone.embed_prompts(tokens, self.shared, checked=True), self.stage)
