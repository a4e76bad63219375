"""The parts of one kind of model that others have not: around a tower's transformer blocks, and their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from ..settings import Tower
from .blocks import Rotary
from .layout import TowerLayout

TextAttention = Literal["causal", "masked", "padded"]


class Family(Protocol):
    """One kind of model. ``model`` is transformers' model of this kind throughout."""

    model_class: str
    """Name of transformers' class."""
    own_class: type[nn.Module] | None = None
    """lowshot's own class of a model that transformers has none of."""
    options: Mapping[str, Any] = {}
    """Arguments of its constructor beside the configuration."""
    has_text: bool = True
    """Whether there is a text tower. What is said of texts here is of no meaning where there is none."""
    vision: TowerLayout
    text: TowerLayout
    token_embedding: str
    """Dotted name of the text tower's embedding of token ids."""
    text_attention: TextAttention
    """Tokens that a text token sees: with ``causal`` itself and those before it, with ``masked`` all of its prompt, and
    with ``padded`` all places of the full context, as in training. Only there does padding count."""
    image_token: int | None
    """The token that an image's embedding is read at; None where it is read from all."""
    feature_map: str = ""
    """Dotted name of the module whose outputs ``(B, C, h, w)`` are averaged over all places to an embedding of C
    numbers; empty where there is no such thing."""
    reads_end_of_text: bool = False
    """Whether a prompt's embedding is read at its end-of-text token, which ``end_of_text`` says."""
    text_start: int
    """How many tokens every prompt begins with, before its words."""
    half: str
    """The type of half precision that models of this kind are computed in on a GPU.

    ``fp16`` has eight times as many steps between two powers of two as ``bf16``, which holds larger numbers: it is that
    of models whose authors compute in it.
    """

    def image_size(self, vision: Any) -> int:
        """Side of the square images in pixels, from the vision tower's configuration."""
        return int(vision.image_size)

    def context_length(self, text: Any) -> int:
        """Tokens of a prompt at most, from the text tower's configuration."""
        return int(text.max_position_embeddings)

    def end_of_text(self, text: Any, largest: int) -> int:  # noqa: ARG002 - what one family decides by
        """The id of the token that a prompt's embedding is read at, where it is its end-of-text token.

        Args:
            text: The text tower's configuration.
            largest: The largest id of the vocabulary.
        """
        return int(text.eos_token_id)

    def vision_layout(self, vision: Any) -> TowerLayout:  # noqa: ARG002 - what some families decide by
        """Where the parts of the vision tower are, from its configuration."""
        return self.vision

    def depth(self, vision: Any) -> int:
        """Transformer blocks of the vision tower, from its configuration; 0 where it is run as a whole."""
        return int(vision.num_hidden_layers)

    def inner_width(self, vision: Any) -> int:
        """Numbers of a token within an MLP of the vision tower."""
        return int(vision.intermediate_size)

    def image_settings(self, vision: Any) -> list[Any]:
        """Whatever else decides what an image encoder without text computes, beside its weights."""
        return [vision.image_size]

    def first_weight(self, model: Any) -> Tensor:
        """A weight that no quantisation replaces, and to which the patches are added: its type is computed in."""
        weight: Tensor = model.vision_model.embeddings.position_embedding.weight
        return weight

    def image_tokens(self, model: Any) -> int:
        """Tokens of one image."""
        return len(model.vision_model.embeddings.position_embedding.weight)

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels ``(B, 3, S, S)`` to what enters the first block, ``(B, L, D)``."""
        embedded: Tensor = model.vision_model.embeddings(pixels)
        return embedded

    def rotary(self, model: Any, tower: Tower) -> Rotary | None:  # noqa: ARG002 - what some families decide by
        """The rotation of queries and keys in a tower's blocks; None where there is none."""
        return None

    def run_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels to embeddings ``(B, E)`` by the model's own forward pass, which torch's exporter knows."""
        embedded: Tensor = model.get_image_features(pixel_values=pixels).pooler_output
        return embedded

    def finish_images(self, model: Any, hidden: Tensor) -> Tensor:
        """Embeddings ``(B, E)`` of what leaves the last block: ``(B, L, D)``, or ``(B, 1, D)`` of one token."""
        return _through(model, self.vision.after, hidden if self.image_token is None else hidden[:, 0])

    def embed_text(self, model: Any, ids: Tensor) -> Tensor:
        """Token ids ``(P, L)`` to what enters the first block, ``(P, L, D)``."""
        embedded: Tensor = model.text_model.embeddings(input_ids=ids)
        return embedded

    def finish_text(self, model: Any, hidden: Tensor) -> Tensor:
        """Embeddings ``(P, E)`` of the token that they are read at, ``(P, 1, D)``."""
        return _through(model, self.text.after, hidden[:, 0])

    def text_token(self, model: Any, ids: Tensor) -> Tensor:
        """The place of that token, ``(P,)``, in token ids ``(P, L)``."""


def _through(model: nn.Module, names: Sequence[str], hidden: Tensor) -> Tensor:
    """The output of the last of a model's modules when the input of the first is ``hidden``."""
    for name in names:
        hidden = model.get_submodule(name)(hidden)
    return hidden
