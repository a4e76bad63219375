"""The precision of the frozen weights: fewer bits in linear layers (bitsandbytes), half precision for the rest.

QLoRA (arXiv 2305.14314, section 3) stores the weights in 4 bits and computes in bfloat16. Layer norms, embeddings and
the residual stream have the compute type here too: left in float32, as the usual recipes leave them, they double the
activations, which outweigh the weights in a CLIP (HAZARDS of the published QLoRA code).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError, MissingExtraError
from ..methods import Quantization
from .frozen import FrozenLinears

if TYPE_CHECKING:
    from .towers import Towers

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(quantize: Quantization, precision: str, towers: Towers) -> str:
    """The precision that ``auto`` means here.

    On a Mac's GPU it is ``fp32``. On a CPU it is ``fp32``, or ``bf16`` where the base is quantised and the CPU
    multiplies it. On CUDA it is that of the published code: ``fp16`` for a CLIP and ``bf16`` for a SigLIP or MetaCLIP
    2, ``bf16`` where the base is quantised, and ``fp16`` where the device is too old for ``bf16``.

    Args:
        quantize: ``none``, ``nf4`` or ``int8``.
        precision: ``auto``, or one of the others, which mean themselves.
        towers: What will be computed, on its device.
    """
    if precision != "auto":
        return precision
    if towers.device.type != "cuda":
        return "bf16" if quantize != "none" and multiplies_bfloat16() else "fp32"
    half = towers.half if quantize == "none" else "bf16"
    return half if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 numbers, and torch a library that uses them.

    Without them such a product takes 8 to 60 times as long as one in float32. Most laptops have none.
    """
    instructions = ("avx512_bf16", "amx_bf16", "bf16")  # the last one is ARM's
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not tell
    has_library = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_library and any(capabilities.get(name, False) for name in instructions)


def resolve_adapter_precision(precision: str, device: torch.device) -> str:
    """The precision that ``auto`` means for an adapter's products: ``base`` on CUDA, where float32 has no fast ones.

    Args:
        precision: ``auto``, or ``fp32`` or ``base``, which mean themselves.
        device: Where it will be computed.
    """
    if precision != "auto":
        return precision
    return "base" if device.type == "cuda" else "fp32"


def set_precision(
    model: nn.Module, linears: Sequence[str], *, quantize: Quantization = "none", precision: str = "fp32"
) -> None:
    """Bring a float32 model to the precision its frozen weights will have, in place.

    Quantised weights are made from the float32 ones, not from their bfloat16 rounding.

    Args:
        model: The model, in float32, on the device it will stay on.
        linears: Dotted names of the linear layers that ``quantize`` replaces.
        quantize: ``none``, ``nf4`` or ``int8``.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        InputError: There is nothing to quantise, or the device has no such products.
        MissingExtraError: bitsandbytes is needed and not installed.
    """
    dtype = _TYPES[precision]
    if next(model.parameters()).device.type == "mps":
        _refuse_on_mac(quantize, precision)
    if quantize != "none" and not linears:
        raise InputError(
            f"quantize {quantize} does not fit: this model has no linear layers that could have fewer bits"
        )
    if quantize != "none":
        for name in linears:
            linear = model.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            model.set_submodule(name, _quantized(linear, quantize, dtype))
        # PEFT asks the model, not the layer, before it uses its own layers for quantised weights.
        setattr(model, {"nf4": "is_loaded_in_4bit", "int8": "is_loaded_in_8bit"}[quantize], True)
    if dtype != torch.float32:
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)


def _refuse_on_mac(quantize: Quantization, precision: str) -> None:
    if quantize != "none":
        raise InputError(
            f"quantize {quantize} does not fit: bitsandbytes has no products for the GPU of a Mac; leave it out, or "
            "say --device cpu (device='cpu' from Python)"
        )
    if precision == "bf16" and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise InputError("precision bf16 needs macOS 14 on the GPU of a Mac; use precision fp16 or fp32")


