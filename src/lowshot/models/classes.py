"""From the prompts of the classes to class embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import Backbone


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
        prompts: For each of C classes its prompt, or its prompts: one or more. P of them together, as many times as
            the backbone has ``openings``.

    Returns:
        Token ids and mask, ``(P, L)`` each, class after class; and the class of each prompt.

    Raises:
        LongPromptError: A prompt is longer than the text tower takes.
    """
    of_class = [[own] if isinstance(own, str) else list(own) for own in prompts]
    assert all(of_class), "a class without a prompt"
    each = max(1, len(backbone.openings))
    owners = [index for index, own in enumerate(of_class) for _ in range(each * len(own))]
    tokens = backbone.tokenize([prompt for own in of_class for prompt in own])
    return tokens, Owners(torch.tensor(owners, device=backbone.device), len(of_class))


def embedded(
    backbone: Backbone, prompts: Sequence[str | Sequence[str]], at_once: int | None = None
) -> tuple[Tensor, Tensor]:
    """Class embeddings ``(C, D)``, and the lengths ``(C,)`` that the tower's own have; see ``encode_with_lengths``.

    Both are zero where there is no text tower: prompts then say nothing for or against a class.

    Args:
        backbone: Its text tower encodes them, if it has one.
        prompts: As for ``tokenized``.
        at_once: Prompts in one pass; as many as there are classes if not given.

    Raises:
        LongPromptError: A prompt is longer than the text tower takes.
    """
    if not backbone.has_text:
        count, device = len(prompts), backbone.device
        return torch.zeros(count, backbone.embedding_size, device=device), torch.zeros(count, device=device)
    tokens, owners = tokenized(backbone, prompts)
    classes, lengths = encode_with_lengths(backbone, tokens, owners, at_once or owners.classes)
    return backbone.among_images(classes), lengths


def read_alike(backbone: Backbone, prompts: Sequence[str | Sequence[str]]) -> tuple[int, int] | None:
    """Two of the classes whose prompts are the same tokens, if there are such: nothing tells their embeddings apart.

    A tokenizer may read all letters in lower case, pass over punctuation, or have one token for all it does not know.

    Args:
        backbone: Whose tokenizer it is.
        prompts: As for ``tokenized``.

    Raises:
        LongPromptError: A prompt is longer than the text tower takes.
    """
    if not backbone.has_text:
        return None
    tokens, owners = tokenized(backbone, prompts)
    of_class: list[set[tuple[int, ...]]] = [set() for _ in range(owners.classes)]
    for owner, ids in zip(owners.index.tolist(), tokens["input_ids"].tolist(), strict=True):
        of_class[owner].add(tuple(ids))
    first: dict[frozenset[tuple[int, ...]], int] = {}
    for label, own in enumerate(map(frozenset, of_class)):
        if first.setdefault(own, label) != label:
            return first[own], label
    return None


def encode_classes(backbone: Backbone, tokens: Mapping[str, Tensor], owners: Owners, at_once: int) -> Tensor:
    """Class embeddings ``(C, D)`` of tokenised prompts.

    Args:
        backbone: Its text tower encodes them.
        tokens: Of P prompts, ``(P, L)`` each.
        owners: The class of each prompt.
        at_once: Prompts in one pass.
    """
    return owners.averaged(encode_each(backbone, tokens, at_once))


def encode_each(backbone: Backbone, tokens: Mapping[str, Tensor], at_once: int) -> Tensor:
    """Unit embeddings ``(P, D)`` of tokenised prompts, so many in one pass."""
    return torch.cat([backbone.encode_prompts(chunk) for chunk in _chunks(tokens, at_once)])


def encode_with_lengths(
    backbone: Backbone, tokens: Mapping[str, Tensor], owners: Owners, at_once: int
) -> tuple[Tensor, Tensor]:
    """As ``encode_classes``, with the lengths ``(C,)`` that the tower's own embeddings have: the mean over a class."""
    raw = torch.cat([backbone.raw_prompts(chunk) for chunk in _chunks(tokens, at_once)])
    classes = owners.averaged(functional.normalize(raw, dim=-1))
    sums = classes.new_zeros(owners.classes).index_add(0, owners.index, raw.norm(dim=-1))
    # Not bincount, which makes a device wait to know how many there are.
    counts = torch.zeros_like(sums).index_add(0, owners.index, torch.ones_like(owners.index, dtype=sums.dtype))
    return classes, sums / counts


def _chunks(tokens: Mapping[str, Tensor], at_once: int) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(tokens["input_ids"]), at_once):
        yield {name: ids[start : start + at_once] for name, ids in tokens.items()}
