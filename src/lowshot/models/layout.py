"""Where the parts of a tower lie in a model, by the names that its authors gave them."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn


class Parts(NamedTuple):
    """The parts of a transformer block, whatever its class calls them. The linear layers may be adapted ones."""

    attention_norm: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    head_width: int
    """Numbers of one attention head."""
    scale: float
    """Factor of the products of queries and keys."""
    mlp_norm: nn.Module
    first: nn.Module
    """The MLP's linear layer from the tower's width to the inner one."""
    activation: Callable[[Tensor], Tensor]
    second: nn.Module
    gate: nn.Module | None = None
    """A linear layer beside the first: the activation is its, and is multiplied by what the first gives (SwiGLU, arXiv
    2002.05202)."""
    attention_gain: nn.Module | None = None
    """Multiplies what attention adds by a factor for each channel (LayerScale, arXiv 2103.17239)."""
    mlp_gain: nn.Module | None = None
    """The same of what the MLP adds."""


@dataclasses.dataclass(frozen=True)
class BlockLayout:
    """Dotted names of the parts inside a block, by the fields of ``Parts``; see there. Empty: there is no such part."""

    attention_norm: str
    query: str
    key: str
    value: str
    out: str
    head_width: str
    scale: str
    mlp_norm: str
    first: str
    activation: str
    second: str
    norms_first: bool
    """Whether a norm stands before its attention or MLP, x + f(norm(x)), or behind the sum, norm(x + f(x))."""
    order: tuple[str, str, str]
    """The fields of query, key and value in the order in which the model holds them."""
    gate: str = ""
    attention_gain: str = ""
    mlp_gain: str = ""

    def parts(self, block: Any) -> Parts:
        """The parts of a block as they are now."""
        fields, read = self._reader
        return Parts(**dict(zip(fields, read(block), strict=True)))

    @functools.cached_property
    def _reader(self) -> tuple[list[str], Callable[[Any], tuple[Any, ...]]]:
        """The fields of the parts that there are, and what reads them from a block."""
        fields = [field for field in Parts._fields if getattr(self, field)]
        return fields, operator.attrgetter(*(getattr(self, field) for field in fields))

    def linear(self, projection: str) -> str:
        """Name of a linear layer inside a block, by the name that recipes have for it: ``q``, ``fc1``, ..."""
        fields = {"q": "query", "k": "key", "v": "value", "o": "out", "fc1": "first", "fc2": "second"}
        name: str = getattr(self, fields[projection])
        return name


CLIP_BLOCK = BlockLayout(
    attention_norm="layer_norm1",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.out_proj",
    head_width="self_attn.head_dim",
    scale="self_attn.scale",
    mlp_norm="layer_norm2",
    first="mlp.fc1",
    activation="mlp.activation_fn",
    second="mlp.fc2",
    norms_first=True,
    order=("key", "value", "query"),
)
"""transformers' blocks of CLIP, SigLIP and those that were written after them."""

BERT_BLOCK = BlockLayout(
    attention_norm="attention.output.LayerNorm",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    head_width="attention.self.attention_head_size",
    scale="attention.self.scaling",
    mlp_norm="output.LayerNorm",
    first="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    second="output.dense",
    norms_first=False,
    order=("query", "key", "value"),
)
"""transformers' blocks of BERT (arXiv 1810.04805) and RoBERTa."""

VIT_BLOCK = BlockLayout(
    attention_norm="layernorm_before",
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    out="attention.o_proj",
    head_width="attention.head_dim",
    scale="attention.scaling",
    mlp_norm="layernorm_after",
    first="mlp.fc1",
    activation="mlp.activation_fn",
    second="mlp.fc2",
    norms_first=True,
    order=("query", "key", "value"),
)
"""transformers' blocks of ViT."""

DINOV2_BLOCK = dataclasses.replace(
    VIT_BLOCK, attention_norm="norm1", mlp_norm="norm2", attention_gain="layer_scale1", mlp_gain="layer_scale2"
)
"""transformers' blocks of DINOv2, with registers and without."""

DINOV3_BLOCK = dataclasses.replace(
    DINOV2_BLOCK,
    first="mlp.up_proj",
    activation="mlp.act_fn",
    second="mlp.down_proj",
    order=("key", "value", "query"),
)
"""transformers' blocks of DINOv3."""


def gated(block: BlockLayout) -> BlockLayout:
    """The blocks of the largest DINOs, whose MLP has a gate: there ``fc1`` is the layer beside it."""
    return dataclasses.replace(
        block, first="mlp.up_proj", gate="mlp.gate_proj", activation="mlp.act_fn", second="mlp.down_proj"
    )


@dataclasses.dataclass(frozen=True)
class TowerLayout:
    """Dotted names of a tower's parts inside a model."""

    blocks: str
    """The list of its transformer blocks."""
    block: BlockLayout
    after: tuple[str, ...]
    """The modules behind the blocks, in the order they are run; the last one gives the embedding."""