def round_to(model: nn.Module, linears: Sequence[str], quantize: Quantization) -> None:
    """Give linear layers the values that their weights have once quantised, still in float32, in place.

    A model that was trained on a quantised base is the same function on this one, up to the type it is computed in:
    this is what can be merged with an adapter and exported.
    """
    if quantize == "none":
        return
    dequantize = _bitsandbytes().functional
    for name in linears:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        quantized: Any = _quantized(linear, quantize, torch.float32)
        if quantize == "nf4":
            rounded = dequantize.dequantize_4bit(quantized.weight.data, quantized.weight.quant_state)
        else:
            rounded = dequantize.int8_vectorwise_dequant(quantized.weight.data, quantized.state.SCB)
        linear.weight.data = rounded.float().to(linear.weight.device)


def quiet_bitsandbytes() -> None:
    """Keep bitsandbytes from saying what nobody can act on; a level that the caller has given its logger stays.

    It logs on import that a faster kernel could be downloaded, also where PEFT imports it, and once per layer that it
    casts.
    """
    logger = logging.getLogger("bitsandbytes")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise MissingExtraError("bitsandbytes", "quantize", "a base in 4 or 8 bits") from None
    return bitsandbytes


def _quantized(linear: nn.Linear, quantize: Quantization, dtype: torch.dtype) -> nn.Module:
    layer: nn.Module = {"nf4": _in_four_bits, "int8": _in_eight_bits}[quantize](linear, dtype)
    return layer.requires_grad_(False).train(linear.training)


def _in_four_bits(linear: nn.Linear, dtype: torch.dtype) -> nn.Module:
    """NF4 with double quantisation (arXiv 2305.14314, section 3)."""
    bnb = _bitsandbytes().nn
    layer = bnb.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=dtype,
        quant_type="nf4",
        device="meta",
    )
    layer.weight = bnb.Params4bit(
        linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True, module=layer
    )
    layer.bias = linear.bias
    # On processors with AVX512-BF16 bitsandbytes repacks the weight in the first forward pass without gradients;
    # training then fails and dequantising silently returns garbage.
    layer.support_avx512bf16_for_cpu = False
    layer = layer.to(linear.weight.device)
    layer.weight.quant_state.dtype = dtype  # what it is dequantised to: float32 would cost a copy of twice the size
    return layer  # type: ignore[no-any-return]


def _in_eight_bits(linear: nn.Linear, dtype: torch.dtype) -> nn.Module:  # noqa: ARG001 - it computes in its input's type
    """Rows of the weight in 8 bits, each with a scale (LLM.int8()'s weights, arXiv 2208.07339)."""
    bnb = _bitsandbytes().nn
    layer = _linear_8bit()(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        has_fp16_weights=False,
        device="meta",
    )
    # It is quantised on its way from the CPU to wherever it goes, and only then.
    layer.weight = bnb.Int8Params(linear.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
    layer.bias = linear.bias
    layer = layer.to(linear.weight.device)
    layer.init_8bit_state()
    return layer  # type: ignore[no-any-return]


@functools.cache
def _linear_8bit() -> Any:
    """The layer of bitsandbytes without three of its traps.

    On a CPU its evaluation mode rounds activations to 8 bits too, which training mode does not; on CUDA both do, and
    columns of activations that stand out are looked for by the processor. Here weights alone have 8 bits, on every
    device: what is evaluated is what was trained. And a weight that was moved after it was quantised, as PEFT does to
    dequantise it for DoRA, has lost its scales: those that the layer already holds must stay.
    """

    class Linear8bit(_bitsandbytes().nn.Linear8bitLt):  # type: ignore[misc]
        def init_8bit_state(self) -> None:
            if self.weight.SCB is not None:
                super().init_8bit_state()
            self.weight.CB = None

        def row_scales(self) -> Tensor:
            """Factors of the rows' whole numbers, ``(O,)``."""
            scales: Tensor = self.state.SCB
            return scales * (1 / 127)  # as bitsandbytes rounds it

        def forward(self, inputs: Tensor) -> Tensor:
            bias = None if self.bias is None else self.bias.to(inputs.dtype)
            flat = FrozenLinears([self], "int8").with_bias(inputs.flatten(0, -2), bias)
            return flat.view(*inputs.shape[:-1], -1)

    return Linear8bit
