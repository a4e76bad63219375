"""A model's towers as far as their structure tells, by which adapters and quantisation find their layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import InputError
from ..settings import Tower
from .families import FAMILIES
from .family import Family
from .layout import TowerLayout

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclasses.dataclass
class Towers:
    """A model as far as its structure tells: enough to say where adapters go and what they cost, without weights.

    Adapters and quantisation change ``model`` in place; names stay valid; ``encoder_linears`` and
    ``quantized_linears`` are asked before that.

    Args:
        model: The transformers model; frozen and put into evaluation mode here.
    """

    model: PreTrainedModel

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        """Parameters of the model as it was loaded, before any adapter or quantisation."""
        self.use_trained_tokens(openings=())

    def use_trained_tokens(
        self, *, openings: Sequence[Sequence[int]], image_prompts: int | None = None, image_prompt_tokens: int = 0
    ) -> None:
        """Count on tokens that an adapter in ``model`` trains at the towers' inputs.

        Args:
            openings: Ids that stand before the words of every prompt. Each prompt is tokenised once with each of the
                openings, which are equally long.
            image_prompts: M where every image is seen M times, once with each of M prompts of trained tokens.
            image_prompt_tokens: Tokens of each of those prompts.
        """
        self.openings = tuple(map(tuple, openings))
        self.image_prompts = image_prompts
        self.image_prompt_tokens = image_prompt_tokens

    @property
    def family(self) -> Family:
        """The kind of model it is; of no interest outside this package."""
        return FAMILIES[self.model.config.model_type]

    @property
    def has_text(self) -> bool:
        """Whether there is a text tower, without which a class is known by its images alone."""
        return self.family.has_text

    @property
    def half(self) -> str:
        """The type of half precision of such models, ``fp16`` or ``bf16``; see ``resolve_precision``."""
        return self.family.half

    @property
    def device(self) -> torch.device:
        """Where the model is; ``meta`` for a structure without weights."""
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type the model computes in, also where most of its weights are stored as integers of 4 or 8 bits."""
        return self.family.first_weight(self.model).dtype

    @property
    def image_size(self) -> int:
        """Side of the square images the vision tower takes, pixels."""
        return self.family.image_size(self.vision_config)

    @property
    def vision_config(self) -> Any:
        """The vision tower's configuration: a part of the model's, or all of it where there is no text tower."""
        return self.model.config.vision_config if self.has_text else self.model.config

    @property
    def image_tokens(self) -> int:
        """Tokens that the vision tower has of one image at once, those of a prompt included."""
        return self.family.image_tokens(self.model) + self.image_prompt_tokens

    @property
    def patches(self) -> slice | None:
        """Which of the tokens of an image are its patches, row by row of a square.

        None where the embedding is not read at one token that sees them.
        """
        if self.family.image_token is None or not self.depths["vision"]:
            return None
        count = (self.image_size // int(self.vision_config.patch_size)) ** 2
        tokens = self.family.image_tokens(self.model)
        return slice(tokens - count, tokens)  # trained tokens come behind them

    @property
    def has_feature_map(self) -> bool:
        """Whether an image's embedding is the mean of a feature map, see ``watched``."""
        return bool(self.family.feature_map)

    @property
    def inner_width(self) -> int:
        """Numbers of a token within an MLP of the vision tower."""
        return self.family.inner_width(self.vision_config)

    @property
    def embedding_size(self) -> int:
        """Numbers of an embedding."""
        if not self.has_text:
            return int(self.vision_config.hidden_size)
        last = self.model.get_submodule(self.family.text.after[-1])
        assert isinstance(last, nn.Linear)
        return last.out_features

    @property
    def context_length(self) -> int:
        """Tokens the text tower takes at most."""
        return self.family.context_length(self.model.config.text_config)

    @property
    def padding(self) -> dict[str, Any]:
        """Arguments of the tokenizer: padding to the longest prompt if that is exact, else to the full context."""
        if self.family.text_attention == "padded":
            return {"padding": "max_length", "max_length": self.context_length, "return_attention_mask": False}
        return {"padding": True, "return_attention_mask": True}

    @property
    def depths(self) -> dict[Tower, int]:
        """Number of layers of each tower that there is."""
        layers: dict[Tower, int] = {"vision": self.family.depth(self.vision_config)}
        return {**layers, "text": self.model.config.text_config.num_hidden_layers} if self.has_text else layers

    def without_weights(self) -> nn.Module:
        """The same model as it was before it had weights: on whatever device torch makes tensors on now."""
        model: nn.Module = type(self.model)(self.model.config, **self.family.options).eval()
        return model

    def layout(self, tower: Tower) -> TowerLayout:
        """Where a tower's parts lie in ``model``."""
        return self.family.text if tower == "text" else self.family.vision_layout(self.vision_config)

    def blocks(self, tower: Tower) -> nn.ModuleList:
        """A tower's transformer blocks."""
        blocks = self.model.get_submodule(self.layout(tower).blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def token_embedding(self) -> str:
        """Dotted name of the module that makes the text tower's token ids into vectors."""
        return self.family.token_embedding

    def layer_name(self, tower: Tower, layer: int) -> str:
        """Dotted name of one transformer block inside ``model``, such as ``text_model.encoder.layers.3``."""
        return f"{self.layout(tower).blocks}.{layer}"

    def module_name(self, tower: Tower, layer: int, projection: str) -> str:
        """Dotted name of one linear layer inside ``model``.

        Args:
            tower: Which tower.
            layer: Number of the transformer block, from 0 at the input.
            projection: ``q``, ``k``, ``v`` or ``o`` of the attention, ``fc1`` or ``fc2`` of the MLP.
        """
        return f"{self.layer_name(tower, layer)}.{self.layout(tower).block.linear(projection)}"

    def tower_modules(self, tower: Tower) -> tuple[str, ...]:
        """Names of the modules at the top of ``model`` that belong to a tower, in the order they are run.

        What is in neither tower's list, such as the logit scale, belongs to both. Without a text tower all is the
        vision tower.
        """
        if not self.has_text:
            return tuple(name for name, _ in self.model.named_children()) if tower == "vision" else ()
        layout = self.layout(tower)
        return tuple(dict.fromkeys(name.partition(".")[0] for name in (layout.blocks, *layout.after)))

    def encoder_linears(self) -> list[str]:
        """Dotted names of all linear layers inside both towers' transformer blocks."""
        blocks = [self.layout(tower).blocks for tower, depth in self.depths.items() if depth]
        linears = (name for name, module in self.model.named_modules() if isinstance(module, nn.Linear))
        return [name for name in linears if any(is_in(name, within) for within in blocks)]

    def quantized_linears(self, *, projection: bool) -> list[str]:
        """Dotted names of the linear layers that quantisation replaces.

        Args:
            projection: Whether the one from the vision tower to its embedding is among them.

        Raises:
            InputError: The model has none.
        """
        if not projection:
            return self.encoder_linears()
        last = ("", *self.layout("vision").after)[-1]  # the model itself where there is nothing behind the blocks
        if not isinstance(self.model.get_submodule(last), nn.Linear):
            kind = self.model.config.model_type
            raise InputError(f"quantize-projection does not fit: a {kind} has no projection after its vision tower")
        return [*self.encoder_linears(), last]


def is_in(parameter: str, module: str) -> bool:
    """Whether a parameter or module is one of a module's, by their dotted names."""
    return parameter.startswith(f"{module}.")
