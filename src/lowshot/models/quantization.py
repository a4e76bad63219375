"""The frozen weights in 4 bits: NF4 with double quantisation, as QLoRA (arXiv 2305.14314, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import MissingExtraError


def quantize_nf4(model: nn.Module, names: Sequence[str]) -> None:
    """Replace linear layers by bitsandbytes' 4-bit ones, in place.

    Attributes that were set on a layer (such as a LoRA-XS basis of its full-precision weight) move along.

    Args:
        model: The model, in full precision, on the device it will stay on.
        names: Dotted names of the linear layers.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes
    except ImportError:
        raise MissingExtraError("bitsandbytes", "quantize", "a base in 4 bits") from None
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        quantized = bitsandbytes.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=torch.bfloat16 if linear.weight.is_cuda else torch.float32,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        quantized.weight = bitsandbytes.nn.Params4bit(
            linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
        )
        quantized.bias = linear.bias
        # On processors with AVX512-BF16 bitsandbytes repacks the weight in the first forward pass without gradients;
        # training then fails and dequantising silently returns garbage.
        quantized.support_avx512bf16_for_cpu = False
        quantized = quantized.to(linear.weight.device)
        if hasattr(linear, "lora_xs_basis"):
            quantized.lora_xs_basis = linear.lora_xs_basis
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, quantized)
